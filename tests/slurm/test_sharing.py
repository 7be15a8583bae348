"""Workers that come and go, and other people on the same nodes."""

import subprocess
import sys
import time

import psutil
import pytest

from srcgcnn.driver.progress import Backlog
from srcgcnn.launch.rendezvous import HeadAddress
from srcgcnn.records import read_if_whole
from tests.slurm.conftest import TOOLS, LabSweep, lab, wait_for


def test_the_sweep_starts_with_one_worker_and_uses_more_when_they_come(sweep, whole):
    sweep.submit("--seeds", 4)  # work enough for those that come late
    array = sweep.jobs.workers[0]
    lab("scontrol", "hold", *(f"{array}_{number}" for number in (1, 2)))
    for number in (1, 2):  # held tasks that had started go back and wait
        subprocess.run([str(TOOLS / "lab"), "scontrol", "requeuehold", f"{array}_{number}"], check=False)
    wait_for(lambda: _running(sweep) == 1, "one group")
    time.sleep(3)
    assert _running(sweep) == 1
    lab("scontrol", "release", *(f"{array}_{number}" for number in (1, 2)))
    wait_for(lambda: _running(sweep) == 3, "three groups")
    lab("scancel", f"{array}_1")
    wait_for(lambda: _running(sweep) == 2, "two groups")
    whole(sweep, trials=8)


def _running(sweep):
    backlog = read_if_whole(Backlog, sweep.paths.backlog)
    return backlog.running if backlog else 0


def test_without_the_token_the_cluster_answers_nobody(sweep):
    sweep.submit()
    head = wait_for(lambda: read_if_whole(HeadAddress, sweep.paths.head_address), "a head", 90)
    wait_for(sweep.paths.backlog.exists, "the driver", 120)
    for variables in (["RAY_AUTH_MODE=disabled"], ["RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN=" + 64 * "0"]):
        command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", head.address]
        said = _as_somebody_else(sweep, variables, command)
        assert "InvalidAuthToken" in said, said
    assert _commands_with(sweep.paths.ray_token.read_text()) == []
    sweep.srcgcnn("cancel")


def _as_somebody_else(sweep, variables, command):
    environment = {name: value for name, value in sweep.environment.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [str(TOOLS / "lab"), "env", f"HOME={sweep.folder}", *variables, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode != 0
    return done.stdout + done.stderr


def _commands_with(token):
    """Command lines that show the token, of all processes of this machine."""
    found = []
    for process in psutil.process_iter():
        try:
            found.append(process.cmdline())
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return [command for command in found if token in " ".join(command)]


@pytest.mark.parametrize("sweep", [{"worker": {"count": 2}}], indirect=True)
def test_two_sweeps_on_the_same_nodes_do_not_meet(sweep, whole):
    folder = sweep.folder / "other"
    folder.mkdir()
    other = LabSweep(folder, worker={"count": 2})
    sweep.submit()
    other.submit()
    try:
        assert other.wait_for_end() == 0, other.logs()
        whole(sweep)
        assert other.numbers() == sweep.numbers()
    finally:
        other.srcgcnn("cancel")
