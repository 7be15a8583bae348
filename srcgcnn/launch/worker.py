"""A worker job: it joins the head's Ray, and leaves when the head goes, its time ends, or nothing waits for it.

Trials run in processes of Ray below this one. Before it leaves it asks them to write checkpoints; what it can no longer
ask (a power cut, a kill) costs the time since their last checkpoint.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from srcgcnn.driver.preemption import ALLOCATION_S, NODE_STORE, running_groups, too_full_for_more
from srcgcnn.launch.ray_node import (
    RayNode,
    RayNodeError,
    free_ports,
    ignore_warning_signal,
    node_address,
    private_folder,
    ray_environment,
)
from srcgcnn.launch.rendezvous import (
    Backlog,
    HeadAddress,
    WorkerNote,
    read_record_file,
    read_request,
    write_record_file,
)
from srcgcnn.launch.slurm.job import (
    EXIT_TERMINATED,
    Wishes,
    device_count,
    end_of_allocation,
    job_id,
    outlive_full_disk,
    say,
    shown_job_id,
    task_id,
)
from srcgcnn.launch.slurm.queue import SlurmError, requeue
from srcgcnn.run.paths import RunPaths

POLL_S = 0.5
WAIT_FOR_HEAD_S = 900.0  # a requeued head waits two minutes by SLURM's default before it may start
SAVE_S = 25.0  # for checkpoints, before Ray is ended
SAVE_ON_KILL_S = 2.0  # after SIGTERM, when SIGKILL may follow soon
SHORT_S = 30.0  # a Ray node that ends sooner did not really join
MOST_SHORT = 3
EXIT_BROKEN = 3
IMPORTS = "import ray, torch, torch_geometric, numpy, safetensors"


class WorkerJob:
    """What submitit calls in a worker job."""

    def __init__(self, out: str, kind: int = 0) -> None:
        self.out, self.kind = out, kind

    def __call__(self) -> str:
        """Work until nothing is left; returns why it left, or exits where SLURM is to start the job again."""
        outlive_full_disk()
        return Worker(RunPaths(Path(self.out)), self.kind).run()


class Worker:
    """A worker from its start to its end."""

    def __init__(self, paths: RunPaths, kind: int = 0) -> None:
        self._paths, self._site = paths, read_request(paths).site
        self._request = self._site.worker_kinds[kind]
        self._end_at = end_of_allocation(self._request.time_min) - self._request.leave_before_end_s
        self._allocation_s = self._end_at - time.time()
        self._wishes, self._short, self._full = Wishes(), 0, False
        self._store: Path | None = None

    def run(self) -> str:
        """Serve one head after the other."""
        self._wishes.listen()
        self._check_environment()
        self._copy_store()
        waiting_since = time.monotonic()
        while True:
            self._leave_if_asked()
            if self._paths.sweep_end.exists():
                return self._left("the sweep is over")
            head = read_record_file(self._paths.head_address, HeadAddress)
            if head is not None:
                if self._serve(head):
                    return self._left("nothing waits for this worker")
                waiting_since = time.monotonic()
            elif time.monotonic() - waiting_since > WAIT_FOR_HEAD_S:
                return self._left(f"no head for {WAIT_FOR_HEAD_S:.0f} s; it submits new workers when it starts")
            time.sleep(POLL_S)

    def _check_environment(self) -> None:
        """Leave before trials come to a job without the devices that they need, or to a Python that does not work."""
        self._note("waiting")
        if self._site.group_gpus > device_count():
            shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            self._broken(
                f"a group needs {self._site.group_gpus:g} devices, and SLURM gave this job {device_count()} "
                f"(CUDA_VISIBLE_DEVICES={shown!r}): see gpu_form, gpu_type and drop in the site file"
            )
        done = subprocess.run(
            [sys.executable, "-c", IMPORTS],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=ignore_warning_signal,
        )
        if done.returncode and not self._wishes.end:
            self._broken(f"`{IMPORTS}` fails on this node: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")

    def _copy_store(self) -> None:
        """Give this node a copy of the store, where the site has a folder for it; else trials read the original."""
        if not self._site.scratch:
            return
        from srcgcnn.launch.scratch import node_copy
        from srcgcnn.sweep.record import read_record

        record = read_record(self._paths)
        try:
            self._store = node_copy(self._site.scratch, Path(record.store), record.data.data_hash)
            say(f"graph store: {self._store}")
        except (OSError, ValueError, RuntimeError) as error:
            say(f"no copy of the graph store on this node ({error}); trials read {record.store}")

    def _serve(self, head: HeadAddress) -> bool:
        """Be a node of one head's cluster; returns True when this worker has nothing to do any more."""
        try:
            folder, arguments = self._node(head)
        except (RayNodeError, OSError) as error:
            self._broken(str(error))
        say(f"joining the head of job {head.job} at {head.address}")
        started = time.monotonic()
        environment = ray_environment(self._paths.ray_token.resolve())
        environment[ALLOCATION_S] = str(self._allocation_s)
        if self._store:
            environment[NODE_STORE] = str(self._store)
        node = RayNode(folder, arguments, environment, self._end_at)
        self._note("joined", head.address)
        try:
            idle = self._watch(node, head)
            node.drain(SAVE_ON_KILL_S if self._wishes.end else SAVE_S)
        finally:
            node.end()
        if not idle:
            self._count_short(started, node_log=self._last_log)
        return idle

    def _node(self, head: HeadAddress) -> tuple[Path, list[str]]:
        """Return the private folder of a Ray node on this machine, and the arguments that make it join a head."""
        arguments = [
            f"--address={head.address}",
            f"--node-ip-address={node_address(self._site.interface)}",
            f"--num-cpus={self._request.cpus}",
            f"--num-gpus={device_count()}",
            # the agent that shows logs in the dashboard has one fixed port by default: the first Ray of a node takes it
            f"--dashboard-agent-listen-port={free_ports(1, self._site.port_range)[0]}",
        ]
        return private_folder(self._site.temp_folder, f"w{task_id()}"), arguments

    def _watch(self, node: RayNode, head: HeadAddress) -> bool:
        """Return True when idle for long enough, False when the node must leave for another reason."""
        self._last_log, busy_at = "", time.monotonic()
        while node.running:
            now = read_record_file(self._paths.head_address, HeadAddress)
            if self._must_leave() or now != head:
                return False
            backlog = read_record_file(self._paths.backlog, Backlog)
            running = running_groups(node.folder)
            if too_full_for_more(node.folder) and not running:
                say("what waits does not fit the time that is left of this job")
                self._full = True
                return False
            if backlog is None or backlog.waiting or running:
                busy_at = time.monotonic()
            if time.monotonic() - busy_at > self._request.idle_s:
                return True
            time.sleep(POLL_S)
        self._last_log = node.log
        return False

    def _must_leave(self) -> bool:
        return self._wishes.end or self._wishes.warned or self._full or time.time() > self._end_at

    def _leave_if_asked(self) -> None:
        """End this job; where SLURM only warned, put it back in the queue while work is left."""
        if self._wishes.end:
            self._left("SLURM ended the job")
            sys.exit(EXIT_TERMINATED)
        if self._must_leave():
            self._left("the time of this job is used; it is put back in the queue")
            try:
                requeue(job_id())
            except SlurmError as error:
                say(f"not requeued ({error})")
            sys.exit(EXIT_TERMINATED)

    def _count_short(self, started: float, node_log: str) -> None:
        if not node_log or time.monotonic() - started > SHORT_S:
            self._short = 0
            return
        self._short += 1
        say(f"Ray ended after {time.monotonic() - started:.0f} s:\n{node_log}")
        if self._short >= MOST_SHORT:
            self._broken(f"Ray does not stay up on this node: {node_log.strip().splitlines()[-1]}")

    def _broken(self, reason: str) -> NoReturn:
        say(reason)
        self._note("broken", reason)
        sys.exit(EXIT_BROKEN)

    def _left(self, reason: str) -> str:
        say(f"left: {reason}")
        self._note("left", reason)
        return reason

    def _note(self, state: str, reason: str = "") -> None:
        note = WorkerNote(shown_job_id(), socket.gethostname(), state, reason)
        with suppress(OSError):  # news only; a worker that has to leave does not wait for space
            write_record_file(self._paths.worker_note(note.job), note, space_patience_s=0.0)
