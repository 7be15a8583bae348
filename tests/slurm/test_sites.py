"""What sites differ in: no accounting, short arrays, one allocation for all, no work on login nodes, time that ends."""

import stat
import time

import pytest

from tests.slurm.conftest import lab, wait_for

NO_ACCOUNTING = "#!/bin/sh\necho asked >> {log}\nsleep 60\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n"


@pytest.mark.parametrize("sweep", [{"worker": {"count": 3, "max_array_size": 1}}], indirect=True)
def test_a_site_without_accounting_and_with_short_arrays(sweep, whole):
    log, stub = sweep.folder / "sacct.log", sweep.folder / "bin" / "sacct"
    stub.parent.mkdir()
    stub.write_text(NO_ACCOUNTING.format(log=log))
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    sweep.environment["PATH"] = f"{stub.parent}:{sweep.environment['PATH']}"
    sweep.submit()
    assert len(sweep.jobs.workers) == 3
    whole(sweep)
    assert not log.exists()  # nothing waits for accounting; `status` asks for a moment, and falls back on our clocks
    assert "measured by srcgcnn" in sweep.srcgcnn("status")


@pytest.mark.parametrize(
    "sweep", [{"drop": ["gres"], "replacements": 1, "worker": {"gpus": 1, "count": 2}}], indirect=True
)
def test_workers_that_get_no_devices_are_named_and_the_sweep_stops_instead_of_waiting_for_ever(sweep):
    sweep.submit()
    assert sweep.wait_for_end() == 130, sweep.logs()
    assert len(sweep.jobs.workers) == 2
    said = sweep.srcgcnn("status")
    assert "stopped" in said
    assert "SLURM gave this job 0" in said
    assert sweep.numbers() == {}


def test_a_gang_is_one_job_and_survives_a_requeue(sweep, whole):
    sweep.submit("--gang")
    assert len(sweep.jobs.all) == 1
    sweep.wait_until_training()
    assert len({line.split()[0] for line in sweep.queue()}) == 1
    lab("scontrol", "requeue", sweep.jobs.head)
    whole(sweep)
    assert sweep.resumes() >= 1


@pytest.mark.parametrize("sweep", [{"build": {"cpus": 1, "memory_gb": 1.0, "time_min": 5}}], indirect=True)
def test_graphs_are_built_by_a_job_where_the_site_wants_that(sweep, whole):
    said = sweep.submit()
    assert "waiting for job" in said
    assert list((sweep.folder / "stores" / "jobs").glob("*_log.out"))
    whole(sweep)
    assert "nothing is left" in sweep.submit()


def test_one_worker_can_be_cancelled_and_the_sweep_goes_on(sweep, whole):
    sweep.submit()
    sweep.wait_until_training()
    task = sweep.task(1)
    assert task in sweep.srcgcnn("cancel", "--job", task)
    wait_for(lambda: task not in lab("squeue", "-h", "-r", "-o", "%i").split(), "the job to be gone")
    time.sleep(1)
    sweep.srcgcnn("cancel", "--job", task, expect=2)
    whole(sweep)
