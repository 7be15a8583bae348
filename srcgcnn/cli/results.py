"""The commands of `srcgcnn` on results: results, compare, report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_sweep_command, existing_run

if TYPE_CHECKING:
    import argparse

    from srcgcnn.analysis.study import Study


def add_analysis_commands(commands: Any) -> None:
    """Add the commands to a parser's subparsers."""
    results = add_sweep_command(
        commands,
        "results",
        "the trade-off table of a sweep",
        _results,
        description="Print error and parameters of every variant: means and intervals over seeds.",
        examples="srcgcnn results runs/depth --format csv",
    )
    results.add_argument("--format", choices=["table", "markdown", "csv", "json"], default="table")
    compare = add_sweep_command(
        commands,
        "compare",
        "two variants on the same test crystals and seeds",
        _compare,
        description="Print the paired difference of two variants, its interval and its p-value.",
        examples="srcgcnn compare runs/depth 'SR-CGCNN T=3 step-norm' CGCNN-3",
    )
    compare.add_argument("variant", metavar="A", help="such as 'SR-CGCNN T=3 step-norm', as `results` names models")
    compare.add_argument("reference", metavar="B", help="such as CGCNN-3")
    _add_margin(compare)
    report = add_sweep_command(
        commands,
        "report",
        "write OUT/report: page, figures, tables",
        _report,
        description="Write the report of a sweep: one page that needs no network, figures for a paper, LaTeX tables.",
    )
    _add_margin(report)


def _add_margin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--margin",
        type=float,
        metavar="X",
        help="margin of non-inferiority in the unit of the errors (0.005 eV/atom; else 5 %% of the best error)",
    )


def _results(options: argparse.Namespace) -> int:
    from srcgcnn.analysis import tradeoff

    rows = tradeoff.tradeoff_of(existing_run(options.out))
    if options.format == "table":
        from srcgcnn.terminal import make_console

        if not rows:
            print(f"{options.out}: no trial has finished yet")
            return 0
        tradeoff.print_tradeoff(rows, make_console())
    elif options.format == "json":
        print(json.dumps(tradeoff.as_records(rows), indent=1))
    else:
        print((tradeoff.as_markdown if options.format == "markdown" else tradeoff.as_csv)(rows), end="")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from srcgcnn.analysis.study import find_studies

    for number, study in enumerate(find_studies(existing_run(options.out), options.variant, options.reference)):
        if number:
            print()
        _print_comparison(study, options)
    return 0


def _print_comparison(study: Study, options: argparse.Namespace) -> None:
    from srcgcnn.analysis.comparison import compare, non_inferior, p_phrase
    from srcgcnn.analysis.findings import default_margin

    result = compare(study, options.variant, options.reference)
    claim = non_inferior(result, default_margin(study) if options.margin is None else options.margin)
    difference = result.difference
    print(f"{study.title}: test error of {result.variant} minus {result.reference}, {result.seeds} pairs of trials")
    if difference.known:
        print(
            f"difference  {difference.mean:+.4f} {study.unit}, 95 % interval {difference.low:+.4f} to "
            f"{difference.high:+.4f} (over {difference.repeats}), {p_phrase(result.p_value)}, "
            f"Hedges' g over seeds {result.effect:+.2f}"
        )
    print(claim.sentence(study.unit))


def _report(options: argparse.Namespace) -> int:
    from srcgcnn.analysis.report import write_report

    print(f"report: {write_report(existing_run(options.out), options.margin)}")
    return 0
