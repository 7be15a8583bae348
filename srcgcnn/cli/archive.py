"""The command `srcgcnn archive`: a sweep as a small folder to publish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_sweep_command, existing_run

if TYPE_CHECKING:
    import argparse


def add_archive_command(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser = add_sweep_command(
        commands,
        "archive",
        "copy results, predictions and ids into a small folder",
        _archive,
        description="Copy the parts of a sweep that a publication needs; `srcgcnn report FOLDER` reads the copy like "
        "the sweep itself.",
        examples="srcgcnn archive runs/depth published/depth",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="created if missing, otherwise extended")


def _archive(options: argparse.Namespace) -> int:
    from srcgcnn.analysis.archive import archive_sweep

    done = archive_sweep(existing_run(options.out), options.folder)
    print(
        f"{options.folder}: {done.added} results added, {done.kept} were there, {done.size_bytes / 1e6:.1f} MB; "
        f"read it with: srcgcnn report {options.folder}"
    )
    return 0
