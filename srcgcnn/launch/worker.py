"""A worker job: it joins the head's Ray, and leaves when the head goes, its time ends, or nothing waits for it.

Trials run in processes of Ray below this one. Before it leaves it asks them to write checkpoints; what it can no longer
ask (a power cut, a kill) costs the time since their last checkpoint.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from srcgcnn.data.manifest import StoreError
from srcgcnn.data.store import GraphStore
from srcgcnn.driver.preemption import ALLOCATION_S, NODE_STORE, running_groups, too_full_for_more
from srcgcnn.driver.progress import Backlog
from srcgcnn.exit_status import TERMINATED
from srcgcnn.launch.agent_ports import AgentPorts
from srcgcnn.launch.batch import BatchError
from srcgcnn.launch.head_watch import HeadWatch, answers
from srcgcnn.launch.job_log import say
from srcgcnn.launch.ray_node import (
    RayNode,
    RayNodeError,
    free_ports,
    ignore_warning_signal,
    node_address,
    private_folder,
    ray_environment,
)
from srcgcnn.launch.rendezvous import HeadAddress, WorkerNote, read_request, restored_record, write_record_file
from srcgcnn.launch.token import read_token, write_node_token
from srcgcnn.records import RecordError, read_if_whole

if TYPE_CHECKING:
    from srcgcnn.launch.batch import Allocation, BatchSystem
    from srcgcnn.run.paths import RunPaths

POLL_S = 0.5
WAIT_FOR_HEAD_S = 900.0  # a requeued head waits two minutes by SLURM's default before it may start
SAVE_S = 25.0  # for checkpoints, before Ray is ended
SAVE_ON_KILL_S = 2.0  # after SIGTERM, when SIGKILL may follow soon
SHORT_S = 30.0  # a Ray node that ends sooner did not really join
MOST_SHORT = 3
EXIT_BROKEN = 3
IMPORTS = "import ray, torch, torch_geometric, numpy, safetensors"
# a build of torch for CPUs would silently train there; builds for ROCm answer by the same names
DEVICES = """import torch
found = torch.cuda.device_count() if torch.cuda.is_available() else 0
if found < {count}:
    raise SystemExit(f"torch {{torch.__version__}} finds {{found}} of {count} devices")"""
LOOK_INTERVAL_S = 10.0  # at the head's port
UNUSED_S = 300.0  # after a partition a raylet may hold cores for ever that nobody uses (seen with Ray 2.60)
TOLERATED_S = 15.0  # without a readable head.json while the head answers: the head writes it again


class Worker:
    """A worker from its start to its end."""

    def __init__(self, paths: RunPaths, system: BatchSystem, allocation: Allocation, kind: int = 0) -> None:
        self._paths, self._site = paths, read_request(paths).site
        self._system, self._allocation = system, allocation
        self._request = self._site.worker_kinds[kind]
        self._end_at = allocation.ends_at(self._request.time_min) - self._request.leave_before_end_s
        self._allocation_s = self._end_at - time.monotonic()
        self._short, self._full = 0, False
        self._watch_head = HeadWatch(paths, system, self._site)
        self._store: Path | None = None

    def run(self) -> str:
        """Serve one head after the other."""
        self._allocation.listen()
        self._check_environment()
        self._copy_store()
        waiting_since = time.monotonic()
        while True:
            self._leave_if_due()
            if self._paths.sweep_end.exists():
                return self._left("the sweep is over")
            head = read_if_whole(HeadAddress, self._paths.head_address)
            if head is not None and not head.leaves and answers(head.address):
                self._watch_head.heard()
                if token := read_token(self._paths.ray_token):  # the head writes a damaged one again
                    if self._serve(head, token):
                        self._watch_head.leaving()
                        return self._left("no work is waiting for this worker")
                    waiting_since = time.monotonic()
                    continue
            else:
                self._watch_head.missed()
            if time.monotonic() - waiting_since > WAIT_FOR_HEAD_S:
                return self._left(f"no head for {WAIT_FOR_HEAD_S:.0f} s; it submits new workers when it starts")
            time.sleep(POLL_S)

    def _check_environment(self) -> None:
        """Leave before trials come to a job without the devices that they need, or to a Python that does not work."""
        self._note("waiting")
        devices = self._allocation.devices
        if self._site.group_gpus > devices.count:
            self._broken(
                f"a group needs {self._site.group_gpus:g} devices, and {self._system.name} gave this job "
                f"{devices.count} ({devices.evidence}): see gpu_form, gpu_type and drop in the site file"
            )
        self._check_python(IMPORTS, "")
        self._check_store()
        if self._site.group_gpus:
            advice = f"; {self._system.name} gave them ({devices.evidence}): install the torch of these devices"
            self._check_python(DEVICES.format(count=devices.count), advice)

    def _check_python(self, code: str, advice: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=ignore_warning_signal,
        )
        if done.returncode and not self._allocation.end_requested:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            self._broken(f"{reason}{advice}" if advice else f"`{code}` fails on this node: {reason}")

    def _check_store(self) -> None:
        """Leave before trials come to a node that does not see the graphs, and fail there one after the other."""
        try:
            GraphStore(Path(restored_record(self._paths).store))
        except RecordError:  # being written again: trials will see
            return
        except (StoreError, OSError) as error:
            self._broken(f"the graph store cannot be read on this node: {error}")

    def _copy_store(self) -> None:
        """Give this node a copy of the store, if the site has a folder for it; else trials read the original."""
        if not self._site.scratch:
            return
        from srcgcnn.launch.scratch import node_copy

        record = restored_record(self._paths)
        try:
            self._store = node_copy(self._site.scratch, Path(record.store), record.data.data_hash)
            say(f"graph store: {self._store}")
        except (OSError, ValueError, RuntimeError) as error:
            say(f"no copy of the graph store on this node ({error}); trials read {record.store}")

    def _serve(self, head: HeadAddress, token: str) -> bool:
        """Be a node of one head's cluster; returns True when this worker has nothing to do any more."""
        try:
            folder, arguments, ports = self._node(head)
            environment = ray_environment(write_node_token(folder, token))
        except (RayNodeError, OSError) as error:
            self._broken(str(error))
        say(f"joining the head of job {head.job} at {head.address}")
        started = time.monotonic()
        environment[ALLOCATION_S] = str(self._allocation_s)
        if self._store:
            environment[NODE_STORE] = str(self._store)
        node = RayNode(folder, arguments, environment, self._end_at, ports)
        self._note("joined", head.address)
        try:
            idle = self._watch(node, head)
            node.drain(SAVE_ON_KILL_S if self._allocation.end_requested else SAVE_S)
        finally:
            node.end()
        if not idle:
            self._count_short(started, node_log=self._last_log)
        return idle

    def _node(self, head: HeadAddress) -> tuple[Path, list[str], AgentPorts]:
        """Return folder, arguments and ports of a Ray node on this machine that joins a head."""
        arguments = [
            f"--address={head.address}",
            f"--node-ip-address={node_address(self._site.interface)}",
            f"--num-cpus={self._request.cpus}",
            f"--num-gpus={self._allocation.devices.count}",
        ]
        return self._private_folder(), arguments, AgentPorts(*free_ports(3, self._site.port_range))

    def _private_folder(self) -> Path:
        return private_folder(self._site.temp_folder, f"w{self._allocation.task_id}", self._allocation.restarts)

    def _watch(self, node: RayNode, head: HeadAddress) -> bool:
        """Return True when idle for long enough, False when the node must leave for another reason."""
        self._last_log = ""
        busy_at = used_at = self._named_at = self._looked_at = time.monotonic()
        while node.check():
            if self._must_leave() or self._is_lost(head):
                return False
            backlog = read_if_whole(Backlog, self._paths.backlog)
            running = running_groups(node.folder)
            if too_full_for_more(node.folder) and not running:
                say("the waiting groups do not fit into the remaining time of this job")
                self._full = True
                return False
            if backlog is None or backlog.waiting or running:
                busy_at = time.monotonic()
            if time.monotonic() - busy_at > self._request.idle_s:
                return True
            if running or not (backlog and backlog.waiting):
                used_at = time.monotonic()
            if time.monotonic() - used_at > UNUSED_S:
                say(f"groups are waiting, but this node got none for {UNUSED_S:.0f} s: it leaves Ray and joins again")
                return False
            time.sleep(POLL_S)
        self._last_log = node.log
        return False

    def _is_lost(self, head: HeadAddress) -> bool:
        """Whether this head leaves, has ended, is another one by now, or has been silent for long."""
        now = read_if_whole(HeadAddress, self._paths.head_address)
        if self._paths.sweep_end.exists() or (now is not None and now != head):
            return True
        if now is not None:
            self._named_at = time.monotonic()
        elif time.monotonic() - self._named_at > TOLERATED_S:
            return True
        if time.monotonic() - self._looked_at < (LOOK_INTERVAL_S if now else 1.0):
            return False
        self._looked_at = time.monotonic()
        if answers(head.address):
            self._watch_head.heard()
            return False
        self._watch_head.missed()
        return now is None

    def _must_leave(self) -> bool:
        return (
            self._allocation.end_requested or self._allocation.warned or self._full or time.monotonic() > self._end_at
        )

    def _leave_if_due(self) -> None:
        """End this job; if it was only warned, put it back in the queue while work is left."""
        if self._allocation.end_requested:
            self._left(f"{self._system.name} ended the job")
            sys.exit(TERMINATED)
        if self._must_leave():
            self._left("the time of this job is used up; it is put back in the queue")
            try:
                self._system.requeue(self._allocation.id)
            except BatchError as error:
                say(f"not requeued ({error})")
            sys.exit(TERMINATED)

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
        note = WorkerNote(self._allocation.shown_id, socket.gethostname(), state, reason)
        with suppress(OSError):  # news only; a worker that has to leave does not wait for space
            write_record_file(self._paths.worker_note(note.job), note, space_patience_s=0.0)
