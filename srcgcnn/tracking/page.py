"""MLflow's pages for one person: an address that nobody can guess, and files of this sweep only.

MLflow itself has no login, and reads whatever folder an experiment points at. Here every request needs the
key in the address. There is no cookie that a browser would send by itself: a page of another port, or of a host that
rebinds its name to 127.0.0.1, does not know the key. Only MLflow's Flask application is served, without the assistant,
gateway and job runners that `mlflow server` adds: they run programs.
"""

from __future__ import annotations

import hmac
import os
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException
from mlflow.server.constants import (
    ARTIFACT_ROOT_ENV_VAR,
    ARTIFACTS_DESTINATION_ENV_VAR,
    BACKEND_STORE_URI_ENV_VAR,
    SERVE_ARTIFACTS_ENV_VAR,
)
from mlflow.store.artifact import artifact_repository_registry as repositories
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.tracking.dbmodels.models import SqlExperiment
from mlflow.utils.file_utils import local_file_uri_to_path
from sqlalchemy import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from srcgcnn.run.paths import RunPaths

PROXIED = "mlflow-artifacts:"  # new experiments keep their files where this server puts them
HOSTS = ("127.0.0.1", "localhost")  # what a browser calls us, also at the other end of an SSH tunnel
REFUSAL = b"Open the address that `srcgcnn ui` printed: the key in it is the login.\n"


def closed_mlflow(paths: RunPaths, key: str) -> WSGIApplication:
    """Return MLflow on the sweep's own store, for users who know the key; to be called once in a process."""
    artifacts = paths.mlflow_artifacts.parent.resolve() / paths.mlflow_artifacts.name
    os.environ.update(
        {
            BACKEND_STORE_URI_ENV_VAR: paths.default_tracking_uri,
            ARTIFACT_ROOT_ENV_VAR: f"{PROXIED}/",
            ARTIFACTS_DESTINATION_ENV_VAR: artifacts.as_uri(),
            SERVE_ARTIFACTS_ENV_VAR: "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",  # cluster nodes often have no internet
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.server import app  # reads these variables when it is imported

    _confine_artifacts(artifacts)
    return BehindKey(app, key)


class BehindKey:
    """A WSGI application below `/KEY/`; to everything else it does not exist."""

    def __init__(self, app: WSGIApplication, key: str) -> None:
        self._app, self._key = app, key.encode("ascii")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        shown, slash, rest = environ["PATH_INFO"].removeprefix("/").partition("/")
        known = hmac.compare_digest(shown.encode("latin-1", "replace"), self._key)
        if not known or urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname not in HOSTS:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [REFUSAL]
        start = _without_referrer(start_response)
        if not slash:  # the page asks for its parts relative to its own address
            start("308 Permanent Redirect", [("Location", f"/{shown}/")])
            return []
        return self._app({**environ, "SCRIPT_NAME": f"/{shown}", "PATH_INFO": f"/{rest}"}, start)


def _without_referrer(start_response: StartResponse) -> StartResponse:
    """Let no link of the page carry its address, and so the key, to another server."""

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Callable[[bytes], object]:
        return start_response(status, [*headers, ("Referrer-Policy", "no-referrer")], *rest)

    return start


def _confine_artifacts(root: Path) -> None:
    """Let MLflow, in this process, read and write artifacts below one folder only, and follow no link there.

    Every artifact that MLflow opens comes from this registry. Other schemes are gone: they would be fetched from
    addresses that the store names, and a store may come from a stranger.
    """
    registry = repositories._artifact_repository_registry  # plugins can add to it, and take nothing away
    for scheme in [*registry.get_registered_artifact_repositories(), "", "file"]:
        registry.register(scheme, partial(OwnArtifacts, root))

    def check(_experiment: object, location: str | None, *_: object) -> None:
        if location and (not location.startswith(PROXIED) or location.startswith(f"{PROXIED}//")):
            _own_folder(root, location)

    event.listen(SqlExperiment.artifact_location, "set", check)


class OwnArtifacts(LocalArtifactRepository):
    """MLflow's files below one folder; every method that opens a path first checks that it may."""

    def __init__(self, root: Path, artifact_uri: str, *uris: Any, **more_uris: Any) -> None:
        super().__init__(artifact_uri, *uris, **more_uris)
        self._root = root
        self._artifact_dir = _own_folder(root, artifact_uri)

    def get_local_path(self, artifact_path: str) -> str:
        """Return where a file is."""
        return self._checked(super().get_local_path(artifact_path))

    def list_artifacts(self, path: str | None = None) -> list[Any]:
        """Return what is in a folder, without links."""
        self._checked(path)
        return [
            artifact
            for artifact in super().list_artifacts(path)
            if not Path(self._artifact_dir, artifact.path).is_symlink()
        ]

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file or a folder."""
        self._checked(artifact_path)
        super().delete_artifacts(artifact_path)

    def download_trace_data(self) -> dict[str, Any]:
        """Refuse: sweeps have no traces."""
        raise MlflowException.invalid_parameter_value("this server has no traces")

    def _get_or_create_artifact_dir(self, artifact_path: str | None = None) -> str:
        self._checked(artifact_path)
        return str(super()._get_or_create_artifact_dir(artifact_path))

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._checked(remote_file_path)
        super()._download_file(remote_file_path, local_path)

    def _checked(self, path: str | None) -> str:
        return _unlinked(self._root, str(Path(self._artifact_dir, path or "")))


def _own_folder(root: Path, uri: str) -> str:
    """Return the path of a file URI.

    Raises:
        MlflowException: it is another URI, or not below the folder.
    """
    if ":" in uri and not uri.startswith("file:"):
        raise MlflowException.invalid_parameter_value(f"{uri}: this server keeps artifacts in {root} only")
    return _unlinked(root, local_file_uri_to_path(uri))


def _unlinked(root: Path, path: str) -> str:
    """Return the path if it lies below the folder and no part of it, below the sweep's folder, is a link.

    Raises:
        MlflowException: it does not.
    """
    plain = os.path.normpath(root / path)
    if not Path(plain).is_relative_to(root) or os.path.realpath(plain) != plain:
        raise MlflowException.invalid_parameter_value(f"{path}: this server reads artifacts in {root} only, no links")
    return plain
