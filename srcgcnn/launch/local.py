"""A sweep on this machine: its own Ray cluster, closed to others, gone at the end."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from srcgcnn.driver.resources import GroupResources
from srcgcnn.files import write_text
from srcgcnn.launch.agent_ports import AgentPorts
from srcgcnn.launch.ray_node import ALIVE, PATIENT_RAY, free_ports, remove_abandoned
from srcgcnn.launch.reaper import reaping
from srcgcnn.launch.supervisor import dying_with_ray, starting_ray
from srcgcnn.launch.token import closed_ray, new_token, read_token_again, write_node_token, write_token
from srcgcnn.tracking.ui import tunnel_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from srcgcnn.launch.site import LocalSite
    from srcgcnn.run.paths import RunPaths

TEMP_PREFIX = "srcgcnn-"
LONGEST_TEMP = 20  # characters of the temporary folder's path
PORTS = (20000, 29999)  # below those that systems assign by themselves
OBJECT_STORE_BYTES = 256 * 2**20  # trials exchange a few numbers; Ray's default takes 30 % of the memory


class LaunchError(RuntimeError):
    """A sweep cannot start; the message says why and what to do."""


@contextmanager
def this_machine(paths: RunPaths, site: LocalSite, console: Console) -> Iterator[GroupResources]:
    """Start a Ray on this machine for as long as groups train; yields what a group gets.

    Raises:
        LaunchError: the site asks for what this machine does not have.
    """
    console.print("starting Ray on this machine ...")
    with private_folder() as scratch, reaping(scratch), local_ray(paths, site, scratch, console) as gpus:
        if (site.gpus_per_group or 0) > gpus:
            raise LaunchError(f"gpus_per_group={site.gpus_per_group}, but Ray finds {gpus:g} GPUs on this machine")
        with terminating_as_ctrl_c():
            yield GroupResources(
                cpus=site.cpus_per_group,
                gpus=min(gpus, 1.0) if site.gpus_per_group is None else site.gpus_per_group,
                max_retries=site.max_retries,
                checkpoint_interval_s=site.checkpoint_interval_s,
            )


@contextmanager
def terminating_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does: groups stop, results stay. Ray's own handler ends with its crash report.

    A shell starts `command &` with Ctrl-C ignored, so it is handled here again.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if before[signal.SIGINT] is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder for Ray's sockets and logs that only this user can enter; it is removed at the end.

    Ray opens its own folder to everybody, and a socket path must stay below 107 bytes, of which Ray takes 68.
    """
    parent = tempfile.gettempdir()
    parent = parent if len(parent) <= LONGEST_TEMP else "/tmp"  # noqa: S108
    remove_abandoned(Path(parent).glob(f"{TEMP_PREFIX}{'?' * 8}"))
    folder = Path(tempfile.mkdtemp(prefix=TEMP_PREFIX, dir=parent))
    alive = FileLock(folder / ALIVE, is_singleton=False)
    alive.acquire()
    try:
        yield folder
    finally:
        alive.release()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def local_ray(paths: RunPaths, site: LocalSite, scratch: Path, console: Console) -> Iterator[float]:
    """Start a Ray of this sweep only; yields its number of GPUs. Never joins a cluster that somebody else runs."""
    token = new_token()
    shown = write_token(paths.ray_token, token)
    os.environ.update(PATIENT_RAY | closed_ray(write_node_token(scratch, token)))
    os.environ.pop("RAY_ADDRESS", None)
    import ray

    read_token_again()
    ports = AgentPorts(*free_ports(3, PORTS))
    try:
        with dying_with_ray(ports):
            with starting_ray(), _agents_at(ports):
                context = ray.init(
                    address="local",
                    num_cpus=site.usable_cpus,
                    object_store_memory=OBJECT_STORE_BYTES,
                    include_dashboard=site.dashboard,
                    dashboard_host="127.0.0.1",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=str(scratch / "r"),  # a folder below: Ray makes it 0777
                )
            if site.dashboard and context.dashboard_url:
                _show_dashboard(paths, context.dashboard_url, shown, console)
            yield float(ray.cluster_resources().get("GPU", 0.0))
    finally:
        paths.dashboard.unlink(missing_ok=True)
        ray.shutdown()


def _show_dashboard(paths: RunPaths, url: str, token: Path, console: Console) -> None:
    tunnel = tunnel_command(os.environ, int(url.rpartition(":")[2]))
    where = f"http://{url}" + (f"  on your own computer after: {tunnel}" if tunnel else "")
    write_text(paths.dashboard, f"{where}\n")
    console.print(f"Ray dashboard: {where}  (asks for the token in {token})", soft_wrap=True)


@contextmanager
def _agents_at(ports: AgentPorts) -> Iterator[None]:
    """Let `ray.init` in the block do what `RayNode` asks of `ray start`; it has no arguments for this."""
    from ray._private import parameter

    module: Any = parameter
    stock = module.RayParams
    module.RayParams = partial(
        stock,
        dashboard_agent_listen_port=ports.listen,
        metrics_agent_port=ports.grpc,
        runtime_env_agent_port=ports.runtime_env,
        no_monitor=True,
        include_log_monitor=False,
    )
    try:
        yield
    finally:
        module.RayParams = stock
