"""What the commands on the folder of a sweep have in common: its argument, and the refusal of a folder without one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from srcgcnn.run.paths import RunPaths


def add_sweep_command(commands: Any, name: str, help_text: str, function: Any) -> argparse.ArgumentParser:
    """Add a command with the argument OUT to a parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the sweep")
    parser.set_defaults(command=function)
    return parser


def existing_run(out: Path) -> RunPaths:
    """Return the paths of a sweep that exists.

    Raises:
        FileNotFoundError: the folder holds no sweep.
    """
    from srcgcnn.run.paths import RunPaths

    paths = RunPaths(out)
    if not paths.spec.exists() and not paths.results.is_dir():
        known = sorted(str(path.parent) for path in out.parent.glob("*/sweep.json"))
        raise FileNotFoundError(f"{out} holds no sweep; beside it: {', '.join(known) or 'none'}")
    return paths
