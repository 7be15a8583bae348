"""A driver that dies is started again; what it says at its end is passed on; nothing outlives a killed parent."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from srcgcnn.launch.supervisor import supervised

pytestmark = pytest.mark.full

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from srcgcnn.launch.supervisor import supervised
from srcgcnn.terminal import printable_output
folder, mode = Path(sys.argv[1]), sys.argv[2]
def run():
    starts = len(list(folder.iterdir()))
    if mode == "is deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    (folder / str(os.getpid())).touch()
    if mode == "dies twice" and starts < 2:
        os.kill(os.getpid(), signal.SIGKILL) if starts else os._exit(1)
    if mode == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "refuses":
        raise ValueError("depth=-1 must be positive")
    if mode == "prints":
        print("a line", flush=True)
    if mode in ("waits", "is deaf"):
        time.sleep(600)
    return 1
with printable_output():
    sys.exit(supervised(run, lambda: 0))
"""


def start(folder, mode, stdout=subprocess.PIPE):
    command = [sys.executable, "-c", SCRIPT, str(folder), mode]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("mode", "status", "starts", "said"),
    [
        ("ends", 1, 1, ""),
        ("dies twice", 1, 3, "the driver died of exit status 1; it continues"),
        ("dies", 1, 10, "died 10 times without a new result, the last time of signal 9"),
        ("refuses", 2, 1, "srcgcnn: depth=-1 must be positive"),
    ],
)
def test_a_driver_that_dies_is_started_again_and_its_end_is_passed_on(tmp_path, mode, status, starts, said):
    process = start(tmp_path, mode)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, len(list(tmp_path.iterdir()))) == (status, starts)
    assert said in errors


def test_a_disk_without_space_for_the_output_ends_nothing(tmp_path):
    with Path("/dev/full").open("w") as full:
        process = start(tmp_path, "prints", stdout=full)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (1, "")


def a_child(folder):
    end = time.monotonic() + 60
    while not (found := list(folder.iterdir())):
        assert time.monotonic() < end
        time.sleep(0.05)
    return psutil.Process(int(found[0].name))


def test_ctrl_c_reaches_the_driver_once_and_ends_it(tmp_path):
    process = start(tmp_path, "waits")
    a_child(tmp_path)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.count("stopping: ") == 1  # Ray takes its time


@pytest.mark.parametrize("to_the_driver", [False, True], ids=["its parent", "the driver"])
def test_sigterm_ends_the_driver_before_it_has_anything_of_ray(tmp_path, to_the_driver):
    """As `srcgcnn cancel` does, which sends it to the driver."""
    process = start(tmp_path, "waits")
    child = a_child(tmp_path)
    (child if to_the_driver else process).send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "it continues" not in told
    assert len(list(tmp_path.iterdir())) == 1


def test_a_signal_that_kills_the_driver_does_not_start_another_one(tmp_path):
    process = start(tmp_path, "is deaf")
    child = a_child(tmp_path)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    child.kill()
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(list(tmp_path.iterdir())) == 1


def test_another_thread_is_refused_before_anything_starts():
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="main thread"):
        pool.submit(supervised, lambda: os._exit(1), lambda: 0).result(timeout=60)


def test_ctrl_c_ends_the_driver_in_order_when_nobody_reads_any_more(tmp_path):
    """As in `srcgcnn sweep 2>&1 | tee log`, where the same Ctrl-C ends tee."""
    process = start(tmp_path, "waits")
    child = a_child(tmp_path)
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert not child.is_running()


def test_a_killed_parent_takes_its_driver_along(tmp_path):
    process = start(tmp_path, "waits")
    child = a_child(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    child.wait(timeout=60)


WITH_RAY = """
import sys
from pathlib import Path
from rich.console import Console
from srcgcnn.launch.local import local_ray, private_folder
from srcgcnn.launch.reaper import reaping
from srcgcnn.launch.site import LocalSite
from srcgcnn.launch.supervisor import supervised
from srcgcnn.run.paths import RunPaths
paths = RunPaths(Path(sys.argv[1]))
def run():
    site = LocalSite(cpus=1, dashboard=False)
    with private_folder() as scratch, reaping(scratch), local_ray(paths, site, scratch, Console()):
        return 0
sys.exit(supervised(run, lambda: 0))
"""


def test_a_ray_that_does_not_start_is_tried_again_and_none_waits_for_its_agents(tmp_path):
    without_ray = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", WITH_RAY, str(tmp_path)]
    with subprocess.Popen(command, env=without_ray, stderr=subprocess.PIPE, text=True) as process:
        first = below(process.pid, "/raylet ")
        first.kill()
        frozen = [below(process.pid, name, but=first.pid) for name in ("dashboard/agent.py", "agent/main.py")]
        _, errors = process.communicate(timeout=250)
    assert not [agent for agent in frozen if agent.is_running()]
    assert process.returncode == 0, errors
    assert errors.count("it continues from the result files") == 1, errors


def below(pid, words, but=0):
    """Wait for a process below another one by words of its command, and stop it; children of `but` do not count."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for one in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                command = f"{' '.join(one.cmdline()[:3])} "
                if words in command and one.ppid() != but:
                    one.suspend()
                    return one
        time.sleep(0.01)
    raise AssertionError(f"no {words}")
