"""The private folder and the ports of a Ray node."""

import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from srcgcnn.launch.agent_ports import AgentPorts
from srcgcnn.launch.ray_node import (
    ALIVE,
    RayNode,
    RayNodeError,
    free_ports,
    private_folder,
    ray_environment,
    remove_private_folder,
    wait_for_port,
)
from srcgcnn.launch.ray_processes import RayProcesses
from srcgcnn.launch.token import new_token, write_token


def test_temporary_folders_are_private_and_short(tmp_path):
    with pytest.raises(RayNodeError, match="shorten temp_folder"):
        private_folder(f"/tmp/{'x' * 40}", "w1")
    assert len(set(free_ports(3, (20000, 29999)))) == 3
    with pytest.raises(RayNodeError, match="widen port_range"):
        free_ports(3, (20000, 20001))


def test_a_folder_that_was_killed_before_it_was_held_goes_too():
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="s") as temp:
        first = private_folder(temp, "w1")
        os.utime(first, (0, 0))
        fresh = private_folder(temp, "w2")
        assert not first.exists()
        private_folder(temp, "w3")
        assert fresh.exists()  # it may be about to be held


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


A_RAYLET_TO_BE = """
import os, pathlib, sys
pathlib.Path("/proc/self/comm").write_text("raylet")
print("named", flush=True)
arguments = sys.stdin.readline().split()
os.execv(sys.executable, [sys.executable, "-c", "print('started', flush=True); input()", *arguments])
"""


def test_a_raylet_that_has_no_arguments_yet_learns_its_ports_later(tmp_path):
    """A program has its new name a moment before its arguments, and a busy machine makes that moment long."""
    ray = RayProcesses(psutil.Process(), AgentPorts(listen=1, grpc=2, runtime_env=3))
    command = [sys.executable, "-c", A_RAYLET_TO_BE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as raylet:
        assert raylet.stdout.readline() == "named\n"
        ray.look()
        assert not ray.raylet_told
        raylet.stdin.write(f"--session_dir={tmp_path} --node_id=n\n")
        raylet.stdin.flush()
        assert raylet.stdout.readline() == "started\n"
        ray.look()
        assert ray.raylet_told
        assert ray.dead is None
        assert (tmp_path / "metrics_agent_port_n").read_text() == "2"
        raylet.stdin.write("\n")
    assert ray.dead.pid == raylet.pid


A_TASK = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
task = ray.remote(lambda: __import__("os").environ["GIVEN"]).options(runtime_env={"env_vars": {"GIVEN": "all is well"}})
print(ray.get(task.remote()))
"""


@pytest.mark.full
def test_a_node_whose_agents_start_slowly_stays_up_and_works():
    """Ray by itself gives them 15 s. Nobody checks the node in that time: a head may wait for disk space."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="s") as temp:
        folder = private_folder(temp, "h1")
        port, *of_agents = free_ports(4, (20000, 29999))
        environment = ray_environment(write_token(folder / "token", new_token()))
        arguments = ["--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=1", "--num-gpus=0"]
        arguments += ["--include-dashboard=false"]
        node = RayNode(folder, arguments, environment, math.inf, AgentPorts(*of_agents))
        try:
            wait_for_port(node, "127.0.0.1", port)
            frozen = [frozen_agent(node, name) for name in ("dashboard/agent.py", "runtime_env/agent/main.py")]
            time.sleep(20)
            assert node.check(), node.log
            for agent in frozen:
                agent.resume()
            task = [sys.executable, "-c", A_TASK, f"127.0.0.1:{port}"]
            done = subprocess.run(task, env=environment, capture_output=True, text=True, timeout=200, check=False)
            assert "all is well" in done.stdout, done.stderr + node.log
            assert node.check()
        finally:
            node.end()
            remove_private_folder(folder)


def frozen_agent(node, name):
    """Wait for one of the agents that a raylet starts, and stop it as soon as it is there."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for process in psutil.Process(node._process.pid).children(recursive=True):
            if Path(process.exe()).name.startswith("python") and name in " ".join(process.cmdline()):
                process.suspend()
                return process
        time.sleep(0.05)
    raise AssertionError(f"no {name}: {node.log}")
