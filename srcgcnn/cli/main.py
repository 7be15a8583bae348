"""The console script `srcgcnn`: look at data, parameters and results. Sweeps start with `sweeps/depth_sweep.py`.

Imports happen inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from srcgcnn import __version__
from srcgcnn.cli.archive import add_archive_command
from srcgcnn.cli.data import add_data_commands
from srcgcnn.cli.folder import add_sweep_command, existing_run
from srcgcnn.cli.jobs import add_cluster_commands
from srcgcnn.cli.matbench import add_matbench_command
from srcgcnn.cli.models import add_prediction_commands
from srcgcnn.cli.profile import add_training_commands
from srcgcnn.cli.results import add_analysis_commands
from srcgcnn.tracking.uri import tracking_uri

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; expected errors are one line on stderr and status 2."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (ValueError, OSError, RuntimeError) as error:
        from srcgcnn.terminal import error_line

        print(f"srcgcnn: {error_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="srcgcnn", description="Depth sweeps of crystal graph networks.")
    parser.add_argument("--version", action="version", version=f"srcgcnn {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_data_commands(commands)

    params = commands.add_parser("params", help="parameter counts of the variants")
    params.add_argument("--depths", type=int, nargs="+", default=[1, 2, 3, 5, 8], metavar="T")
    params.add_argument("--json", action="store_true", help="print JSON instead of a table")
    params.set_defaults(command=_params)

    add_analysis_commands(commands)
    add_archive_command(commands)

    track = add_sweep_command(commands, "track", "rebuild the MLflow store from the result files", _track)
    track.add_argument("--tracking-uri", type=tracking_uri, metavar="URI", help="default: the SQLite store in OUT")

    ui = add_sweep_command(commands, "ui", "open the MLflow UI on a sweep's own store", _ui)
    ui.add_argument("--port", type=int, help="default: a free one")
    add_training_commands(commands)
    add_cluster_commands(commands)
    add_prediction_commands(commands)
    add_matbench_command(commands)
    return parser


def _params(options: argparse.Namespace) -> int:
    from srcgcnn.models.config import ModelConfig
    from srcgcnn.models.counts import count_parameters

    variants = [ModelConfig("cgcnn", depth) for depth in options.depths]
    for norm in ("step", "shared"):
        for alpha in ("none", "learned"):
            variants += [ModelConfig("srcgcnn", depth, norm, alpha) for depth in options.depths]
    rows = []
    for config in variants:
        counts = count_parameters(config)
        rows.append({"model": config.label, "conv_params": counts.convolution, "total_params": counts.total})
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'model':<45}{'conv params':>12}{'total params':>14}")
    for row in rows:
        print(f"{row['model']:<45}{row['conv_params']:>12,}{row['total_params']:>14,}")
    return 0


def _track(options: argparse.Namespace) -> int:
    from srcgcnn.analysis import tradeoff
    from srcgcnn.sweep.record import read_record
    from srcgcnn.tracking.writer import MlflowException, rebuild

    paths = existing_run(options.out)
    rows = tradeoff.tradeoff_of(paths)
    # without sweep.json only the name is missing; the folder has it, unless --name or --out said otherwise
    name = read_record(paths).spec.name if paths.spec.exists() else options.out.resolve().name
    uri = options.tracking_uri or paths.default_tracking_uri
    try:
        count = rebuild(paths, name, options.tracking_uri, tradeoff.as_markdown(rows), tradeoff.as_csv(rows))
    except MlflowException as error:
        raise RuntimeError(f"MLflow at {uri}: {error}") from None
    print(f"{count} trials of sweep {name!r} are in {uri}")
    return 0


def _ui(options: argparse.Namespace) -> int:
    from srcgcnn.tracking.ui import open_ui

    return open_ui(existing_run(options.out), port=options.port)
