"""Whoever cancels a sweep gets all of it, and nothing else."""

import json
import os
import subprocess
import sys

import psutil
import pytest
from played_slurm import play, put_on_path, running
from set_clock import proc_of_a_clock_set_forward

from srcgcnn.cli.main import main
from srcgcnn.launch.cancel import cancel_sweep
from srcgcnn.launch.rendezvous import JobIds, SweepEndRecord, write_record_file
from srcgcnn.records import read_if_whole
from srcgcnn.run.paths import RunPaths

SCANCEL = """
sed -i "$(printf 's/\\\\b%s\\\\b//;' "$@")" {queue}
[ -e {late} ] && mv {late} {jobs} && echo 19 >> {queue}
exit 0
"""


def play_slurm(folder, monkeypatch, files, scancel):
    """Put a queue and a way to cancel on PATH."""
    put_on_path(folder, monkeypatch)
    play(folder, "squeue", running(files["queue"]))
    play(folder, "scancel", scancel.format(**files))


@pytest.mark.full
def test_cancel_takes_the_workers_that_the_head_submitted_in_its_last_second(tmp_path, monkeypatch):
    paths = RunPaths(tmp_path / "out")
    files = {"queue": tmp_path / "queue", "late": tmp_path / "late", "jobs": paths.jobs}
    write_record_file(paths.jobs, JobIds("17", ("18",)))
    write_record_file(files["late"], JobIds("17", ("18", "19")))
    files["queue"].write_text("17 18")
    play_slurm(tmp_path, monkeypatch, files, SCANCEL)
    assert cancel_sweep(paths) == ["17", "18", "19"]
    assert files["queue"].read_text().split() == []
    end = read_if_whole(SweepEndRecord, paths.sweep_end)  # what no worker replaces a head after
    assert (end.status, end.reason) == (130, "cancelled")


REQUEUED = """
echo x >> {calls}
[ $(wc -l < {calls}) -gt 2 ] && : > {queue}
exit 0
"""


@pytest.mark.full
def test_cancel_takes_a_head_that_was_requeued_in_its_last_second(tmp_path, monkeypatch):
    paths, files = RunPaths(tmp_path / "out"), {"queue": tmp_path / "queue", "calls": tmp_path / "calls"}
    write_record_file(paths.jobs, JobIds("17"))
    files["queue"].write_text("17")
    play_slurm(tmp_path, monkeypatch, files, REQUEUED)
    assert cancel_sweep(paths) == ["17"]


DRIVER = """
import sys, time
from pathlib import Path

import pytest
from srcgcnn.launch.local import terminating_as_ctrl_c
from srcgcnn.driver.noted import noted_driver
from srcgcnn.run.paths import RunPaths
with noted_driver(RunPaths(Path(sys.argv[1]))), terminating_as_ctrl_c():
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("shell", ["", "trap '' INT; "], ids=["in front", "with & behind it"])
@pytest.mark.full
def test_cancel_stops_the_driver_of_this_machine_and_no_other_process(shell, tmp_path, capsys):
    paths = RunPaths(tmp_path)
    paths.results.mkdir()
    command = ["sh", "-c", shell + 'exec "$@"', "sh", sys.executable, "-c", DRIVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as driver:
        try:
            assert driver.stdout.readline() == b"up\n"
            note = json.loads(paths.driver.read_text())
            assert main(["cancel", str(tmp_path)]) == 0
            assert driver.wait(60) != 0
        finally:
            driver.kill()  # a test that fails does not wait for it
    assert "stopped" in capsys.readouterr().out
    assert not paths.driver.exists()
    reused = {**note, "pid": os.getpid()}  # the number of a process that has started since
    paths.driver.write_text(json.dumps(reused))
    assert main(["cancel", str(tmp_path)]) == 0
    assert "nothing of this sweep is running" in capsys.readouterr().out


@pytest.mark.full
def test_cancel_finds_the_driver_after_somebody_has_set_the_clock(tmp_path, monkeypatch, capsys):
    paths = RunPaths(tmp_path / "out")
    paths.results.mkdir(parents=True)
    command = [sys.executable, "-c", DRIVER, str(paths.out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as driver:
        try:
            assert driver.stdout.readline() == b"up\n"
            monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc_of_a_clock_set_forward(tmp_path / "proc", driver.pid)))
            assert main(["cancel", str(paths.out)]) == 0
            assert driver.wait(60) != 0
        finally:
            driver.kill()
    assert "stopped" in capsys.readouterr().out
