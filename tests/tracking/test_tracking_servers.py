"""MLflow over HTTP: the page of one sweep, and the server of a group with login. Real servers, real PostgreSQL."""

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from closed_page import open_page
from postgres_server import BINARIES, NO_POSTGRES, postgres
from tracked_sweep import SWEEP, check_live_sweep, client_of, everything
from web import free_port, wait_for

from srcgcnn.run.paths import RunPaths
from srcgcnn.tracking import ui

pytestmark = pytest.mark.full

ADMIN_PASSWORD = "correct-horse-battery"


def test_tunnel_line_names_the_port_the_user_connected_to(monkeypatch):
    monkeypatch.setattr(ui.getpass, "getuser", lambda: "ada")
    environment = {"SSH_CONNECTION": "10.0.0.1 51000 10.0.0.2 22"}
    assert ui.tunnel_command(environment, 5001) == "ssh -N -L 5001:127.0.0.1:5001 ada@10.0.0.2"
    environment = {"SSH_CONNECTION": "10.0.0.1 51000 10.0.0.2 2222"}
    assert ui.tunnel_command(environment, 5001).endswith("-p 2222 ada@10.0.0.2")
    assert ui.tunnel_command({}, 5001) is None


def test_ui_without_a_store_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="srcgcnn track"):
        ui.open_ui(RunPaths(tmp_path))


@pytest.mark.parametrize("port", [0, -1, 80000])
def test_ui_refuses_a_port_that_is_none(paths, port):
    with pytest.raises(ValueError, match=f"{port}: ports are 1 to 65535"):
        ui.open_ui(paths, port=port)


def test_a_server_with_login_refuses_who_has_none(tmp_path):
    """`mlflow/server.sh` with login on a real server: nobody without a password, nobody with a wrong one."""
    with group_server(tmp_path, "sqlite:///mlflow.db") as (uri, process):
        assert "correct-horse" not in " ".join(psutil.Process(process.pid).cmdline())
        listed = f"{uri}/api/2.0/mlflow/experiments/search?max_results=5"
        assert status_of(listed) == 401
        assert status_of(f"{uri}/") == 401
        assert status_of(listed, "admin:password1234") == 401
        assert status_of(listed, f"admin:{ADMIN_PASSWORD}") == 200
        assert status_of(listed, f"admin:{ADMIN_PASSWORD}", host="evil.example.org") == 403


@pytest.mark.skipif(BINARIES is None, reason=NO_POSTGRES)
def test_a_group_server_on_postgresql_takes_a_sweep(tmp_path, paths, monkeypatch):
    """The database as `mlflow/group.env` names it: its driver, its password from ~/.pgpass."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install '.[server]'")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN_PASSWORD)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    port = free_port()
    group = (Path(ui.__file__).parents[2] / "mlflow" / "group.env").read_text()
    (database,) = re.findall(r"^MLFLOW_BACKEND_STORE_URI=(\S+)", group, re.MULTILINE)
    with postgres(port) as line:
        (tmp_path / "pgpass").write_text(line + "\n")
        (tmp_path / "pgpass").chmod(0o600)
        with group_server(tmp_path, database.replace("database.example.org:5432", f"127.0.0.1:{port}")) as (uri, _):
            check_live_sweep(paths, uri)


@contextmanager
def group_server(folder, database):
    """Start `mlflow/server.sh` as the admin of a group does; yields its address and its process."""
    pytest.importorskip("flask_wtf", reason="Flask-WTF is not installed: pip install '.[server]'")
    port = free_port()
    settings = folder / "group.env"
    settings.write_text(
        f"SERVER_FOLDER={folder / 'server'}\nSERVER_LOGIN=yes\nMLFLOW_BACKEND_STORE_URI={database}\n"
        f"MLFLOW_ARTIFACTS_DESTINATION=./artifacts\nMLFLOW_HOST=127.0.0.1\nMLFLOW_PORT={port}\n"
        f"MLFLOW_AUTH_ADMIN_PASSWORD={ADMIN_PASSWORD}\n"
    )
    settings.chmod(0o644)
    script = str(Path(ui.__file__).parents[2] / "mlflow" / "server.sh")
    environment = {**os.environ, "PYTHON": sys.executable}
    refused = subprocess.run([script, settings], env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "chmod 600" in refused.stderr
    settings.chmod(0o600)
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([script, settings], env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def status_of(url, login="", host=""):
    headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()} if login else {}
    headers |= {"Host": host} if host else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def server(tmp_path, paths):
    """Open the page of an empty sweep as a user does; yields its address, which MLflow's client can use as it is."""
    served = RunPaths(tmp_path / "server")
    served.out.mkdir()
    shutil.copy(paths.mlflow_db, served.mlflow_db)
    with open_page(served, tmp_path / "server.log") as page:
        yield page.url


def test_live_sweep_and_rebuild_over_http(paths, server):
    from srcgcnn.tracking.writer import rebuild

    check_live_sweep(paths, server)
    before = everything(client_of(paths, server))
    rebuild(paths, SWEEP, server)
    assert everything(client_of(paths, server)) == before
