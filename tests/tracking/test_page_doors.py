"""`srcgcnn ui` on a machine with other people: what they get, what the owner gets, and which files MLflow may open."""

import json
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from closed_page import open_page
from mlflow.tracking import MlflowClient
from stranger import CAN_BE_ANOTHER, NOT_ROOT, as_stranger

from srcgcnn.run.paths import RunPaths

pytestmark = pytest.mark.full

SECRET, RESULT = "private key of the owner", "a result of the sweep"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def folder():
    """A folder that everybody may enter, as the scratch space of a cluster."""
    path = Path(tempfile.mkdtemp(prefix="srcgcnn-open-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def sweep(folder, empty_mlflow_db):
    """A sweep with one run and one artifact, in a folder that others may read, and a secret outside of it."""
    paths = RunPaths(folder / "out")
    paths.out.mkdir()
    paths.out.chmod(0o755)
    shutil.copy(empty_mlflow_db, paths.mlflow_db)
    (folder / "private").mkdir(mode=0o700)
    (folder / "private" / "key").write_text(SECRET)
    client = MlflowClient(paths.default_tracking_uri)
    experiment = client.create_experiment("srcgcnn/test", paths.mlflow_artifacts.resolve().as_uri())
    client.log_text(client.create_run(experiment).info.run_id, RESULT, "result.txt")
    lead_out(paths, client, folder / "private")
    return paths


def lead_out(paths, client, private):
    """Add links and an experiment that lead to a folder outside, as a store may have that somebody sent."""
    own = Path(urlsplit(the_run(paths).info.artifact_uri).path)
    (own / "link").symlink_to(private)
    (own / "linked.txt").symlink_to(private / "key")
    (paths.mlflow_artifacts / "top").symlink_to(private)
    foreign = client.create_run(client.create_experiment("foreign", private.as_uri())).info
    Path(urlsplit(foreign.artifact_uri).path).mkdir(parents=True)
    Path(urlsplit(foreign.artifact_uri).path, "key").write_text(SECRET)


@pytest.fixture(scope="module")
def page(sweep, tmp_path_factory):
    """The page of that sweep, started where new files are open to all."""
    with open_page(sweep, tmp_path_factory.mktemp("page") / "ui.log", umask=0) as page:
        yield page


def the_run(paths, experiment="srcgcnn/test"):
    client = MlflowClient(paths.default_tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return run


def ask(url, body=None, headers=JSON, method=None):
    """Return status and text of an answer."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def served_nonsense(port):
    """Return whether anything but an error comes back for what is no HTTP."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"\x1b[2J nonsense\r\n\r\n")
        return b" 200 " in connection.recv(1000)


@pytest.mark.skipif(not CAN_BE_ANOTHER, reason=NOT_ROOT)
def test_another_account_gets_nothing_and_the_owner_everything(sweep, page):
    run = the_run(sweep).info
    artifact = f"get-artifact?path=result.txt&run_uuid={run.run_id}"
    search = "ajax-api/2.0/mlflow/experiments/search?max_results=5"
    create = "api/2.0/mlflow/experiments/create"
    proxied = "api/2.0/mlflow-artifacts/artifacts"
    pages = ["", "health", "version", "static-files/", "graphql", "metrics", search, proxied, artifact]
    port = urlsplit(page.origin).port
    guesses = ["", "/", f"/{page.key[:-1]}", f"/{page.key}x", "/%2e", f"/x/../{page.key[:-1]}"]
    requests = [[port, "GET", f"{guess}/{path}", {}, None] for guess in guesses for path in pages]
    requests += [[port, "POST", f"{guess}/{create}", JSON, '{"name": "theirs"}'] for guess in guesses]
    requests += [[port, "PUT", f"/{proxied}/mine.txt", {}, "x"], [port, "OPTIONS", f"/{create}", {}, None]]
    files = [sweep.ui_page, f"/proc/{page.pid}/environ", f"/proc/{page.pid}/fd", f"/proc/{page.pid}/cmdline"]
    got = as_stranger(ask=requests, read=files)
    assert not served_nonsense(port)
    assert {status for status, _ in got["asked"]} == {404}
    assert {text for _, text in got["asked"]} == {got["asked"][0][1]}  # nothing tells a good guess from a bad one
    *refused, command = got["read"]
    assert refused == [None, None, None]
    assert page.key not in command
    assert (sweep.ui_page.stat().st_mode & 0o777) == 0o600
    assert page.url in sweep.ui_page.read_text()
    assert "<title>MLflow</title>" in ask(f"{page.url}/")[1]
    assert "srcgcnn/test" in ask(f"{page.url}/{search}")[1]
    assert ask(f"{page.url}/{artifact}") == (200, RESULT)
    names = [experiment.name for experiment in MlflowClient(page.url).search_experiments()]
    assert "srcgcnn/test" in names
    assert "theirs" not in names
    assert "nonsense" not in page.log.read_text()


def test_every_start_has_another_key_and_a_quiet_terminal_and_leaves_no_address(paths, tmp_path):
    keys = set()
    for attempt in range(2):
        with open_page(paths, tmp_path / "ui.log") as page:
            keys.add(page.key)
            for _ in range(20):
                assert ask(f"{page.url}/version")[0] == 200
        assert attempt + 1 == len(keys)
        assert len(page.log.read_text().splitlines()) <= 6, page.log.read_text()
        assert not paths.ui_page.exists()


def test_pages_of_other_sites_get_nothing(page):
    """A name that is rebound to 127.0.0.1, and a page that another account serves on another port of this machine."""
    search = "ajax-api/2.0/mlflow/experiments/search?max_results=5"
    assert ask(f"{page.url}/{search}", headers={"Host": "evil.example.org"})[0] == 404
    for origin in ("https://evil.example.org", "http://127.0.0.1:4444", "null"):
        request = urllib.request.Request(f"{page.origin}/{search}", headers={"Origin": origin})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=20)
        assert refused.value.code == 404
        assert not [name for name in refused.value.headers if name.lower().startswith("access-control")]
    with urllib.request.urlopen(f"{page.url}/", timeout=20) as answer:
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Set-Cookie"] is None


@pytest.mark.parametrize("field", ["artifact_location", "artifactLocation"])
def test_no_experiment_can_point_at_other_folders(sweep, page, field):
    """The attack of 2026 on a page without login, now with the key: an experiment with a place of its own."""
    places = [
        "/",
        "/etc",
        "file:///etc",
        f"{sweep.mlflow_artifacts}/../..",
        "FILE:///etc",
        "s3://bucket/x",
        "http://x/y",
    ]
    places += ["mlflow-artifacts://elsewhere/x", sweep.out.as_uri()]
    for number, place in enumerate(places):
        body = {"name": f"mine {number}", field: place}
        status, text = ask(f"{page.url}/api/2.0/mlflow/experiments/create", body)
        assert status == 400, (place, text)
    status, _ = ask(f"{page.url}/api/2.0/mlflow/experiments/create", {"name": f"mine by {field}"})
    assert status == 200


def test_links_and_foreign_folders_of_a_store_are_not_opened(sweep, folder, page):
    """A store that somebody sent, or that was written while its page was open to all."""
    run, foreign = the_run(sweep), the_run(sweep, "foreign").info
    answers = [
        ask(f"{page.url}/{path}")
        for path in (
            f"get-artifact?path=link/key&run_uuid={run.info.run_id}",
            f"get-artifact?path=linked.txt&run_uuid={run.info.run_id}",
            f"get-artifact?path=../../../private/key&run_uuid={run.info.run_id}",
            f"get-artifact?path=key&run_uuid={foreign.run_id}",
            f"ajax-api/2.0/mlflow/artifacts/list?run_id={run.info.run_id}&path=link",
            f"ajax-api/2.0/mlflow/artifacts/list?run_id={foreign.run_id}",
            "api/2.0/mlflow-artifacts/artifacts/top/key",
            "api/2.0/mlflow-artifacts/artifacts?path=top",
            "api/2.0/mlflow-artifacts/artifacts/%2e%2e/mlflow.db",
        )
    ]
    assert ask(f"{page.url}/api/2.0/mlflow-artifacts/artifacts/top/key", method="DELETE")[0] == 400
    listed = ask(f"{page.url}/ajax-api/2.0/mlflow/artifacts/list?run_id={run.info.run_id}")[1]
    assert {status for status, _ in answers} == {400}, answers
    assert not [text for _, text in answers if SECRET in text or '"key"' in text]
    assert "result.txt" in listed
    assert "link" not in listed
    assert (folder / "private" / "key").read_text() == SECRET
