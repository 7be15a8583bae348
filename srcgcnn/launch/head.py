"""The head job: Ray's head, open to holders of the token only, and next to it the driver.

It trains nothing. Started again after a requeue, it makes a new cluster; the driver plans from the result files.
"""

from __future__ import annotations

import getpass
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from filelock import Timeout

from srcgcnn.driver.progress import Backlog
from srcgcnn.exit_status import DONE, ERROR, IN_PART, INTERRUPTED, TERMINATED
from srcgcnn.files import KeptFiles, write_text
from srcgcnn.launch.agent_ports import AgentPorts
from srcgcnn.launch.batch import BatchError
from srcgcnn.launch.deaths import note_death
from srcgcnn.launch.job_log import say
from srcgcnn.launch.ray_node import (
    RayDiedError,
    RayNode,
    RayNodeError,
    free_ports,
    ignore_warning_signal,
    node_address,
    private_folder,
    ray_environment,
    wait_for_port,
)
from srcgcnn.launch.rendezvous import (
    HeadAddress,
    JobIds,
    SweepEndRecord,
    read_jobs,
    read_request,
    restored_record,
    submission_lock,
    write_record_file,
    write_request,
)
from srcgcnn.launch.submit import submit_workers
from srcgcnn.launch.token import new_token, write_node_token, write_token
from srcgcnn.records import read_if_whole
from srcgcnn.run.results import finished_keys
from srcgcnn.sweep.record import job_name, read_record

if TYPE_CHECKING:
    from srcgcnn.launch.batch import Allocation, BatchSystem
    from srcgcnn.launch.rendezvous import LaunchRequest
    from srcgcnn.run.paths import RunPaths

POLL_S = 0.5
TEND_INTERVAL_S = 30.0
LEAVE_BEFORE_END_S = 90.0  # by the head's own clock; the warning signal may come earlier or never
HAND_BACK_S = 5.0  # workers see within a second that the head leaves, and write checkpoints
SUBMITTER_S = 120.0  # for another process that is just submitting the workers
DRIVER = "srcgcnn.launch.driver"
HEAD_ADDRESS = "SRCGCNN_HEAD_ADDRESS"
MOST_DRIVERS = 5  # that die without a new result
DRIVER_PAUSE_S = 20.0
# A driver adds this to the status that it reports: Ray ends a process whose raylet does not answer for 30 s with status
# 1, and that does not mean that some trials failed.
REPORTED = 64
ENDS_OF_A_DRIVER = (DONE, IN_PART, INTERRUPTED)


class Head:
    """A head from its start to its end."""

    def __init__(self, paths: RunPaths, system: BatchSystem, allocation: Allocation) -> None:
        self._paths, self._system, self._allocation = paths, system, allocation
        self._request = read_request(paths)
        self._site = self._request.site
        time_min = self._site.worker.time_min if self._site.gang else self._site.head.time_min
        self._end_at = allocation.ends_at(time_min) - LEAVE_BEFORE_END_S
        self._replaced, self._kept = 0, KeptFiles()  # replacements since the last new result
        self._results = len(finished_keys(paths))
        self._tended = time.monotonic()

    def run(self) -> int:
        """Return the exit status of the job."""
        self._allocation.listen()
        if not self._take_over():
            return 0
        try:
            node, address = self._start_ray()
        except (RayNodeError, OSError) as error:  # another node may do better
            return self._start_again(str(error))
        try:
            return self._drive(node, address)
        except RayDiedError as error:
            return self._start_again(str(error))
        finally:
            self._kept.drop(self._paths.head_address)
            self._paths.head_address.unlink(missing_ok=True)
            node.end()

    def _take_over(self) -> bool:
        """Become the head of this sweep; False if another one is, or if heads died too often.

        A worker or a person that submits a head may be killed before it writes down which: the first of two that starts
        is the one.
        """
        try:
            with submission_lock(self._paths, SUBMITTER_S):
                return self._is_the_one()
        except Timeout:  # a submitter hangs
            return self._is_the_one()

    def _is_the_one(self) -> bool:
        jobs, mine = read_jobs(self._paths), self._allocation.id
        if jobs.head != mine and self._others_in_the_queue(jobs.head):
            say(f"job {jobs.head} is the head of this sweep; this one leaves")
            return False
        if self._paths.head_address.exists() and note_death(self._paths, "its node was lost, or it was killed"):
            say("heads died too often without a single new result: the sweep ends")
            self._end_waiting_workers()
            return False
        for old in (self._paths.sweep_end, self._paths.head_address, self._paths.backlog):
            old.unlink(missing_ok=True)
        restored_record(self._paths)
        write_request(self._paths, self._request)  # it may be damaged, and this job may have read the copy
        write_record_file(self._paths.jobs, jobs.succeeded_by(mine, jobs.workers))
        for path in (self._paths.spec, self._paths.launch_request):
            self._kept.keep(path)
        self._keep_jobs()
        return True

    def _keep_jobs(self) -> None:
        """A submitter that was held up may still add its workers."""
        self._kept.keep(self._paths.jobs, lambda path: read_if_whole(JobIds, path) is not None)

    def _others_in_the_queue(self, head: str) -> bool:
        try:
            return bool(head and self._system.jobs((head,)))
        except BatchError as error:
            say(f"whether there is another head is unknown: {error}")
            return False

    def _start_ray(self) -> tuple[RayNode, HeadAddress]:
        token, host = new_token(), node_address(self._site.interface)
        self._kept.keep(write_token(self._paths.ray_token, token))
        port, client_port, dashboard_port, *of_agents = free_ports(6, self._site.port_range)
        folder = private_folder(self._site.temp_folder, f"h{self._allocation.id}", self._allocation.restarts)
        self._environment = ray_environment(write_node_token(folder, token))
        arguments = ["--head", f"--node-ip-address={host}", f"--port={port}", "--num-cpus=0", "--num-gpus=0"]
        # with the default client port a second head on this host would die a minute later (measured)
        arguments += [f"--ray-client-server-port={client_port}", f"--include-dashboard={self._site.dashboard}"]
        arguments += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}"]
        node = RayNode(folder, arguments, self._environment, self._end_at, AgentPorts(*of_agents))
        try:
            wait_for_port(node, host, port)
        except BaseException:
            node.end()
            raise
        shown = dashboard_port if self._site.dashboard else 0
        address = HeadAddress(f"{host}:{port}", secrets.token_hex(8), self._allocation.id, socket.gethostname(), shown)
        say(f"Ray's head listens on {address.address}")
        if shown:
            write_text(self._paths.tunnel, tunnel_command(self._request, address) + "\n")
            say(f"dashboard: {tunnel_command(self._request, address)}")
        write_record_file(self._paths.head_address, address)
        self._kept.keep(self._paths.head_address)
        return node, address

    def _drive(self, node: RayNode, address: HeadAddress) -> int:
        """Run the driver; returns the job's status. One that is killed, or fails, continues from the result files."""
        deaths = 0
        while deaths < MOST_DRIVERS:
            results = len(finished_keys(self._paths))
            ended = self._drive_once(node, address, pause_s=DRIVER_PAUSE_S if deaths else 0.0)
            if ended is None:
                return TERMINATED
            if ended - REPORTED in ENDS_OF_A_DRIVER:
                return self._conclude(ended - REPORTED)
            deaths = deaths + 1 if len(finished_keys(self._paths)) <= results else 1
            say(f"the driver died of signal {-ended}; 9 may be the memory limit" if ended < 0 else "the driver failed")
            write_record_file(self._paths.head_address, address)  # as it was; this waits while the disk is full
        return self._conclude(ERROR, "the driver failed repeatedly: see the log")

    def _drive_once(self, node: RayNode, address: HeadAddress, pause_s: float) -> int | None:
        """Run one driver to its end; returns its status, or None if this job itself has to leave.

        Raises:
            RayDiedError: Ray's head died.
        """
        resume_at = time.monotonic() + pause_s
        while time.monotonic() < resume_at and not self._allocation.end_requested:
            time.sleep(POLL_S)
        environment = {**self._environment, HEAD_ADDRESS: address.address}
        driver = subprocess.Popen(
            [sys.executable, "-m", DRIVER, str(self._paths.out)],
            env=environment,
            preexec_fn=ignore_warning_signal,  # noqa: PLW1509 - it calls signal() only
        )
        try:
            while (status := driver.poll()) is None:
                if self._allocation.end_requested:
                    say(f"{self._system.name} ends this job; after a restart it continues from the result files")
                    return None
                if not node.check():
                    raise RayDiedError(f"Ray's head died:\n{node.log}")
                if self._allocation.warned or time.monotonic() > self._end_at:
                    self._go_back_to_the_queue(address)
                    return None
                self._kept.mend_if_due()
                self._tend(driver)
                time.sleep(POLL_S)
        finally:
            if driver.poll() is None:
                driver.kill()
                driver.wait()
        return status

    def _go_back_to_the_queue(self, address: HeadAddress) -> None:
        """Let workers save, then have this job restarted."""
        say("this head leaves and continues after its next start")
        self._kept.drop(self._paths.head_address)
        write_record_file(self._paths.head_address, replace(address, leaves=True))
        time.sleep(HAND_BACK_S)
        self._paths.head_address.unlink(missing_ok=True)  # before SLURM's SIGKILL can leave it there
        self._requeue()

    def _start_again(self, reason: str) -> int:
        """Ray died, or did not start: start again, on another node perhaps; give up if that did not help too often."""
        say(reason)
        self._kept.drop(self._paths.head_address)
        self._paths.head_address.unlink(missing_ok=True)
        if note_death(self._paths, reason.strip().splitlines()[-1]):
            say("heads died too often without a single new result: the sweep ends")
            self._end_waiting_workers()
            return ERROR
        self._requeue()
        return TERMINATED

    def _requeue(self) -> None:
        if self._allocation.end_requested:  # cancelled: a job that has ended can be requeued, too
            return
        try:
            self._system.requeue(self._allocation.id)
        except BatchError as error:
            say(f"not requeued ({error}); submit the sweep again to continue")

    def _conclude(self, status: int, reason: str = "") -> int:
        """Tell the workers that the sweep is over, and return its status. Those that run leave by themselves."""
        say(f"the driver ended with status {status}")
        if status == INTERRUPTED and self._paths.budget_used.exists():
            reason = self._paths.budget_used.read_text(encoding="utf-8").strip()
        write_record_file(self._paths.sweep_end, SweepEndRecord(status, self._allocation.id, reason))
        self._end_waiting_workers()
        return status

    def _end_waiting_workers(self) -> None:
        try:
            self._system.cancel(read_jobs(self._paths).workers, waiting_only=True)
        except BatchError as error:
            say(f"workers waiting in the queue will end when they start ({error})")

    def _tend(self, driver: subprocess.Popen[bytes]) -> None:
        """Submit new workers if none but work is left; if that did not help too often, stop the driver."""
        if self._site.gang or time.monotonic() - self._tended < TEND_INTERVAL_S:
            return
        self._tended = time.monotonic()
        backlog = read_if_whole(Backlog, self._paths.backlog)
        if backlog is None or not backlog.waiting + backlog.running:
            return
        try:
            there = self._system.jobs(read_jobs(self._paths).workers)
            if not all(job.stuck for job in there):
                return
            self._system.cancel(tuple(job.job_id for job in there))  # only a person could release them
            results = len(finished_keys(self._paths))
            if results > self._results:
                self._results, self._replaced = results, 0
            if self._replaced < self._site.replacements:
                self._replace(backlog)
            elif self._replaced == self._site.replacements:
                say(f"no worker is left, and none of {self._replaced} replacements finished the work: the sweep stops")
                self._replaced += 1
                driver.send_signal(signal.SIGINT)  # it says in MLflow that it was stopped
        except (BatchError, Timeout) as error:
            say(f"workers cannot be looked after at the moment: {error}")

    def _replace(self, backlog: Backlog) -> None:
        name = job_name(read_record(self._paths).spec.name)
        with submission_lock(self._paths, POLL_S):
            jobs = submit_workers(self._system, self._site, self._paths, name, backlog.waiting + backlog.running)
        self._replaced += 1
        say(f"no worker was left: submitted new ones (array {jobs.workers[-1]})")


def tunnel_command(request: LaunchRequest, address: HeadAddress) -> str:
    """Return the command, for the user's own machine, that brings the dashboard there."""
    user, port = getpass.getuser(), address.dashboard_port
    jump = f"-J {user}@{request.login_host} " if request.login_host else ""
    return f"ssh -N -L {port}:127.0.0.1:{port} {jump}{user}@{address.host}   then open http://127.0.0.1:{port}"
