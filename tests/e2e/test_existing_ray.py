"""A sweep on a Ray cluster that somebody else started: two nodes on this machine, there afterwards as before."""

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from srcgcnn.launch.ray_node import free_ports
from tests.e2e.test_sweep import Sweep

pytestmark = pytest.mark.full

TWO = ("--depths", "1", "2", "--norms", "step", "--alphas", "none", "--seeds", "2", "--epochs", "3")
NODES = """
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False)
print(sum(node["Alive"] for node in ray.nodes()))
print(len({ray.get(reference) for reference in [ray.remote(lambda: __import__("os").getpid()).remote()]}))
"""


@pytest.fixture
def cluster(monkeypatch):
    """A head and a node of one core each; ended by us, who started them."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r") as folder:
        token = Path(folder) / "token"
        token.write_text(secrets.token_hex(32))
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        port, client, agent, second = free_ports(4, (20000, 29999))
        address = f"127.0.0.1:{port}"
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--num-gpus=0"]
        start += ["--object-store-memory=100000000", "--disable-usage-stats", "--node-ip-address=127.0.0.1"]
        head = ["--head", f"--port={port}", f"--ray-client-server-port={client}", "--include-dashboard=false"]
        head += [f"--temp-dir={folder}/h", f"--dashboard-agent-listen-port={agent}"]
        node = [f"--address={address}", f"--dashboard-agent-listen-port={second}"]
        log = (Path(folder) / "log").open("w")
        started = [subprocess.Popen([*start, *head], stdout=log, stderr=log)]
        try:
            _wait_for_nodes(address, 1)
            started.append(subprocess.Popen([*start, *node], stdout=log, stderr=log))
            _wait_for_nodes(address, 2)
            yield address
        finally:
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait(60)
            log.close()


def _nodes(address):
    command = [sys.executable, "-c", NODES, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return int(done.stdout.split()[0]) if done.returncode == 0 else 0


def _wait_for_nodes(address, count):
    for _ in range(20):
        if _nodes(address) == count:
            return
    raise AssertionError(f"{count} nodes: not there")


def test_a_sweep_joins_a_cluster_that_runs_and_leaves_it_as_it_was(cluster, tmp_path):
    sweep = Sweep(tmp_path)
    (tmp_path / "site.toml").write_text(f'kind = "ray"\naddress = "{cluster}"\nparallel_groups = 2\n')
    said = sweep.run(*TWO)
    assert "2 nodes" in said
    assert _nodes(cluster) == 2
    assert "0 to train" in sweep.run(*TWO)
    environment = dict(os.environ)
    assert "RAY_ADDRESS" not in environment
    assert sweep.numbers() == sweep.calm_numbers()


def test_a_cluster_that_is_not_there_is_named(tmp_path):
    sweep = Sweep(tmp_path)
    (tmp_path / "site.toml").write_text('kind = "ray"\naddress = "127.0.0.1:9"\n')
    command = sweep.command(*TWO)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 2
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
