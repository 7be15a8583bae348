"""One Ray node inside a job: started closed to others, watched, drained, and ended by process id.

Several of them, of one user or of many, may share a machine: each has its own temporary folder, and a head its own
ports. `ray stop` is never used: it ends every Ray process that it sees.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock, Timeout

from srcgcnn.driver.preemption import DEADLINE, NODE_FOLDER, STOP_FILE
from srcgcnn.launch.ray_processes import RayProcesses
from srcgcnn.launch.reaper import end_watcher, start_watcher
from srcgcnn.launch.token import closed_ray
from srcgcnn.processes import kill

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from srcgcnn.launch.agent_ports import AgentPorts

MAX_TEMP_CHARACTERS = 39  # a unix socket's path has 107 bytes; Ray adds up to 68 to the temporary folder
OBJECT_STORE_BYTES = 100 * 2**20  # trials exchange a few numbers only; Ray's default is 30 % of the memory
ALIVE = "alive.lock"
ATTEMPTS = 10
ABANDONED_S = 60.0  # younger folders may be about to be locked
END_GRACE_S = 1.0  # processes with something to save were asked before; some sites kill 5 s after SIGTERM
START_TIMEOUT_S = 300.0
PATIENT_RAY = {  # Ray gives a node 30 s to start, and a worker process 60 s: too few on a busy machine (seen with 2.60)
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_gcs_server_port_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_agent_register_timeout_ms": "300000",
}


class RayNodeError(RuntimeError):
    """Ray does not start on this node; the message says why and what to do."""


class RayDiedError(RayNodeError):
    """Ray was started and did not stay; another start may do better."""


def node_address(interface: str = "") -> str:
    """Return the IPv4 address that other nodes reach this one by.

    Raises:
        RayNodeError: the interface does not exist, or there is nothing but loopback.
    """
    found = {
        name: entry.address
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family == socket.AF_INET
    }
    if interface:
        if interface not in found:
            known = ", ".join(sorted(found))
            raise RayNodeError(f"interface={interface!r} has no address on {socket.gethostname()}; known: {known}")
        return found[interface]
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        address = "127.0.0.1"
    if not address.startswith("127."):
        return address
    for other in found.values():  # Debian writes the host name on 127.0.1.1
        if not other.startswith("127."):
            return other
    raise RayNodeError(f"{socket.gethostname()} has no address but loopback; set `interface` in the site file")


def free_ports(count: int, bounds: tuple[int, int]) -> list[int]:
    """Return free ports, from a random start, so that two heads on one node rarely try the same.

    Raises:
        RayNodeError: fewer are free.
    """
    low, high = bounds
    span = high - low + 1
    start, free = secrets.randbelow(span), []
    for step in range(span):
        port = low + (start + step) % span
        with closing(socket.socket()) as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        free.append(port)
        if len(free) == count:
            return free
    raise RayNodeError(f"no {count} free ports in {low}..{high} on {socket.gethostname()}; widen port_range")


def private_folder(temp_folder: str, name: str, restarts: int = 0) -> Path:
    """Make `TEMP/srcgcnn-UID/NAME.RESTARTS`, which only this user may enter (Ray makes its own folders 0777).

    A job may be started again while a part of its cluster that cannot be reached still has a process that uses the old
    folder.

    Raises:
        RayNodeError: the path is too long for sockets, or the folder belongs to somebody else.
    """
    base = Path(temp_folder) / base_name()
    folder = base / f"{name}.{restarts}"
    if len(str(folder)) > MAX_TEMP_CHARACTERS:
        raise RayNodeError(f"{folder} has more than {MAX_TEMP_CHARACTERS} characters; shorten temp_folder")
    for attempt in range(ATTEMPTS):  # a job that ends at this moment removes `base` if it was the last one
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            status = base.lstat()
            if status.st_uid != os.getuid() or status.st_mode & 0o077:
                raise RayNodeError(f"{base} is not a folder that only you can enter; remove it, or change temp_folder")
            remove_abandoned([other for other in base.iterdir() if other.name.split(".")[0] != name])
            remove_abandoned([other for other in base.iterdir() if other.name.split(".")[0] == name], min_age_s=0.0)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
        except FileNotFoundError:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            break
    return folder


def base_name() -> str:
    """Return the name of the folder around this user's private folders."""
    return f"srcgcnn-{os.getuid()}"


def remove_private_folder(folder: Path) -> None:
    """Remove a private folder, and the one around it if nothing else is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()


def remove_abandoned(folders: Iterable[Path], min_age_s: float = ABANDONED_S) -> None:
    """Remove those folders that a killed process of this user left here: nobody holds their lock any more."""
    for folder in folders:
        mark = folder / ALIVE
        try:
            status = folder.lstat()
            if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or folder.name == base_name():
                continue
            marked = mark.stat() if mark.exists() else status  # none yet, or not any more
            if time.time() - marked.st_mtime < min_age_s:
                continue
            with FileLock(mark, timeout=0, is_singleton=False):
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, Timeout):
            continue


def ray_environment(token: Path) -> dict[str, str]:
    """Return the environment of every Ray process of a sweep."""
    environment = dict(os.environ)
    environment.pop("RAY_ADDRESS", None)  # never another user's or an earlier cluster
    if "ROCR_VISIBLE_DEVICES" in environment and "HIP_VISIBLE_DEVICES" not in environment:
        # Ray counts AMD's devices by HIP's variable only; its numbers are of what the other one leaves visible
        visible = [name for name in environment["ROCR_VISIBLE_DEVICES"].split(",") if name.strip()]
        environment["HIP_VISIBLE_DEVICES"] = ",".join(str(number) for number in range(len(visible)))
    environment.update(
        PATIENT_RAY | closed_ray(token),
        RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="20",  # on SIGTERM a node takes no new trial and waits for its own
        PYTHONUNBUFFERED="1",
    )
    return environment


class RayNode:
    """A running `ray start --block` with all that it started.

    Attributes:
        folder: the node's private folder.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        environment: dict[str, str],
        deadline: float,
        ports: AgentPorts,
    ) -> None:
        self.folder = folder
        self._alive = FileLock(folder / ALIVE, is_singleton=False)
        self._alive.acquire()
        environment = {**environment, NODE_FOLDER: str(folder), DEADLINE: str(deadline)}
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments, *ports.arguments]
        command += [f"--temp-dir={folder}", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        # not needed here: a log monitor copies the words of workers to the driver, a monitor orders nodes
        command += ["--no-monitor", "--include-log-monitor=false", "--disable-usage-stats", "--block"]
        self._log = (folder / "start.log").open("w")
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdout=self._log,
            stderr=self._log,
            preexec_fn=ignore_warning_signal,  # noqa: PLW1509 - it calls signal() only
        )
        self._ray = RayProcesses(psutil.Process(self._process.pid), ports)
        self._family: dict[int, psutil.Process] = {}
        self._watcher = start_watcher(folder)

    def check(self) -> bool:
        """Look after Ray's processes, also those that lose their parent later; returns whether Ray still runs.

        Call it often while Ray starts (`RayProcesses.look`).
        """
        if self._process.poll() is not None:
            return False
        try:
            found = psutil.Process(self._process.pid).children(recursive=True)
            self._family |= {child.pid: child for child in found}
            self._ray.look()
        except psutil.NoSuchProcess:
            return False
        return self._ray.dead is None  # `ray start` looks after its processes only when all have started

    @property
    def settled(self) -> bool:
        """Whether Ray knows its ports; until then it depends on `check`."""
        return self._ray.raylet_told

    @property
    def log(self) -> str:
        """The end of what `ray start` printed, and of what its raylet said."""
        printed = (self.folder / "start.log").read_text(encoding="utf-8", errors="replace")[-2000:]
        said = [_last_words(path) for path in self.folder.glob("session_[0-9]*/logs/raylet.out")]
        return "\n".join([printed, *said])

    def drain(self, seconds: float) -> None:
        """Ask the groups on this node to write checkpoints and stop, take no more, and leave the cluster."""
        (self.folder / STOP_FILE).touch()
        if self.check():
            self._process.terminate()
        deadline = time.monotonic() + seconds
        while self.check() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.end()

    def end(self) -> None:
        """End every remaining process of this node, and remove its folder."""
        if self._process.poll() is None:
            self._process.terminate()
        everyone = [*self._family.values()]
        _, alive = psutil.wait_procs(everyone, timeout=END_GRACE_S)
        for process in alive:
            kill(process)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._log.close()
        self._alive.release()
        remove_private_folder(self.folder)
        end_watcher(self._watcher)


def _last_words(log: Path) -> str:
    """Return the last entries of a log of Ray, without the stack of calls that follows an error."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([line[:500] for line in lines if line.startswith("[")][-3:])


def ignore_warning_signal() -> None:
    """Run in a child before exec: a batch system may send its warning to every process, and raylet dies of it."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def wait_for_port(node: RayNode, address: str, port: int) -> None:
    """Return when the port answers and the node is settled.

    Raises:
        RayDiedError: Ray ended, or did not answer in time.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if not node.check():
            raise RayDiedError(f"Ray's head ended immediately on {socket.gethostname()}:\n{node.log}")
        try:
            socket.create_connection((address, port), timeout=1.0).close()
        except OSError:
            pass
        else:
            if node.settled:
                return
        time.sleep(0.2)
    raise RayDiedError(f"Ray's head did not answer on {address}:{port} in {START_TIMEOUT_S:.0f} s:\n{node.log}")
