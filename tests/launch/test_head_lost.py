"""Heads that die, submissions at the same moment, and damaged files: with commands that play SLURM, and real jobs."""

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from played_slurm import play, put_on_path, running
from tracked_sweep import a_result
from worker_job import WORKER

from srcgcnn.cli.status import status_text
from srcgcnn.files import KeptFiles
from srcgcnn.launch.deaths import MOST_DEATHS, note_death, read_deaths
from srcgcnn.launch.head_watch import HeadWatch, answers
from srcgcnn.launch.rendezvous import (
    HeadAddress,
    JobIds,
    LaunchRequest,
    SweepEndRecord,
    WorkerNote,
    read_jobs,
    read_request,
    write_record_file,
    write_request,
)
from srcgcnn.launch.site import parse_site
from srcgcnn.launch.slurm.system import Slurm
from srcgcnn.launch.start import main as start
from srcgcnn.launch.status import status_of
from srcgcnn.models.config import ModelConfig
from srcgcnn.records import RecordError, read_if_whole
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.record import SweepRecord, read_record, write_record
from srcgcnn.sweep.spec import read_spec

SBATCH = """
sleep 0.3
flock {queue} sh -c 'n=$(($(cat {count}) + 1)); echo $n > {count}; echo $n >> {queue}; echo "Submitted batch job $n"'
"""
DEFINITION = Path(__file__).resolve().parents[2] / "sweeps" / "depth.toml"
SITE = {"kind": "slurm", "worker": {"gpus": 0, "count": 1}}


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """SLURM's queue as a file of job ids; the next job is 101."""
    commands, queue, count = tmp_path / "bin", tmp_path / "queue", tmp_path / "count"
    queue.write_text("")
    count.write_text("100")
    commands.mkdir()
    put_on_path(commands, monkeypatch)
    play(commands, "squeue", running(queue))
    play(commands, "sbatch", SBATCH.format(queue=queue, count=count))
    return queue


@pytest.fixture
def paths(tmp_path, temp_folder, trial_of, demo_store):
    """A sweep that was submitted: head 17, workers 18."""
    paths = RunPaths(tmp_path / "out")
    axes = {"models": ["srcgcnn"], "depths": [2], "norms": ["step"], "alphas": ["none"], "seeds": 1}
    spec = read_spec(DEFINITION, {"name": "depth", "axes": axes})
    data = trial_of(ModelConfig("srcgcnn", 2)).data
    write_record(paths, SweepRecord(spec, data, str(demo_store.folder), "depth_sweep.py"))
    write_request(paths, LaunchRequest(parse_site({**SITE, "temp_folder": temp_folder}, "site")))
    write_record_file(paths.jobs, JobIds("17", ("18",)))
    return paths


def silent_head(paths, job="17"):
    """Write the address of a head that is dead: nothing listens there."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    write_record_file(paths.head_address, HeadAddress(f"127.0.0.1:{port}", "boot", job, "n1"))


@contextmanager
def worker(paths, job):
    """A worker job; it is told that the sweep is over at the end."""
    variables = {**os.environ, "SLURM_JOB_ID": job}
    started = subprocess.Popen([sys.executable, "-c", WORKER, str(paths.out)], env=variables, stdout=subprocess.PIPE)
    try:
        yield
    finally:
        write_record_file(paths.sweep_end, SweepEndRecord(0, "17"))
        assert b"the sweep is over" in started.communicate(timeout=200)[0]


def wait_for(condition, seconds=200.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.full
def test_workers_replace_a_head_whose_job_is_gone_by_one_new_head(paths, queue):
    queue.write_text("18\n19\n")
    silent_head(paths)
    with worker(paths, "18"), worker(paths, "19"):
        wait_for(lambda: read_jobs(paths).head == "101")
        time.sleep(3)
        assert not paths.head_address.exists()
        assert read_jobs(paths) == JobIds("101", ("18",), ("17",))
        assert queue.read_text().split() == ["18", "19", "101"]
        assert read_deaths(paths).deaths == 1


@pytest.mark.full
def test_what_a_new_head_needs_is_restored_when_it_is_damaged_while_there_is_no_head(paths, queue):
    """Found by random faults: the head was killed, then sweep.json removed, and nobody wrote it again."""
    request, record = read_request(paths), read_record(paths)
    paths.launched_spec.write_bytes(paths.spec.read_bytes())
    queue.write_text("18\n")
    silent_head(paths)
    with worker(paths, "18"):
        wait_for(lambda: read_if_whole(WorkerNote, paths.worker_note("18")))
        paths.spec.unlink()
        paths.launch_request.write_bytes(paths.launch_request.read_bytes()[:20])
        wait_for(lambda: read_jobs(paths).head == "101")
        assert read_record(paths) == record
        assert read_request(paths) == request


@pytest.mark.parametrize(
    ("status", "jobs", "end", "heads"),
    [
        (137, JobIds("17", ("18",)), None, ["17", "101"]),
        (1, JobIds("17", ("18",)), None, ["17", "101"]),
        (1, JobIds("17", ("18",)), SweepEndRecord(1, "17"), ["17"]),  # some trials failed: it said so
        (143, JobIds("17", ("18",)), None, ["17"]),  # SLURM ends the job: somebody wants that, or it comes back
        (137, JobIds("42", ("18",)), None, ["17"]),  # a worker was quicker
    ],
    ids=["killed", "crashed", "ended", "terminated", "replaced"],
)
def test_the_job_of_a_head_that_died_submits_another_one_with_nobody_else_there(
    paths, queue, monkeypatch, status, jobs, end, heads
):
    """Found by random faults: all workers were cancelled within the seconds in which the head was killed."""
    queue.write_text("17\n")
    write_record_file(paths.jobs, jobs)
    if end is not None:
        write_record_file(paths.sweep_end, end)
    silent_head(paths)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert start(["end-of-head", str(paths.out), str(status)]) == 0
    assert queue.read_text().split() == heads
    assert (read_jobs(paths).head == "101") == (len(heads) == 2)
    assert read_deaths(paths).deaths == len(heads) - 1
    if status == 1 and len(heads) == 2:
        assert "it ended with status 1" in read_deaths(paths).reason


def test_the_text_of_a_head_job_keeps_the_status_of_the_head(paths):
    text = Slurm().texts(read_request(paths).site, paths, "depth", 1)["head"]
    script = text[text.index("# command") :]
    assert re.search(r"srun .* head \S+/out$", script, re.MULTILINE)
    lines = script.splitlines()
    last = [line for line in lines if line][-3:]
    assert last[0] == "status=$?"
    assert last[1].endswith(f"end-of-head {paths.out} $status")
    assert last[2] == "exit $status"


def test_a_head_that_cannot_be_submitted_is_no_death(paths, queue, tmp_path, monkeypatch, capsys):
    """However often it is tried: while SLURM refuses jobs a sweep is not given up."""
    play(tmp_path / "bin", "sbatch", "echo 'no jobs today' >&2; exit 1")
    monkeypatch.setattr("srcgcnn.launch.head_watch.SILENT_S", 0.0)
    monkeypatch.setattr("srcgcnn.launch.head_watch.ASK_INTERVAL_S", 0.0)
    watch = HeadWatch(paths, Slurm(), read_request(paths).site)
    for _ in range(MOST_DEATHS + 1):
        watch.missed()
    assert "no jobs today" in capsys.readouterr().out
    assert read_deaths(paths).deaths == 0
    assert not paths.sweep_end.exists()


@pytest.mark.parametrize(("queued", "heads"), [("18", ["17", "101"]), ("17 18", ["17"])])
def test_a_worker_that_leaves_looks_whether_there_is_a_head(paths, queue, queued, heads):
    """Found by random faults: the last workers left an idle cluster whose head was dead, with a trial still to do."""
    queue.write_text(queued)
    HeadWatch(paths, Slurm(), read_request(paths).site).leaving()
    jobs = read_jobs(paths)
    assert [*jobs.earlier, jobs.head] == heads


HOLDING_SQUEUE = """
for id in $(cat {queue}); do
  [ $id = 17 ] && echo "17|{state}||0:00|9:00|{reason}" || echo "$id|RUNNING|n1|1:00|9:00|None"
done
"""


@pytest.mark.parametrize(
    ("state", "reason", "replaced"),
    [
        ("PENDING", "launch failed requeued held", True),
        ("REQUEUE_HOLD", "JobHoldMaxRequeue", True),
        ("PENDING", "JobHeldUser", False),  # somebody wants that
        ("PENDING", "Resources", False),
    ],
)
def test_a_head_that_slurm_holds_for_a_person_is_replaced(paths, queue, tmp_path, state, reason, replaced):
    """SLURM requeues a job as held if the prolog of its node fails."""
    play(tmp_path / "bin", "squeue", HOLDING_SQUEUE.format(queue=queue, state=state, reason=reason))
    play(tmp_path / "bin", "scancel", f"sed -i /^$1$/d {queue}")
    queue.write_text("17\n18\n")
    HeadWatch(paths, Slurm(), read_request(paths).site).leaving()
    assert read_jobs(paths).head == ("101" if replaced else "17")
    assert queue.read_text().split() == (["18", "101"] if replaced else ["17", "18"])


def test_an_address_without_a_port_is_one_where_nobody_answers():
    assert not answers("10.0.0.1")


@pytest.mark.full
def test_a_head_that_the_queue_still_has_is_waited_for(paths, queue):
    queue.write_text("17\n18\n")
    silent_head(paths)
    with worker(paths, "18"):
        wait_for(paths.head_missed.exists)
        time.sleep(3)
        assert read_jobs(paths).head == "17"
        assert paths.head_address.exists()


@pytest.mark.full
def test_heads_that_die_without_a_new_result_are_given_up_and_status_says_so(paths, queue):
    queue.write_text("18\n")
    for _ in range(MOST_DEATHS - 1):
        assert not note_death(paths, "out of memory")
    with worker(paths, "18"):
        wait_for(paths.sweep_end.exists)
        assert f"died {MOST_DEATHS} times without a single new result" in status_text(status_of(paths), paths)
    assert queue.read_text().split() == ["18"]


@pytest.mark.full
def test_a_head_whose_ray_dies_at_every_start_goes_back_to_the_queue_and_ends_in_the_end(paths, queue, tmp_path):
    queue.write_text("17\n")
    asked = tmp_path / "asked"
    for name in ("scontrol", "scancel"):
        play(tmp_path / "bin", name, f'echo {name} "$@" >> {asked}')
    broken = tmp_path / "broken" / "ray" / "scripts"
    broken.mkdir(parents=True)
    for package in (broken.parent, broken):
        (package / "__init__.py").write_text("")
    (broken / "scripts.py").write_text("raise SystemExit('Ray has no memory here')")
    python = f"{tmp_path / 'broken'}:{os.environ.get('PYTHONPATH', '')}"
    variables = {**os.environ, "SLURM_JOB_ID": "17", "PYTHONPATH": python}
    command = [sys.executable, "-m", "srcgcnn.launch.slurm.calls", str(paths.out)]
    statuses = [
        subprocess.run(command, env=variables, capture_output=True, timeout=120, check=False).returncode
        for _ in range(MOST_DEATHS)
    ]
    assert statuses == [143] * (MOST_DEATHS - 1) + [2]
    assert asked.read_text().splitlines() == ["scontrol requeue 17"] * (MOST_DEATHS - 1) + [
        "scancel --state=PENDING 18"
    ]
    end = read_if_whole(SweepEndRecord, paths.sweep_end)
    assert end.status == 2
    assert f"died {MOST_DEATHS} times" in end.reason
    assert "Ray has no memory here" in end.reason
    assert not paths.head_address.exists()


@pytest.mark.full
def test_a_head_on_an_unfit_node_goes_back_to_the_queue(paths, queue, tmp_path):
    queue.write_text("17\n")
    write_request(paths, LaunchRequest(parse_site({**SITE, "interface": "no0"}, "site")))
    asked = tmp_path / "asked"
    play(tmp_path / "bin", "scontrol", f'echo "$@" >> {asked}')
    command = [sys.executable, "-m", "srcgcnn.launch.slurm.calls", str(paths.out)]
    variables = {**os.environ, "SLURM_JOB_ID": "17"}
    assert subprocess.run(command, env=variables, timeout=120, check=False).returncode == 143
    assert asked.read_text() == "requeue 17\n"
    assert "interface='no0' has no address" in read_deaths(paths).reason
    assert not paths.sweep_end.exists()


@pytest.mark.parametrize("damage", [None, b"", b"{", b"[1, 2]"])
def test_a_damaged_request_is_read_from_its_copy_that_nobody_else_can_read(paths, damage):
    request = read_request(paths)
    assert [path.stat().st_mode & 0o777 for path in paths.launch.glob("request*")] == [0o600] * 2
    for path in (paths.launch_request, paths.launch_request_copy):
        path.unlink() if damage is None else path.write_bytes(damage)
        if path == paths.launch_request:
            assert read_request(paths) == request
    with pytest.raises(RecordError, match=r"never on a cluster|request\.copy\.json: not readable"):
        read_request(paths)


def test_a_new_result_forgives_the_deaths_before_it(paths):
    for _ in range(MOST_DEATHS - 1):
        note_death(paths, "killed")
    paths.results.mkdir()
    paths.result("a").write_text("{}")
    assert read_deaths(paths).deaths == 0
    assert not note_death(paths, "killed")


@pytest.mark.full
def test_status_and_resume_believe_the_queue(paths, queue):
    queue.write_text("18\n")
    silent_head(paths)
    assert "its head is gone" in status_text(status_of(paths), paths)
    command = [sys.executable, "-m", "srcgcnn", "resume", str(paths.out)]
    assert "head 101" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert read_jobs(paths) == JobIds("101", ("18",), ("17",))
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "already been submitted" in refused.stderr


@pytest.mark.full
def test_of_two_submissions_in_the_same_second_one_is_refused(paths, queue, tmp_path):
    paths.jobs.unlink()
    record = read_record(paths)
    plan = plan_sweep(record.spec, record.data, paths)
    command = [sys.executable, "-m", "srcgcnn", "resume", str(paths.out)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(2)]
    said = b"".join(each.communicate(timeout=200)[1] for each in both)
    assert sorted(each.returncode for each in both) == [0, 2]
    assert b"already been submitted" in said
    assert queue.read_text().split() == ["101", "102"]  # one head, one worker
    assert plan.groups


def test_a_sweep_whose_last_word_is_missing_is_over_when_nothing_is_left(paths, queue):
    record = read_record(paths)
    for trial in plan_sweep(record.spec, record.data, paths).trials:
        write_result(paths, a_result(trial))
    assert "finished" in status_text(status_of(paths), paths).splitlines()[0]


DAMAGED = (b"\xff\xfe\x00garbled", b"", b"[1, 2]", b'{"other": 1}', b"{" * 5000)


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_named_and_readers_go_on(paths, queue, capfd, content):
    for path in (paths.head_address, paths.backlog, paths.jobs, paths.progress, paths.sweep_end, paths.head_deaths):
        path.write_bytes(content)
    for _ in range(2):
        status_text(status_of(paths), paths)
    said = capfd.readouterr().err
    for path in (paths.head_address, paths.backlog, paths.jobs, paths.progress, paths.sweep_end, paths.head_deaths):
        assert said.count(str(path)) == 1
    paths.spec.write_bytes(content)
    with pytest.raises(RecordError, match=r"sweep\.json"):
        read_record(paths)


@pytest.mark.parametrize("content", [None, *DAMAGED])
def test_files_that_somebody_answers_for_are_written_again(tmp_path, content):
    path, kept = tmp_path / "head.json", KeptFiles()
    write_record_file(path, JobIds("1"))
    kept.keep(path)
    path.unlink() if content is None else path.write_bytes(content)
    kept.mend_if_due()
    assert read_if_whole(JobIds, path) == JobIds("1")


@pytest.mark.parametrize("content", [None, *DAMAGED])
def test_a_whole_change_by_others_is_kept_and_damage_is_not(tmp_path, monkeypatch, content):
    monkeypatch.setattr("srcgcnn.files.MEND_INTERVAL_S", 0.0)
    path, kept = tmp_path / "jobs.json", KeptFiles()
    write_record_file(path, JobIds("1"))
    kept.keep(path, lambda changed: read_if_whole(JobIds, changed) is not None)
    write_record_file(path, JobIds("1", ("2",)))
    kept.mend_if_due()
    assert read_if_whole(JobIds, path) == JobIds("1", ("2",))
    path.unlink() if content is None else path.write_bytes(content)
    kept.mend_if_due()
    assert read_if_whole(JobIds, path) == JobIds("1", ("2",))


def test_a_file_that_nobody_answers_for_any_more_stays_away(tmp_path):
    path, kept = tmp_path / "head.json", KeptFiles()
    write_record_file(path, JobIds("1"))
    kept.keep(path)
    kept.drop(path)
    path.unlink()
    kept.mend_if_due()
    assert not path.exists()
