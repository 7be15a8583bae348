"""The MLflow page of one sweep, on loopback, for users who have the printed address. MLflow is imported late."""

from __future__ import annotations

import getpass
import os
import secrets
import signal
import socket
import webbrowser
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

from srcgcnn.files import write_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from srcgcnn.run.paths import RunPaths

HOST = "127.0.0.1"
LAST_PORT = 65535
IDLE_S = 60  # a silent connection is closed: it may be a stranger's


def open_ui(paths: RunPaths, port: int | None = None, *, browser: bool = False) -> int:
    """Serve this sweep's default MLflow store until Ctrl-C and return the exit status.

    Raises:
        FileNotFoundError: the sweep has no store yet.
        ValueError: there is no such port, or it is taken.
    """
    if port is not None and not 1 <= port <= LAST_PORT:
        raise ValueError(f"--port {port}: ports are 1 to {LAST_PORT}; without --port a free one is taken")
    if not paths.mlflow_db.exists():
        raise FileNotFoundError(
            f"{paths.mlflow_db} does not exist: start the sweep first, or write the store from the result files "
            f"with `srcgcnn track {paths.out}`"
        )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _listening(port) as listener:
            _serve(paths, listener, browser=browser)
    except KeyboardInterrupt:
        pass
    return 0


def _serve(paths: RunPaths, listener: socket.socket, *, browser: bool) -> None:
    """Answer requests until Ctrl-C."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    from srcgcnn.tracking.page import closed_mlflow

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = IDLE_S

        def log_request(self, *_: object) -> None:
            """Write nothing: the address holds the key."""

        def log_error(self, *_: object) -> None:
            """Write nothing: anyone who can connect can send nonsense."""

    key, port = secrets.token_urlsafe(32), listener.getsockname()[1]
    url = f"http://{HOST}:{port}/{key}/{_fragment(paths)}"
    app = closed_mlflow(paths, key)
    with (
        make_server(HOST, port, app, threaded=True, request_handler=Quiet, fd=listener.fileno()) as server,
        _redirection(paths, url),
    ):
        print(f"MLflow: {url}  (Ctrl-C stops it)", flush=True)
        print(f"The address is the login: do not pass it on. Only you can read it again in {paths.ui_page}", flush=True)
        if tunnel := tunnel_command(os.environ, port):
            print(f"On your own computer, in another terminal:\n  {tunnel}", flush=True)
        if browser:  # through the file: the command line of a browser is seen by everybody
            webbrowser.open(paths.ui_page.resolve().as_uri())
        server.serve_forever()


def tunnel_command(environment: Mapping[str, str], port: int) -> str | None:
    """Return the `ssh -L` line that brings the page to the user's computer, if this is an SSH session."""
    connection = environment.get("SSH_CONNECTION", "").split()
    if len(connection) != 4:  # client address, client port, server address, server port (man ssh)
        return None
    server, server_port = connection[2:]
    option = "" if server_port == "22" else f"-p {server_port} "
    return f"ssh -N -L {port}:{HOST}:{port} {option}{getpass.getuser()}@{server}"


@contextmanager
def _listening(port: int | None) -> Iterator[socket.socket]:
    """Listen on the port, or on a free one. It is ours before its number is printed."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was ours a minute ago
        try:
            listener.bind((HOST, port or 0))
            listener.listen()
        except OSError as error:
            raise ValueError(f"--port {port}: {error.strerror}; without --port a free one is taken") from None
        yield listener


@contextmanager
def _redirection(paths: RunPaths, url: str) -> Iterator[None]:
    """Keep a page that leads to the address and that only its owner can read, while the server runs."""
    address = escape(url)
    page = f'<!DOCTYPE html><meta http-equiv="refresh" content="0; url={address}"><a href="{address}">MLflow</a>\n'
    write_private(paths.ui_page, page)
    try:
        yield
    finally:
        if paths.ui_page.exists() and paths.ui_page.read_text(encoding="utf-8") == page:  # or another server's by now
            paths.ui_page.unlink()


def _fragment(paths: RunPaths) -> str:
    """Return the address of the sweep's table in MLflow's page, after mending the store of a moved folder."""
    from srcgcnn.tracking.store import experiment_of, follow_moved_folder
    from srcgcnn.tracking.view import RUNS_QUERY

    follow_moved_folder(paths)
    experiment = experiment_of(paths)
    return f"#/experiments/{experiment}/runs?{RUNS_QUERY}" if experiment else ""


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
