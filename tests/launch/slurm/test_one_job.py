"""A job that answers is waited for through what happens to queues; with commands that play SLURM."""

import json
import threading

import pytest
from played_slurm import play, put_on_path

from srcgcnn.launch.slurm import one_job
from srcgcnn.launch.slurm.one_job import PendingJob, wait_for_answer
from srcgcnn.launch.slurm.queue import SlurmError


@pytest.fixture
def job(tmp_path, monkeypatch):
    put_on_path(tmp_path, monkeypatch)
    monkeypatch.setattr(one_job, "FIRST_PAUSE_S", 0.05)
    play(tmp_path, "scancel", f"echo $@ >> {tmp_path / 'cancelled'}")
    call = tmp_path / "m.call.json"
    call.write_text("{}")
    return PendingJob("17", tmp_path / "17_0_log.out", call, tmp_path / "m.answer.json")


def answer_later(job, value, seconds):
    def answer():
        written = job.answer.with_suffix(".new")
        written.write_text(json.dumps({"value": value}))
        written.rename(job.answer)

    threading.Timer(seconds, answer).start()


RUNS = "echo '17|RUNNING|n1|1:00|9:00|None'"


@pytest.mark.parametrize("squeue", [RUNS, "echo busy >&2; exit 1", "exit 0"], ids=["runs", "fails", "gone"])
def test_an_answer_is_waited_for_while_the_job_runs_or_nobody_knows_and_a_little_longer(job, tmp_path, squeue):
    play(tmp_path, "squeue", squeue)
    answer_later(job, 3, 0.3)
    assert wait_for_answer(job) == 3
    assert not job.answer.exists()
    assert not job.call.exists()


def test_a_job_that_ended_without_an_answer_is_told_with_its_log(job, tmp_path, monkeypatch):
    monkeypatch.setattr(one_job, "LATE_S", 0.5)
    play(tmp_path, "squeue", "exit 0")
    job.log.write_text("Bus error")
    with pytest.raises(SlurmError, match="job 17 ended without an answer: Bus error"):
        wait_for_answer(job)


def test_a_job_that_waits_for_a_person_is_not_waited_for(job, tmp_path):
    play(tmp_path, "squeue", "echo '17|PENDING||0:00|9:00|launch failed requeued held'")
    with pytest.raises(SlurmError, match=r"held by SLURM \(launch failed requeued held\)"):
        wait_for_answer(job)
    assert (tmp_path / "cancelled").read_text() == "17\n"
