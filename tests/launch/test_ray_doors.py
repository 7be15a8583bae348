"""Every port on which a sweep's Ray listens, asked by somebody without the token: real nodes, real sockets."""

import http.client
import os
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest
from rich.console import Console

from srcgcnn.launch.head import Head
from srcgcnn.launch.local import local_ray, private_folder
from srcgcnn.launch.rendezvous import LaunchRequest, write_request
from srcgcnn.launch.site import LocalSite
from srcgcnn.launch.slurm.calls import system
from srcgcnn.launch.slurm.job import SlurmAllocation
from srcgcnn.launch.slurm_site import SlurmSite
from srcgcnn.run.paths import RunPaths

pytestmark = pytest.mark.full

START_S, ANSWER_S = 60, 10
PATHS = (
    "/metrics",
    "/api/version",
    "/api/jobs/",
    "/api/v0/actors",
    "/api/job_agent/jobs/",
    "/nodes",
    "/get_or_create_runtime_env",
)
REFUSED_HTTP = (401, 403)
# One method of every service that Ray's processes offer by gRPC; they take an empty message.
METHODS = (
    "NodeInfoGcsService/GetAllNodeInfo",
    "InternalKVGcsService/InternalKVKeys",
    "JobInfoGcsService/GetAllJobInfo",
    "ActorInfoGcsService/GetAllActorInfo",
    "NodeManagerService/GetNodeStats",
    "ObjectManagerService/FreeObjects",
    "ObjectManagerService/Pull",
    "ObjectManagerService/Push",
    "CoreWorkerService/GetCoreWorkerStats",
    "RayletDriver/ClusterInfo",
    "RayletDriver/Init",
    "ReporterService/GetTraceback",
    "LogService/ListLogs",
)
REFUSED_GRPC = {"UNAUTHENTICATED", "UNIMPLEMENTED"}  # nobody offers all of them


@dataclass(frozen=True)
class Port:
    """A port, where it listens, whose it is, and what it answers to somebody without the token."""

    address: str
    number: int
    owner: str
    http: tuple[int, ...]
    grpc: frozenset[str]

    @property
    def closed(self):
        """Whether it refuses everything; one that speaks neither protocol answers nothing."""
        http_closed = all(status in (0, *REFUSED_HTTP) for status in self.http)
        return http_closed and self.grpc <= REFUSED_GRPC | {"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"}

    @property
    def asks(self):
        """Whether it said that a token is missing."""
        return "UNAUTHENTICATED" in self.grpc or any(status in REFUSED_HTTP for status in self.http)


def ports_of(processes):
    """Ask every port of these processes."""
    found = {}
    for process in processes:
        try:
            for one in process.net_connections(kind="tcp"):
                if one.status == psutil.CONN_LISTEN:
                    found[one.laddr.ip, one.laddr.port] = Path(process.cmdline()[0] or "?").name + " " + process.name()
        except psutil.Error:
            continue
    return [ask(ip, number, owner) for (ip, number), owner in sorted(found.items(), key=lambda one: one[0][1])]


def ask(ip, number, owner):
    host = ip.removeprefix("::ffff:")
    host = "127.0.0.1" if host in ("::", "0.0.0.0") else host
    http_said = tuple(http_status(host, number, path) for path in PATHS)
    grpc_said = frozenset(grpc_code(host, number, method) for method in METHODS) if not any(http_said) else frozenset()
    return Port(ip, number, owner, http_said, grpc_said)


def http_status(host, port, path):
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def grpc_code(host, port, method):
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            channel.unary_unary(f"/ray.rpc.{method}")(b"", timeout=ANSWER_S)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def check(ports):
    listing = "\n".join(str(port) for port in ports)
    print(listing)
    assert not [port for port in ports if not port.closed], listing
    everywhere = [port for port in ports if not port.address.removeprefix("::ffff:").startswith("127.")]
    assert everywhere, listing  # Ray's own servers, which must find each other
    assert all(port.asks for port in everywhere), listing


@pytest.fixture
def no_ray_variables(monkeypatch):
    """Give the variables that a start of Ray sets in this process back afterwards."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_USAGE_STATS_ENABLED", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("no_ray_variables")
def test_every_port_of_a_head_asks_for_the_token(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))
    paths = RunPaths(tmp_path / "out")
    write_request(paths, LaunchRequest(SlurmSite()))
    node, address = Head(paths, system(), SlurmAllocation())._start_ray()
    try:
        head = psutil.Process(node._process.pid)
        wait_for(lambda: listens(head, address.dashboard_port) and agent_is_up(head))
        check(ports_of(head.children(recursive=True)))
    finally:
        node.end()


@pytest.mark.usefixtures("no_ray_variables")
def test_every_port_of_a_sweep_on_this_machine_asks_for_the_token(tmp_path):
    import ray  # noqa: F401 - before the sweep starts it, as in a notebook that uses Ray itself

    with private_folder() as scratch, local_ray(RunPaths(tmp_path), LocalSite(dashboard=True), scratch, Console()):
        me = psutil.Process()
        wait_for(lambda: agent_is_up(me))
        check(ports_of([me, *me.children(recursive=True)]))


def agent_is_up(process):
    """Whether the last of Ray's processes to start, a node's agent, listens."""
    agents = [child for child in process.children(recursive=True) if "DashboardAgent" in " ".join(child.cmdline())]
    return any(len(agent.net_connections(kind="tcp")) > 2 for agent in agents)


def listens(process, port):
    """Whether a process below this one listens on a port."""
    found = [one for child in process.children(recursive=True) for one in child.net_connections(kind="tcp")]
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found)


def wait_for(condition):
    """Return when a condition holds."""
    end = time.monotonic() + START_S
    while True:
        try:
            if condition():
                time.sleep(3)  # ports of one process open one after the other
                return
        except psutil.Error:
            pass
        assert time.monotonic() < end, "Ray did not start all of its processes"
        time.sleep(0.5)
