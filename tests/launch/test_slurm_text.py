"""What would be submitted, without SLURM: site files, the sbatch text against golden files, what the login node loads.

`UPDATE_GOLDEN=1 pytest tests/launch/test_slurm_text.py` writes the golden files anew; read the difference.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from srcgcnn.driver.preemption import (
    ALLOCATION_S,
    DEADLINE,
    NODE_FOLDER,
    STOP_FILE,
    HandedBackError,
    counted_as_running,
    fits_time_left,
    running_groups,
    stop_asked,
    take_no_more,
    too_full_for_more,
)
from srcgcnn.driver.retries import JUDGE_AFTER_S, RetryBudget
from srcgcnn.files import open_log
from srcgcnn.launch.head import tunnel_command
from srcgcnn.launch.ray_node import ALIVE, RayNodeError, free_ports, private_folder
from srcgcnn.launch.rendezvous import HeadAddress, LaunchRequest, read_request, write_request
from srcgcnn.launch.site import LocalSite, parse_site, read_site
from srcgcnn.launch.slurm.job import SlurmAllocation
from srcgcnn.launch.slurm.sbatch import WorkerArray, build_executor, sbatch_texts, worker_arrays
from srcgcnn.launch.slurm_site import HeadRequest, SlurmSite, WorkerRequest
from srcgcnn.launch.token import new_token, read_token, write_token
from srcgcnn.records import RecordError, parse
from srcgcnn.run.paths import RunPaths

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).resolve().parent / "golden"

UNUSUAL = {
    "kind": "slurm",
    "account": "abc123",
    "setup": ["module load python", "source $HOME/venv/bin/activate"],
    "environment": {"OMP_NUM_THREADS": "1", "WORDS": "two words"},
    "drop": ["mem", "nodes"],
    "extra": {"reservation": "school", "requeue": False},
    "python": "python",
    "container": "/images/srcgcnn.sif",
    "container_options": ["--nv", "--bind", "/scratch"],
    "mail_user": "me@site.org",
    "head": {"partition": "cpu", "extra": {"nice": 100}},
    "worker": {
        "count": 7,
        "throttle": 3,
        "partition": "gpu,gpu2",
        "gpu_type": "a100",
        "exclusive": True,
        "qos": "short",
    },
    "more_workers": [{"count": 2, "partition": "old", "gpu_type": "v100", "gpu_form": "gpus-per-node"}],
}
GANG = {"kind": "slurm", "gang": True, "worker": {"count": 3}}
GROUPS = 1000


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A folder without a machine's own names: submitit writes absolute paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["slurm", "perlmutter", "kestrel", "ncstate", "unusual", "gang"])
def test_the_sbatch_text_is_the_golden_one(name, here):
    ours = {"unusual": UNUSUAL, "gang": GANG}
    site = parse_site(ours[name], name) if name in ours else read_site(ROOT / "cluster", name)
    site, paths = replace(site, python="python"), RunPaths(Path("runs/depth"))
    text = "\n".join(sbatch_texts(site, paths, "srcgcnn-depth", GROUPS).values()).replace(str(here), "/shared")
    golden = GOLDEN / f"sbatch_{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_site_file_of_the_project_is_valid_and_the_commented_values_of_slurm_toml_are_the_defaults():
    for path in (ROOT / "cluster").glob("*.toml"):
        assert read_site(ROOT / "cluster", path.stem).kind in ("local", "ray", "slurm")
    assert read_site(ROOT / "cluster", "slurm") == SlurmSite()
    assert isinstance(read_site(ROOT / "cluster", "local"), LocalSite)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "pbs"}, "known kinds: local, slurm, ray"),
        ({"kind": "slurm", "acount": "a"}, "known keys: account"),
        ({"kind": "slurm", "worker": {"gpu": 1}}, "known keys: constraint, count"),
        ({"kind": "slurm", "worker": {"gpu_form": "gpu"}}, "gpu_form"),
        ({"kind": "slurm", "worker": {"count": 0}}, "count=0 must be positive"),
        ({"kind": "slurm", "cpus_per_group": 8}, "do not fit worker.cpus=4"),
        ({"kind": "slurm", "gpus_per_group": 2}, "do not fit worker.gpus=1"),
        ({"kind": "slurm", "port_range": [20000, 20001]}, "at least 10 ports"),
        ({"kind": "slurm", "environment": {"A B": "1"}}, "not the name of a variable"),
        ({"kind": "slurm", "worker": {"time_min": 1}}, "leaves no time"),
        ({"kind": "slurm", "max_jobs": 1}, "max_jobs=1"),
        ({"kind": "slurm", "gang": True, "more_workers": [{}]}, "take more_workers out"),
        ({"kind": "slurm", "more_workers": [{"gpus": 0}]}, "do not fit worker.gpus=0"),
    ],
)
def test_a_wrong_site_file_is_refused_with_what_is_allowed(values, message):
    with pytest.raises(RecordError, match=message):
        parse_site(values, "site.toml")


def test_workers_are_as_many_as_are_of_use_and_arrays_no_longer_than_the_site_allows():
    site = SlurmSite(worker=WorkerRequest(count=2500, cpus=4, gpus=0))
    assert site.groups_on(site.worker) == 4
    assert site.worker_counts(9) == [3]
    assert worker_arrays(site, 100_000) == [WorkerArray(0, 1000), WorkerArray(0, 1000), WorkerArray(0, 500)]
    assert SlurmSite(gpus_per_group=0.5).workers == 8


def test_a_second_kind_of_worker_takes_what_the_first_leaves_and_no_user_limit_is_passed():
    site = SlurmSite(worker=WorkerRequest(count=4, gpus=2), more_workers=(WorkerRequest(count=6, max_array_size=4),))
    assert site.worker_counts(7) == [4, 0]
    assert site.worker_counts(11) == [4, 3]
    assert site.workers == 14
    assert worker_arrays(site, 99) == [WorkerArray(0, 4), WorkerArray(1, 4), WorkerArray(1, 2)]
    assert replace(site, max_jobs=6).worker_counts(99) == [4, 1]
    assert replace(site, max_jobs=3).worker_counts(99) == [2, 0]


def test_a_dropped_line_is_that_option_and_no_other(here):
    site = SlurmSite(drop=("mem", "nodes"), extra={"mem-bind": "local"})
    text = build_executor(site, here, HeadRequest(), "depth").text(["ask", "StoreJob"])
    assert "#SBATCH --mem-bind=local" in text
    assert "#SBATCH --mem=" not in text
    assert "#SBATCH --nodes" not in text


def test_the_login_node_loads_neither_torch_nor_ray_nor_mlflow():
    code = (
        "import sys, srcgcnn.launch.submission, srcgcnn.launch.status, srcgcnn.launch.slurm.site_check\n"
        "import srcgcnn.sweep.plan, srcgcnn.sweep.prepare, srcgcnn.cli.plan\n"
        "heavy = {'torch','ray','mlflow'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_request_of_a_sweep_survives_its_file(tmp_path):
    paths, request = RunPaths(tmp_path), LaunchRequest(parse_site(UNUSUAL, "unusual"), "sqlite:///x.db", "login1")
    write_request(paths, request)
    assert read_request(paths) == request


def test_the_tunnel_goes_through_the_login_node(monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    request = LaunchRequest(SlurmSite(), None, "login1.site.org")
    line = tunnel_command(request, HeadAddress("10.0.0.5:20000", "b", "17", "node5", 20002))
    assert line.startswith("ssh -N -L 20002:127.0.0.1:20002 -J ada@login1.site.org ada@node5")


def test_tokens_are_private_and_new_each_time(tmp_path):
    first, second = (write_token(tmp_path / "token", new_token()).read_text() for _ in range(2))
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert first != second == read_token(tmp_path / "token")


@pytest.mark.parametrize("damage", [None, b"", b"abc", b"\xff" * 64, b"g" * 64, b"0" * 63])
def test_a_damaged_token_is_none(tmp_path, damage):
    path = write_token(tmp_path / "token", new_token())
    path.unlink() if damage is None else path.write_bytes(damage)
    assert read_token(path) == ""


def test_temporary_folders_are_private_and_short(tmp_path):
    with pytest.raises(RayNodeError, match="shorten temp_folder"):
        private_folder(f"/tmp/{'x' * 40}", "w1")
    assert len(set(free_ports(3, (20000, 29999)))) == 3
    with pytest.raises(RayNodeError, match="widen port_range"):
        free_ports(3, (20000, 20001))


def test_a_folder_that_nobody_holds_goes_and_one_in_use_stays(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="s") as temp:
        first = private_folder(temp, "w1")
        assert first.stat().st_mode & 0o777 == first.parent.stat().st_mode & 0o777 == 0o700
        held = FileLock(first / ALIVE, is_singleton=False)
        held.acquire()
        second = private_folder(temp, "w1", restarts=1)
        assert first.exists()
        assert second != first
        held.release()
        private_folder(temp, "w1", restarts=1)
        assert not first.exists()
        second.parent.chmod(0o755)
        with pytest.raises(RayNodeError, match="only you can enter"):
            private_folder(temp, "w1")


class ActorError(RuntimeError):
    preempted = False


RayActorError = type("RayActorError", (ActorError,), {})


def test_own_errors_count_and_lost_nodes_do_not(monkeypatch):
    alive = {"10.0.0.1": frozenset({"a"}), "10.0.0.2": frozenset({"b"})}
    budget = RetryBudget(1, lambda: alive)
    clock = [0.0]
    monkeypatch.setattr("srcgcnn.driver.retries.time.monotonic", lambda: clock[0])
    for _ in range(9):
        budget.failed("left", HandedBackError("time"), "10.0.0.1")
        budget.failed("lost", RayActorError(), "10.0.0.2")
        budget.failed("gone", RayActorError(), "10.0.0.9")
    for _ in range(2):
        budget.failed("wrong", ValueError("shape"), "10.0.0.1")
        budget.failed("killed", RayActorError(), "10.0.0.1")
    assert budget.spent("wrong")
    assert not budget.spent("killed")  # perhaps its node goes, too
    alive.pop("10.0.0.2")
    clock[0] = JUDGE_AFTER_S
    budget.settle()
    assert budget.spent("killed")
    assert not any(budget.spent(key) for key in ("left", "lost", "gone"))


def test_a_process_that_dies_before_it_is_heard_of_counts_unless_a_node_went(monkeypatch):
    alive = {"10.0.0.1": frozenset({"a"}), "10.0.0.2": frozenset({"b"})}
    budget = RetryBudget(1, lambda: alive)
    clock = [0.0]
    monkeypatch.setattr("srcgcnn.driver.retries.time.monotonic", lambda: clock[0])
    for node in ("10.0.0.2", None):
        for _ in range(2):
            budget.failed("crash", RayActorError(), "")
        alive.pop(node, None)
        clock[0] += JUDGE_AFTER_S
        budget.settle()
        assert budget.spent("crash") == (node is None)


def test_a_node_asks_its_groups_to_stop_by_a_file_or_by_the_clock(monkeypatch, tmp_path):
    assert not stop_asked()
    monkeypatch.setenv(NODE_FOLDER, str(tmp_path))
    monkeypatch.setenv(DEADLINE, "9e9")
    with counted_as_running():
        assert running_groups(tmp_path) == 1
    assert running_groups(tmp_path) == 0
    assert not stop_asked()
    (tmp_path / STOP_FILE).touch()
    assert stop_asked()
    (tmp_path / STOP_FILE).unlink()
    monkeypatch.setenv(DEADLINE, "1")
    assert stop_asked()


@pytest.mark.parametrize("step_s", [-7200.0, 0.0, 7200.0])
@pytest.mark.parametrize("told", [("SLURM_JOB_START_TIME", "SLURM_JOB_END_TIME"), ("SLURM_JOB_END_TIME",), ()])
def test_a_clock_that_is_wrong_moves_no_time_limit(monkeypatch, step_s, told):
    """A node whose clock was two hours ahead put every job back in the queue at once, for ever."""
    now = time.time() + step_s  # the controller's clock, as a node that is wrong sees it
    for name, at in (("SLURM_JOB_START_TIME", now), ("SLURM_JOB_END_TIME", now + 1800)):
        monkeypatch.setenv(name, str(at)) if name in told else monkeypatch.delenv(name, raising=False)
    left = SlurmAllocation().ends_at(30) - time.monotonic()
    assert left == pytest.approx(1800, abs=30)


def test_a_log_on_a_full_disk_loses_its_lines_and_nothing_else(tmp_path):
    for path in (Path("/dev/full"), tmp_path / "log"):  # the first has no space, ever
        with open_log(path) as log:
            log.write("one line\n")
            log.write("x" * 100_000 + "\n")
    with open_log(tmp_path / "log") as log:
        log.write("the last\n")
    assert (tmp_path / "log").read_text() == "one line\n" + "x" * 100_000 + "\nthe last\n"


def test_a_group_starts_where_it_fits_or_where_no_job_could_hold_it(monkeypatch, tmp_path):
    assert fits_time_left(1e9)  # a sweep on one machine has no limit
    monkeypatch.setenv(NODE_FOLDER, str(tmp_path))
    monkeypatch.setenv(ALLOCATION_S, "3600")
    monkeypatch.setenv(DEADLINE, str(time.monotonic() + 1000))
    assert fits_time_left(None)
    assert fits_time_left(900)
    assert not fits_time_left(1100)
    monkeypatch.setenv(DEADLINE, str(time.monotonic() + 2000))
    assert fits_time_left(1e9)
    assert not too_full_for_more(tmp_path)
    take_no_more()
    assert too_full_for_more(tmp_path)


@pytest.mark.parametrize("place", ["site", "head", "worker"])
@pytest.mark.parametrize("extra", [{"nice=1\n#SBATCH --wrap": "x"}, {"comment": "a\nrm -rf ~"}, {"a b": 1}, {"": 1}])
def test_an_option_cannot_become_another_line(place, extra):
    data = {"kind": "slurm", "extra": extra} if place == "site" else {"kind": "slurm", place: {"extra": extra}}
    with pytest.raises(RecordError, match="extra"):
        parse(SlurmSite, data, "site.toml")
