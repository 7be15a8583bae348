"""The token that every Ray process of a sweep must show. Never on a command line, never readable by others."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from srcgcnn.files import SPACE_PATIENCE_S, write_private

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "token"  # noqa: S105 - the file in the private folder of a node
TOKEN_BYTES = 32


def closed_ray(token: Path) -> dict[str, str]:
    """Return the environment variables with which Ray refuses clients without the token."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's servers for Prometheus listen on all addresses and never ask for the token (seen in 2.60)
        "RAY_enable_metrics_collection": "0",
        # no switch turns these two off; dashboard and autoscaler log the bad port and continue
        "AUTOSCALER_METRIC_PORT": "-1",
        "DASHBOARD_METRIC_PORT": "-1",
    }


def new_token() -> str:
    """Return a new random token."""
    return secrets.token_hex(TOKEN_BYTES)


def write_token(path: Path, token: str, space_patience_s: float = SPACE_PATIENCE_S) -> Path:
    """Write a token that only this user can read; returns its absolute path. Waits as `write_bytes` does.

    Ray's processes are given one in a private folder of their node, where nobody removes or damages it: those that
    start later read it as well.
    """
    path = path.resolve()
    write_private(path, token, space_patience_s)
    return path


def write_node_token(folder: Path, token: str) -> Path:
    """Write the token into the private folder of a node; returns its absolute path.

    Raises:
        OSError: it has no space. Nobody looks after the disk of a node, so this does not wait.
    """
    return write_token(folder / TOKEN, token, space_patience_s=0.0)


def read_token(path: Path) -> str:
    """Return the token of a file; "" if there is none now, or a damaged one."""
    with suppress(OSError, ValueError):
        found = path.read_text(encoding="ascii")
        if len(bytes.fromhex(found)) == TOKEN_BYTES:
            return found
    return ""


def read_token_again() -> None:
    """Let Ray take mode and token from the environment as it is now.

    It reads both once, when it is imported or first started: a notebook may have done either before.
    """
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled, no stubs

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
