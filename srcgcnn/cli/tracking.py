"""The commands of `srcgcnn` on MLflow: track, ui."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_sweep_command, existing_run
from srcgcnn.tracking.uri import no_answer, tracking_uri

if TYPE_CHECKING:
    import argparse


def add_tracking_commands(commands: Any) -> None:
    """Add the commands to a parser's subparsers."""
    track = add_sweep_command(
        commands,
        "track",
        "rebuild the MLflow store from the result files",
        _track,
        description="Rewrite MLflow's runs from the result files, into the sweep's own store or another one.",
        examples="srcgcnn track runs/depth --tracking-uri http://127.0.0.1:5000",
    )
    track.add_argument("--tracking-uri", type=tracking_uri, metavar="URI", help="default: the SQLite store in OUT")
    ui = add_sweep_command(
        commands,
        "ui",
        "open the MLflow UI on a sweep's own store",
        _ui,
        description="Serve MLflow's pages of one sweep on this machine, for this user alone, until Ctrl-C.",
    )
    ui.add_argument("--port", type=int, help="default: a free one")
    ui.add_argument("--open", action="store_true", help="open it in the browser of this machine")


def _track(options: argparse.Namespace) -> int:
    from mlflow.exceptions import MlflowException

    from srcgcnn.analysis import tradeoff
    from srcgcnn.run.folder import open_run
    from srcgcnn.sweep.record import read_record
    from srcgcnn.terminal import counted
    from srcgcnn.tracking.writer import rebuild

    paths = existing_run(options.out)
    run = open_run(paths)
    rows = tradeoff.tradeoff_of(run)
    # without sweep.json only the name is missing; the folder has it, unless --name or --out changed it
    name = read_record(paths).spec.name if paths.spec.exists() else options.out.resolve().name
    uri = options.tracking_uri or paths.default_tracking_uri
    try:
        count = rebuild(run, name, options.tracking_uri, tradeoff.as_markdown(rows), tradeoff.as_csv(rows))
    except MlflowException as error:
        raise RuntimeError(f"MLflow at {uri}{' does not answer' if no_answer(error) else f': {error}'}") from None
    print(f"{uri}: {counted(count, 'trial')} of sweep {name!r}")
    return 0


def _ui(options: argparse.Namespace) -> int:
    from srcgcnn.tracking.ui import open_ui

    return open_ui(existing_run(options.out), port=options.port, browser=options.open)
