"""Damaged files are set aside and named: they neither end a command nor vanish."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DAMAGED = ".damaged"  # behind the name of a file that was set aside


def set_aside(path: Path, fault: Exception, consequence: str) -> None:
    """Rename a damaged file and say so on the terminal, once; one that cannot be renamed is left where it is.

    Args:
        path: the file.
        fault: what is wrong with it; names the file.
        consequence: what follows, such as `its trial counts as not trained`.
    """
    aside = path.with_name(path.name + DAMAGED)
    try:
        path.replace(aside)
    except OSError:  # it belongs to somebody else, or the disk is read-only
        print(f"{fault}; left out", file=sys.stderr, flush=True)
    else:
        print(f"{fault}; kept as {aside.name}, and {consequence}", file=sys.stderr, flush=True)
