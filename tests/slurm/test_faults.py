"""Sweeps on a real SLURM while things go wrong. After each: the numbers of an undisturbed run, and nothing is left."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from srcgcnn.launch.rendezvous import read_jobs
from srcgcnn.launch.status import worker_notes
from srcgcnn.records import digest
from tests.slurm.conftest import FLAGS, LAB, ROOT, TOOLS, lab, node, wait_for


def test_the_command_runs_to_results_and_its_waiting_end_may_be_killed(sweep, whole):
    command = [str(TOOLS / "lab"), sys.executable, str(ROOT / "sweeps" / "depth_sweep.py"), "--cluster", "site.toml"]
    terminal = subprocess.Popen(
        [*command, *map(str, FLAGS), "--wait"],
        cwd=sweep.folder,
        env=sweep.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: read_jobs(sweep.paths).workers, "its jobs")  # not later: after its end nothing is refused
    asked = sweep.paths.spec.read_text()
    refused = subprocess.run(
        [*command, *map(str, FLAGS), "--seeds", "3"],
        cwd=sweep.folder,
        env=sweep.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "already been submitted" in refused.stderr
    assert sweep.paths.spec.read_text() == asked  # what was refused is not what a requeued head goes on with
    sweep.wait_until_training(groups=1)
    os.kill(terminal.pid, signal.SIGKILL)  # `lab` execs: this is the Python process
    terminal.communicate()
    assert "running" in sweep.srcgcnn("status")
    assert sweep.paths.ray_token.stat().st_mode & 0o777 == 0o600
    whole(sweep)
    assert "nothing is left" in sweep.submit()


def test_a_cancelled_worker_costs_no_trial(sweep, whole):
    sweep.submit()
    sweep.wait_until_training()
    lab("scancel", sweep.task(1))
    whole(sweep)


def test_a_requeued_worker_comes_back(sweep, whole):
    sweep.submit()
    sweep.wait_until_training()
    lab("scontrol", "requeue", sweep.task(2))
    whole(sweep)


def test_a_warned_worker_hands_back_saves_and_returns(sweep, whole):
    sweep.submit()
    sweep.wait_until_training()
    task = sweep.task(1)
    lab("scancel", "--signal=USR2", task)
    wait_for(
        lambda: "put back in the queue" in (sweep.paths.job_logs / f"{task}_0_log.out").read_text(), "handing back", 60
    )
    whole(sweep)
    assert sweep.resumes() >= 1


def test_a_node_of_ray_that_starts_slowly_is_waited_for(sweep, whole):
    sweep.submit()
    frozen = wait_for(lambda: sweep.processes("raylet") or None, "a node of Ray")[0]
    frozen.suspend()
    time.sleep(45)  # Ray by itself gives up after 30 s
    frozen.resume()
    whole(sweep)
    assert "Ray ended" not in sweep.logs()
    assert "Ray's head died" not in sweep.logs()


def test_a_node_without_power_costs_no_trial(sweep, whole):
    sweep.submit()
    sweep.wait_until_training()
    heads = sweep.node_of(sweep.jobs.head)
    lost = next(name for name in (sweep.node_of(sweep.task(number)) for number in range(3)) if name != heads)
    node("crash", lost)
    time.sleep(30)
    node("start", lost)
    whole(sweep, lost_power=True)


def test_a_node_set_down_costs_no_trial(sweep, whole):
    sweep.submit()
    sweep.wait_until_training()
    heads = sweep.node_of(sweep.jobs.head)
    lost = next(name for name in (sweep.node_of(sweep.task(number)) for number in range(3)) if name != heads)
    lab("scontrol", "update", f"nodename={lost}", "state=down", "reason=test")
    try:
        whole(sweep)
    finally:
        lab("scontrol", "update", f"nodename={lost}", "state=resume")


def test_a_requeued_head_goes_on(sweep, whole):
    sweep.submit()
    sweep.wait_until_training()
    lab("scontrol", "requeue", sweep.jobs.head)
    whole(sweep)
    assert sweep.resumes() >= 1


def test_a_head_that_is_killed_is_replaced_without_a_person(sweep, whole):
    sweep.submit()
    sweep.wait_until_training()
    head = sweep.jobs.head
    sweep.kill(head)
    wait_for(lambda: sweep.jobs.head != head, "another head", 120)
    whole(sweep)


def test_files_of_a_running_sweep_that_are_removed_or_garbled_are_written_again(sweep, whole):
    sweep.submit()
    sweep.wait_until_training()
    sweep.paths.head_address.unlink()
    sweep.paths.spec.write_bytes(b"\xff\xfe")
    sweep.paths.jobs.write_text("[]")
    sweep.paths.backlog.write_text("{}")
    sweep.paths.progress.write_bytes(b"\xff")
    wait_for(lambda: sweep.paths.head_address.exists() and sweep.jobs.head, "files written again", 30)
    assert "running" in sweep.srcgcnn("status")
    whole(sweep)
    assert sweep.resumes() == 0


def test_a_cancelled_sweep_leaves_nothing_and_resumes(sweep, whole):
    sweep.submit()
    sweep.wait_until_training()
    assert sweep.jobs.head in sweep.srcgcnn("cancel")
    wait_for(lambda: sweep.leftovers() == ([], []), f"leftovers {sweep.leftovers()}", 30)
    assert "srcgcnn resume" in sweep.srcgcnn("status")
    sweep.srcgcnn("resume")
    whole(sweep)
    assert sweep.resumes() >= 1


def test_a_restarted_slurm_controller_is_not_noticed(sweep, whole):
    sweep.submit()
    sweep.wait_until_training()
    pid_file = LAB / "run" / "slurmctld.pid"
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    time.sleep(5)
    subprocess.run([str(TOOLS / "up.sh")], check=True, capture_output=True, timeout=120)
    whole(sweep)
    assert sweep.resumes() == 0


def test_workers_that_are_all_gone_are_replaced(sweep, whole):
    sweep.submit()
    sweep.wait_until_training()
    lab("scancel", sweep.jobs.workers[0])
    whole(sweep)
    assert len(sweep.jobs.workers) == 2


@pytest.mark.parametrize("sweep", [{"worker": {"count": 2, "time_min": 3, "leave_before_end_s": 90}}], indirect=True)
def test_workers_leave_before_their_limit_and_come_back(sweep, whole):
    sweep.submit("--dry-run")
    sweep.submit()
    whole(sweep)
    assert "the time of this job is used up" in sweep.logs()


BROKEN = 'if [ "$(hostname)" = n2 ]; then export PYTHONPATH="$PWD/broken:$PYTHONPATH"; fi'


@pytest.mark.parametrize("sweep", [{"setup": [BROKEN], "worker": {"count": 4}}], indirect=True)
def test_a_node_with_a_broken_environment_is_named_and_left_out(sweep, whole):
    (sweep.folder / "broken").mkdir()
    (sweep.folder / "broken" / "torch_geometric.py").write_text("raise ImportError('no such library on this node')")
    sweep.submit()
    whole(sweep)
    broken = [note for note in worker_notes(sweep.paths) if note.state == "broken"]
    assert {note.host for note in broken} == {"n2"}  # SLURM may give it to two workers before one has found out
    assert "no such library" in sweep.srcgcnn("status")


def test_a_trial_that_always_crashes_is_named_and_the_others_finish(sweep, calm):
    key = min(calm)
    sweep.paths.checkpoint(digest([key])).mkdir(parents=True)  # a folder in the place of its group's checkpoint
    sweep.submit()
    assert sweep.wait_for_end() == 1, sweep.logs()
    assert sweep.numbers() == {other: numbers for other, numbers in calm.items() if other != key}
    assert json.loads(sweep.paths.failure(key).read_text())["config"]["seeds"]
    assert key in sweep.srcgcnn("logs", "--failed")


def test_a_shared_folder_that_is_full_for_a_while_costs_time_only(sweep, whole):
    small = sweep.paths.out
    small.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "srcgcnn-test", str(small)], check=True)
    try:
        sweep.submit()
        sweep.wait_until_training()
        ballast = small / "ballast"
        with ballast.open("wb") as file, suppress(OSError):
            while True:
                file.write(bytes(2**16))
        time.sleep(25)
        finished = len(sweep.numbers())
        ballast.unlink()
        whole(sweep)
        assert finished < 4
    finally:
        sweep.srcgcnn("cancel")
        subprocess.run(["umount", str(small)], check=True)
