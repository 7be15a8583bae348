"""What all commands have in common: how one is described, and the argument OUT, a folder that holds a sweep."""

from __future__ import annotations

import argparse
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from srcgcnn.run.paths import RunPaths

TEXT_WIDTH = 96
EXIT_STATUSES = """exit status:
  0    done
  1    done in part: some trials failed, some crystals could not be predicted, or a check found a fault
  2    nothing done: an argument, a file or the machine does not allow it; stderr says why
  3    the cluster's jobs are gone and the sweep is not over; `srcgcnn resume OUT` submits the rest
  130  interrupted; the same command resumes"""


def add_command(
    commands: Any,
    name: str,
    summary: str,
    run: Callable[[argparse.Namespace], int],
    *,
    description: str,
    examples: str,
) -> argparse.ArgumentParser:
    """Add a command to a parser's subparsers.

    Args:
        commands: the subparsers.
        name: of the command.
        summary: a few words for the list of commands.
        run: takes the options and returns the exit status.
        description: what it does, in sentences.
        examples: command lines, one per line.
    """
    lines = "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description="\n\n".join(fill(paragraph, TEXT_WIDTH) for paragraph in description.split("\n\n")),
        epilog=f"{'examples' if chr(10) in lines else 'example'}:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run)
    return parser


def add_sweep_command(
    commands: Any,
    name: str,
    summary: str,
    run: Callable[[argparse.Namespace], int],
    *,
    description: str = "",
    examples: str = "",
) -> argparse.ArgumentParser:
    """Add a command on the folder of a sweep."""
    described = description or f"{summary[:1].upper()}{summary[1:]}."
    example = examples or f"srcgcnn {name} runs/depth"
    parser = add_command(commands, name, summary, run, description=described, examples=example)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the sweep")
    return parser


def add_group(commands: Any, name: str, summary: str) -> Any:
    """Add a command that has commands of its own, and return their subparsers."""
    parser = commands.add_parser(name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}.")
    return parser.add_subparsers(title="commands", required=True, metavar="COMMAND")


def existing_run(out: Path) -> RunPaths:
    """Return the paths of a sweep that exists.

    Raises:
        FileNotFoundError: the folder holds no sweep.
    """
    from srcgcnn.run.paths import RunPaths

    paths = RunPaths(out)
    if paths.spec.exists() or paths.results.is_dir():
        return paths
    inside = sorted(str(path.parent) for path in out.glob("*/sweep.json"))
    if inside:
        raise FileNotFoundError(f"{out} is a folder of sweeps, not a sweep; in it: {', '.join(inside)}")
    known = sorted(str(path.parent) for path in out.parent.glob("*/sweep.json"))
    raise FileNotFoundError(f"{out} holds no sweep; next to it: {', '.join(known) or 'none'}")


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Add the flag of a budget."""
    what = "start no new group once the whole sweep has used N GPU-hours (core-hours if there are no GPUs)"
    parser.add_argument("--budget-gpu-hours", type=_hours, metavar="N", help=what)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = -1.0
    if not 0 < hours < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours above 0")
    return hours


def alpha(text: str) -> float | str:
    """Read the damping of a command line: a number, or a word that the definition's reader judges."""
    try:
        return float(text)
    except ValueError:
        return text
