"""The token that every Ray process of a sweep must show. Never on a command line, never readable by others."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def closed_ray(token: Path) -> dict[str, str]:
    """Return the environment variables with which Ray answers nobody without the token."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's servers for Prometheus listen on all addresses and never ask for the token (seen in 2.60)
        "RAY_enable_metrics_collection": "0",
        # no switch turns these two off; dashboard and autoscaler log the bad port and go on
        "AUTOSCALER_METRIC_PORT": "-1",
        "DASHBOARD_METRIC_PORT": "-1",
    }


def write_token(path: Path) -> Path:
    """Write a new random token that only this user can read; returns its absolute path."""
    return _write(path.resolve(), secrets.token_hex(32))


def read_token_again() -> None:
    """Let Ray take mode and token from the environment as it is now.

    It reads both once, when it is imported or first started: a notebook may have done either before.
    """
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled, no stubs

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def copy_token(token: Path, folder: Path) -> Path:
    """Copy a token into a private folder, for processes that start later: nobody removes or damages it there."""
    return _write(folder.resolve() / "token", token.read_text(encoding="ascii"))


def _write(path: Path, token: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(token)
    return path
