"""The head job: Ray's head, open to holders of the token only, and beside it the driver.

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
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.files import write_text
from srcgcnn.launch.ray_node import (
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
    Backlog,
    HeadAddress,
    JobIds,
    SweepEndRecord,
    read_record_file,
    read_request,
    write_record_file,
)
from srcgcnn.launch.slurm.job import EXIT_TERMINATED, Wishes, end_of_allocation, job_id, outlive_full_disk, say
from srcgcnn.launch.slurm.queue import SlurmError, cancel, queued, requeue
from srcgcnn.launch.token import write_token
from srcgcnn.run.paths import RunPaths

if TYPE_CHECKING:
    from srcgcnn.launch.rendezvous import LaunchRequest

POLL_S = 0.5
TEND_INTERVAL_S = 30.0
LEAVE_BEFORE_END_S = 90.0  # by the head's own clock; the warning signal may come earlier or never
HAND_BACK_S = 5.0  # workers see within a second that the head leaves, and write checkpoints
DRIVER = "srcgcnn.launch.driver"
HEAD_ADDRESS = "SRCGCNN_HEAD_ADDRESS"
MOST_DRIVERS = 5
DRIVER_PAUSE_S = 20.0
STATUS_ERROR = 2
ENDS_OF_A_DRIVER = (0, 1, 130)  # all trained, some trials failed, stopped; the rest is worth another attempt


class HeadJob:
    """What submitit calls in the head job."""

    def __init__(self, out: str) -> None:
        self.out = out

    def __call__(self) -> int:
        """Run the sweep to its end; leaves by `sys.exit` where SLURM is to start the job again, or trials failed."""
        outlive_full_disk()
        if status := Head(RunPaths(Path(self.out))).run():
            sys.exit(status)
        return 0


class Head:
    """A head from its start to its end."""

    def __init__(self, paths: RunPaths) -> None:
        self._paths, self._request = paths, read_request(paths)
        self._site = self._request.site
        time_min = self._site.worker.time_min if self._site.gang else self._site.head.time_min
        self._end_at = end_of_allocation(time_min) - LEAVE_BEFORE_END_S
        self._wishes, self._replaced = Wishes(), 0
        self._tended = time.monotonic()

    def run(self) -> int:
        """Return the exit status of the job."""
        self._wishes.listen()
        self._paths.sweep_end.unlink(missing_ok=True)
        self._paths.head_address.unlink(missing_ok=True)
        self._paths.backlog.unlink(missing_ok=True)
        try:
            node, address = self._start_ray()
        except (RayNodeError, OSError):
            self._conclude(STATUS_ERROR)  # workers must not wait, and be paid for, in vain
            raise
        try:
            return self._drive(node, address)
        finally:
            self._paths.head_address.unlink(missing_ok=True)
            node.end()

    def _start_ray(self) -> tuple[RayNode, HeadAddress]:
        token, host = write_token(self._paths.ray_token), node_address(self._site.interface)
        port, client_port, dashboard_port, agent_port = free_ports(4, self._site.port_range)
        folder = private_folder(self._site.temp_folder, f"h{job_id()}")
        self._environment = ray_environment(token)
        arguments = ["--head", f"--node-ip-address={host}", f"--port={port}", "--num-cpus=0", "--num-gpus=0"]
        # with the default client port a second head on this host would die a minute later (measured)
        arguments += [f"--ray-client-server-port={client_port}", f"--include-dashboard={self._site.dashboard}"]
        arguments += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}"]
        arguments += [f"--dashboard-agent-listen-port={agent_port}"]  # one number on every node by default
        node = RayNode(folder, arguments, self._environment, self._end_at)
        try:
            wait_for_port(node, host, port)
        except BaseException:
            node.end()
            raise
        shown = dashboard_port if self._site.dashboard else 0
        address = HeadAddress(f"{host}:{port}", secrets.token_hex(8), job_id(), socket.gethostname(), shown)
        say(f"Ray's head listens on {address.address}")
        if shown:
            write_text(self._paths.tunnel, tunnel_command(self._request, address) + "\n")
            say(f"dashboard: {tunnel_command(self._request, address)}")
        write_record_file(self._paths.head_address, address)
        return node, address

    def _drive(self, node: RayNode, address: HeadAddress) -> int:
        """Run the driver; returns the job's status. One that is killed, or fails, goes on from the result files."""
        status = STATUS_ERROR
        for attempt in range(MOST_DRIVERS):
            ended = self._drive_once(node, address, pause_s=DRIVER_PAUSE_S if attempt else 0.0)
            if ended is None:
                return EXIT_TERMINATED
            if ended in ENDS_OF_A_DRIVER:
                status = ended
                break
            say(f"the driver died of signal {-ended}; 9 may be the memory limit" if ended < 0 else "the driver failed")
            write_record_file(self._paths.head_address, address)  # as it was; this waits while the disk is full
        self._conclude(status)
        return status

    def _drive_once(self, node: RayNode, address: HeadAddress, pause_s: float) -> int | None:
        """Run one driver to its end; returns its status, or None where this job itself has to leave."""
        resume_at = time.monotonic() + pause_s
        while time.monotonic() < resume_at and not self._wishes.end:
            time.sleep(POLL_S)
        environment = {**self._environment, HEAD_ADDRESS: address.address}
        driver = subprocess.Popen(
            [sys.executable, "-m", DRIVER, str(self._paths.out)],
            env=environment,
            preexec_fn=ignore_warning_signal,  # noqa: PLW1509 - it calls signal() only
        )
        try:
            while (status := driver.poll()) is None:
                if self._wishes.end:
                    say("SLURM ends this job; started again it goes on from the result files")
                    return None
                if not node.running:
                    say(f"Ray's head died:\n{node.log}")
                if not node.running or self._wishes.warned or time.time() > self._end_at:
                    self._go_back_to_the_queue()
                    return None
                self._tend(driver)
                time.sleep(POLL_S)
        finally:
            if driver.poll() is None:
                driver.kill()
                driver.wait()
        return status

    def _go_back_to_the_queue(self) -> None:
        """Let workers save, then let SLURM start this job anew."""
        say("this head leaves, and goes on after its next start")
        self._paths.head_address.unlink(missing_ok=True)
        time.sleep(HAND_BACK_S)
        try:
            requeue(job_id())
        except SlurmError as error:
            say(f"not requeued ({error}); submit the sweep again to go on")

    def _conclude(self, status: int) -> None:
        """Tell the workers that the sweep is over. Those that run leave by themselves."""
        say(f"the driver ended with status {status}")
        write_record_file(self._paths.sweep_end, SweepEndRecord(status, job_id()))
        jobs = read_record_file(self._paths.jobs, JobIds) or JobIds()
        try:
            cancel(jobs.workers, waiting_only=True)
        except SlurmError as error:
            say(f"workers that wait in the queue will end when they start ({error})")

    def _tend(self, driver: subprocess.Popen[bytes]) -> None:
        """Submit new workers where none is left and work is; where that was of no use too often, stop the driver."""
        if self._site.gang or time.monotonic() - self._tended < TEND_INTERVAL_S:
            return
        self._tended = time.monotonic()
        backlog = read_record_file(self._paths.backlog, Backlog)
        if backlog is None or not backlog.waiting + backlog.running:
            return
        jobs = read_record_file(self._paths.jobs, JobIds) or JobIds()
        try:
            if queued(jobs.workers):
                return
            if self._replaced < self._site.replacements:
                self._replace(backlog)
            elif self._replaced == self._site.replacements:
                say(f"no worker is left, and none of {self._replaced} replacements finished the work: the sweep stops")
                self._replaced += 1
                driver.send_signal(signal.SIGINT)  # it says in MLflow that it was stopped
        except SlurmError as error:
            say(f"workers are not looked after for the moment: {error}")

    def _replace(self, backlog: Backlog) -> None:
        from srcgcnn.launch.slurm.sbatch import job_name
        from srcgcnn.launch.slurm.submit import submit_workers
        from srcgcnn.sweep.record import read_record

        self._replaced += 1
        name = job_name(read_record(self._paths).spec.name)
        jobs = submit_workers(self._site, self._paths, name, backlog.waiting + backlog.running)
        say(f"no worker was left: submitted new ones (array {jobs.workers[-1]})")


def tunnel_command(request: LaunchRequest, address: HeadAddress) -> str:
    """Return the command, for the user's own machine, that brings the dashboard there."""
    user, port = getpass.getuser(), address.dashboard_port
    jump = f"-J {user}@{request.login_host} " if request.login_host else ""
    return f"ssh -N -L {port}:127.0.0.1:{port} {jump}{user}@{address.host}   then open http://127.0.0.1:{port}"


if __name__ == "__main__":
    raise SystemExit(Head(RunPaths(Path(sys.argv[1]))).run())
