"""The console script `srcgcnn`.

Imports happen inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING

from srcgcnn.cli.archive import add_archive_command
from srcgcnn.cli.command import EXIT_STATUSES
from srcgcnn.cli.completion import add_completion_command
from srcgcnn.cli.data import add_data_commands
from srcgcnn.cli.extras import advice_on
from srcgcnn.cli.jarvis import add_jarvis_command
from srcgcnn.cli.jobs import add_job_commands
from srcgcnn.cli.logs import add_logs_command
from srcgcnn.cli.matbench import add_matbench_command
from srcgcnn.cli.models import add_prediction_commands
from srcgcnn.cli.params import add_params_command
from srcgcnn.cli.profile import add_training_commands
from srcgcnn.cli.reproduce import add_reproduce_command
from srcgcnn.cli.results import add_analysis_commands
from srcgcnn.cli.runs import add_runs_commands
from srcgcnn.cli.status import add_status_command
from srcgcnn.cli.sweep import add_sweep
from srcgcnn.cli.tracking import add_tracking_commands
from srcgcnn.exit_status import ERROR, INTERRUPTED
from srcgcnn.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUPS = (
    add_sweep,
    add_runs_commands,
    add_status_command,
    add_logs_command,
    add_job_commands,
    add_analysis_commands,
    add_archive_command,
    add_reproduce_command,
    add_tracking_commands,
    add_data_commands,
    add_prediction_commands,
    add_matbench_command,
    add_jarvis_command,
    add_params_command,
    add_training_commands,
    add_completion_command,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; expected errors are one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = make_parser()
    options = parser.parse_args(given)
    options.parser, options.command_line = parser, shlex.join(["srcgcnn", *given])
    from srcgcnn.terminal import error_line, printable_output

    try:
        with printable_output():
            return int(options.command(options))
    except (ValueError, OSError, RuntimeError) as error:
        print(f"srcgcnn: {error_line(error)}", file=sys.stderr)
        return ERROR
    except ModuleNotFoundError as error:
        advice = advice_on(error)
        if advice is None:
            raise
        print(f"srcgcnn: {advice}", file=sys.stderr)
        return ERROR
    except KeyboardInterrupt:
        print("srcgcnn: interrupted", file=sys.stderr)
        return INTERRUPTED


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="srcgcnn",
        description="Depth sweeps of crystal graph networks. `srcgcnn COMMAND --help` describes a command.",
        epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"srcgcnn {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in GROUPS:
        add(commands)
    return parser
