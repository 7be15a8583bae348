"""The URI of an MLflow store on a command line, and a server there that does not answer."""

from __future__ import annotations

import argparse
from urllib.parse import parse_qsl, urlsplit


def tracking_uri(text: str) -> str:
    """Return the URI, as argparse expects; the message does not repeat it.

    Raises:
        argparse.ArgumentTypeError: it holds a password.
    """
    parts = urlsplit(text)
    if parts.password is not None or any(name.lower() == "password" for name, _ in parse_qsl(parts.query)):
        raise argparse.ArgumentTypeError(
            "this URI holds a password, which other users see on the command line and a sweep keeps in its files; "
            "leave it out: ~/.pgpass for PostgreSQL, MLFLOW_TRACKING_PASSWORD or ~/.mlflow/credentials for a server"
        )
    return text


def no_answer(error: BaseException | None) -> bool:
    """Whether an error of MLflow means that its server cannot be reached."""
    from requests.exceptions import ConnectionError as NoConnection
    from requests.exceptions import Timeout

    while error is not None and not isinstance(error, NoConnection | Timeout):
        error = error.__cause__ or error.__context__
    return error is not None
