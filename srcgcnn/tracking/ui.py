"""The MLflow page of one sweep, on loopback. Starts `mlflow server`; imports no MLflow itself."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from srcgcnn.run.paths import RunPaths

STOP_SECONDS = 10
LAST_PORT = 65535


def open_ui(paths: RunPaths, host: str = "127.0.0.1", port: int | None = None) -> int:
    """Serve this sweep's default MLflow store until Ctrl-C and return the exit status.

    Raises:
        FileNotFoundError: the sweep has no store yet.
        ValueError: there is no such port.
    """
    if port is not None and not 1 <= port <= LAST_PORT:
        raise ValueError(f"--port {port}: ports are 1 to {LAST_PORT}; without --port a free one is taken")
    if not paths.mlflow_db.exists():
        raise FileNotFoundError(
            f"{paths.mlflow_db} does not exist: start the sweep first, or write the store from the result files "
            f"with `srcgcnn track {paths.out}`"
        )
    page = _page(paths)
    port = port or free_port(host)
    print(f"MLflow: http://{host}:{port}/{page}  (Ctrl-C stops it)", flush=True)
    if tunnel := tunnel_command(os.environ, host, port):
        print(f"On your own computer, in another terminal:\n  {tunnel}", flush=True)
    return _serve(ui_command(paths, host, port))


def ui_command(paths: RunPaths, host: str, port: int) -> list[str]:
    """Return the command line of the server."""
    store = ["--backend-store-uri", paths.default_tracking_uri]
    # Artifacts are read from the file URIs in the store; the destination only keeps ./mlartifacts out of the way.
    artifacts = ["--artifacts-destination", paths.mlflow_artifacts.resolve().as_uri()]
    listen = ["--host", host, "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "server", *store, *artifacts, *listen]


def tunnel_command(environment: Mapping[str, str], host: str, port: int) -> str | None:
    """Return the `ssh -L` line that brings the page to the user's computer, if this is an SSH session."""
    connection = environment.get("SSH_CONNECTION", "").split()
    if len(connection) != 4:  # client address, client port, server address, server port (man ssh)
        return None
    server, server_port = connection[2:]
    option = "" if server_port == "22" else f"-p {server_port} "
    return f"ssh -N -L {port}:{host}:{port} {option}{getpass.getuser()}@{server}"


def free_port(host: str) -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _page(paths: RunPaths) -> str:
    """Return the address of the sweep's table, after mending the store of a moved folder."""
    from srcgcnn.tracking.store import experiment_of, follow_moved_folder  # imports MLflow: only once there is a store
    from srcgcnn.tracking.view import VIEW_KEY

    follow_moved_folder(paths)
    experiment = experiment_of(paths)
    return f"#/experiments/{experiment}/runs?viewStateShareKey={VIEW_KEY}" if experiment else ""


def _serve(command: list[str]) -> int:
    """Run the server in the foreground; Ctrl-C and SIGTERM end it, with all its workers, and are no error."""
    settings = {
        "MLFLOW_DISABLE_TELEMETRY": "true",  # cluster nodes often have no internet
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # saves nine processes that only chat models need
    }
    process = subprocess.Popen(command, env={**os.environ, **settings})
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(process)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and what it started."""
    if process.poll() is not None:
        return
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    process.terminate()
    _, alive = psutil.wait_procs(family, STOP_SECONDS)
    for member in alive:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
