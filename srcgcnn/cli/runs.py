"""The commands of `srcgcnn` on many sweeps, or on parts of one: runs, remove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_command, add_sweep_command, existing_run

if TYPE_CHECKING:
    import argparse

    from srcgcnn.run.paths import RunPaths


NUMBERS = ("trials", "best validation error")


def add_runs_commands(commands: Any) -> None:
    """Add the commands to a parser's subparsers."""
    runs = add_command(
        commands,
        "runs",
        "all sweeps of a folder, one line each",
        _runs,
        description="List the sweeps of a folder: how far they are, and the best validation error of each.",
        examples="srcgcnn runs",
    )
    runs.add_argument("folder", nargs="?", type=Path, default=Path("runs"), metavar="FOLDER", help="(runs)")
    remove = add_sweep_command(
        commands,
        "remove",
        "remove trials of a sweep, with their files",
        _remove,
        description="Remove the results of a variant or of a trial, with predictions, models and logs of failures. "
        "Without --yes it only lists what would be removed.",
        examples="srcgcnn remove runs/depth CGCNN-3 --yes",
    )
    remove.add_argument("trial", metavar="TRIAL", help="label of a variant or trial, or the beginning of a key")
    remove.add_argument("--yes", action="store_true", help="remove them instead of only listing them")


def _runs(options: argparse.Namespace) -> int:
    from rich.table import Table

    from srcgcnn.run.paths import RunPaths
    from srcgcnn.terminal import make_console

    found = sorted(path.parent for path in options.folder.glob("*/sweep.json"))
    if not found:
        raise FileNotFoundError(f"{options.folder} holds no sweep")
    table = Table(box=None, header_style="dim")
    for heading in ("sweep", "state", "trials", "best validation error", "variant"):
        table.add_column(heading, overflow="fold", justify="right" if heading in NUMBERS else "left")
    for out in found:
        table.add_row(out.name, *_line(RunPaths(out)))
    make_console().print(table)
    return 0


def _line(paths: RunPaths) -> tuple[str, str, str, str]:
    """Return state, trials, best error and its variant; a sweep that cannot be read says so in its own line."""
    from srcgcnn.cli.status import phase_of
    from srcgcnn.launch.status import status_of
    from srcgcnn.run.folder import open_run

    try:
        status, results = status_of(paths), open_run(paths).results
    except (ValueError, OSError) as error:
        return f"cannot be read: {str(error)[:200]}", "", "", ""
    trials = f"{status.finished} of {status.trials}" + (f", {status.failed} failed" if status.failed else "")
    if not results:
        return phase_of(status, paths), trials, "", ""
    best = min(results, key=lambda result: result.val_error)
    unit = "error rate" if best.config.model.task == "classification" else best.config.data.unit
    return phase_of(status, paths), trials, f"{best.val_error:.4g} {unit}".rstrip(), best.config.label


def _remove(options: argparse.Namespace) -> int:
    from srcgcnn.run.removal import find_trials, remove_trials

    paths = existing_run(options.out)
    results = find_trials(paths, options.trial)
    if options.yes:
        remove_trials(paths, [result.key for result in results])
    for result in results:
        print(f"{'removed' if options.yes else 'would remove'}  {result.key}  {result.config.label}")
    if not options.yes:
        print(f"{len(results)} trials; nothing was removed: add --yes")
        return 0
    print(
        f"{len(results)} trials removed; MLflow and the report show them until you run: srcgcnn track, srcgcnn report"
    )
    return 0
