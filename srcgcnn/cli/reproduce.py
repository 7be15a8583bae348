"""The command `srcgcnn reproduce`: train what a publication trained, and say whether its numbers are reproduced."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_command
from srcgcnn.cli.sweep import add_run_flags, sweep

if TYPE_CHECKING:
    import argparse

    from srcgcnn.analysis.reproduction import Publication, Reproduction

DESCRIPTION = """Train what a publication trained, and say of each of its numbers: reproduced, not reproduced, or cannot
tell.

A number is reproduced when the 95 % interval of these trials lies inside the tolerance around it, and not reproduced
when it lies outside. The numbers, their tolerances and the reasons are in sweeps/published/NAME.toml. Numbers of
matbench are judged by the record of its five folds, which `srcgcnn matbench` trains."""
EXAMPLES = """
srcgcnn reproduce srcgcnn --data my_crystals.csv.gz --target formation_energy_per_atom
srcgcnn reproduce srcgcnn --out runs/mine --judge-only
srcgcnn reproduce matbench_cgcnn --out runs/matbench_jdft2d --judge-only
"""


def add_reproduce_command(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    summary = "train what a publication trained, and judge its numbers"
    parser = add_command(commands, "reproduce", summary, _reproduce, description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("publication", metavar="NAME", help="NAME of sweeps/published/NAME.toml, or a file")
    parser.add_argument("--judge-only", action="store_true", help="train nothing: judge the trials that OUT has")
    parser.add_argument("--json", action="store_true", help="print the verdicts as JSON")
    add_run_flags(parser)


def _reproduce(options: argparse.Namespace) -> int:
    from srcgcnn.analysis.reproduction import judge, read_publication
    from srcgcnn.analysis.studies import studies_of
    from srcgcnn.cli.command import existing_run
    from srcgcnn.definitions import find_definition

    if options.json and not options.judge_only:
        raise ValueError("--json prints verdicts and nothing else: add --judge-only when the trials have finished")
    if options.target and len(options.target) > 1:
        raise ValueError(f"--target {' '.join(options.target)}: published numbers are of networks for one target")
    path = find_definition("sweeps/published", options.publication)
    publication = read_publication(path)
    options.sweep = publication.sweep
    options.out = options.out or Path("runs") / f"reproduce-{path.stem}"
    if publication.folds:
        return _show(publication, _judge_record(publication, options), options)
    if not options.judge_only:
        status = sweep(options)
        if status or options.dry_run:
            return status
    studies = studies_of(existing_run(options.out))
    if not studies:
        print(f"{options.out} has no result yet; run the same command when the sweep is over")
        return 0
    return _show(publication, judge(publication, studies[0]), options)


def _judge_record(publication: Publication, options: argparse.Namespace) -> list[Reproduction]:
    """Judge the folds that OUT records.

    Raises:
        ValueError: there are none yet; the message says how they are trained.
    """
    from srcgcnn.analysis.reproduction import judge_folds
    from srcgcnn.leaderboards.matbench_record import RECORD_FILE, fold_errors

    record = options.out / RECORD_FILE
    if not options.judge_only or not record.exists():
        tasks = ", ".join(claim.task for claim in publication.folds)
        raise ValueError(
            f"train the folds first: srcgcnn matbench TASK --sweep {publication.sweep} --fold K --out OUT, K = 0 to "
            f"4 (TASK: {tasks}); then add --judge-only --out OUT"
        )
    found = []
    for claim in publication.folds:
        folds = fold_errors(record, claim.task)
        if folds:
            ours = [mae for _, (model, mae) in sorted(folds.items()) if model == claim.variant]
            found.append(judge_folds(claim, ours))
    if not found:
        tasks = ", ".join(claim.task for claim in publication.folds)
        raise ValueError(f"{record} has no fold of {tasks}: nothing to judge")
    return found


def _show(publication: Publication, found: list[Reproduction], options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps([_without_nan(asdict(one)) for one in found], indent=1, allow_nan=False))
    else:
        print(publication.source)
        for one in found:
            print(f"  {_sentence(one)}")
    return 0


def _without_nan(value: Any) -> Any:
    """Write null for a number that is not known: JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sentence(one: Reproduction) -> str:
    claim = f"{one.claim.name}: published {one.claim.value:g}, tolerance {one.claim.tolerance:g} ({one.claim.reason})"
    ours = (
        ""
        if one.ours is None or not one.ours.known
        else f"; ours {one.ours.mean:.3f} [{one.ours.low:.3f}, {one.ours.high:.3f}]"
    )
    return f"{one.verdict.upper()}: {claim}{ours}" + (f"; {one.reason}" if one.reason else "")
