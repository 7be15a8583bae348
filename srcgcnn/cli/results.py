"""The commands of `srcgcnn` on results: results, compare, report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_sweep_command, existing_run

if TYPE_CHECKING:
    import argparse

    from srcgcnn.analysis.study import Study


# What results can be sorted by: the field of a trade-off row, and the column of the table of trials
SORTS = {
    "val": ("val", "val_error"),
    "test": ("test", "test_error"),
    "depth": ("depth", "depth"),
    "conv-params": ("conv_parameters", "conv_params"),
    "total-params": ("total_parameters", "total_params"),
    "seconds": ("seconds", "seconds"),
}
TRIAL_COLUMNS = (
    "key", "variant", "seed", "split_seed", "val_error", "test_error", "unit", "conv_params", "total_params", "seconds",
)  # fmt: skip


def add_analysis_commands(commands: Any) -> None:
    """Add the commands to a parser's subparsers."""
    results = add_sweep_command(
        commands,
        "results",
        "the trade-off table of a sweep",
        _results,
        description="Print error and parameters of every variant: means and intervals over seeds.",
        examples="""
        srcgcnn results runs/depth --sort val
        srcgcnn results runs/depth --trials --csv
        """,
    )
    results.add_argument("--format", choices=["table", "markdown", "csv", "json"], default="table")
    results.add_argument("--csv", action="store_const", dest="format", const="csv", help="the same as --format csv")
    results.add_argument("--trials", action="store_true", help="one row per trial, not per variant")
    results.add_argument("--sort", choices=list(SORTS), help="smallest first (default: by model and depth)")
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

    if options.trials:
        return _print_trials(options)
    rows = tradeoff.tradeoff_of(existing_run(options.out))
    if options.sort:
        rows.sort(key=lambda row: _number(row, SORTS[options.sort][0]))
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


def _number(row: Any, name: str) -> float:
    value = getattr(row, name)
    return float(getattr(value, "mean", value))


def _print_trials(options: argparse.Namespace) -> int:
    import pandas as pd

    from srcgcnn.analysis.trial_table import trial_rows
    from srcgcnn.run.folder import open_run

    table = pd.DataFrame(trial_rows(open_run(existing_run(options.out)).results))
    if options.sort and len(table):
        table = table.sort_values(SORTS[options.sort][1])
    if options.format == "csv":
        print(table.to_csv(index=False), end="")
    elif options.format == "json":
        print(table.to_json(orient="records", indent=1))
    elif not len(table):
        print(f"{options.out}: no trial has finished yet")
    else:
        shown = table[[name for name in TRIAL_COLUMNS if name in table]]
        print(shown.to_markdown(index=False) if options.format == "markdown" else shown.to_string(index=False))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from srcgcnn.analysis.study import find_studies

    found = find_studies(existing_run(options.out), options.variant, options.reference)
    for number, (study, (variant, reference)) in enumerate(found):
        if number:
            print()
        _print_comparison(study, variant, reference, options.margin)
    return 0


def _print_comparison(study: Study, variant: str, reference: str, margin: float | None) -> None:
    from srcgcnn.analysis.comparison import compare, effect_text, non_inferior, p_phrase
    from srcgcnn.analysis.findings import default_margin

    result = compare(study, variant, reference)
    claim = non_inferior(result, default_margin(study) if margin is None else margin)
    difference = result.difference
    print(f"{study.title}: test error of {result.variant} minus {result.reference}, {result.seeds} pairs of trials")
    if difference.known:
        print(
            f"difference  {difference.mean:+.4f} {study.unit}, 95 % interval {difference.low:+.4f} to "
            f"{difference.high:+.4f} (over {difference.repeats}), {p_phrase(result.p_value)}, "
            f"Hedges' g over seeds {effect_text(result.effect)}"
        )
    print(claim.sentence(study.unit))


def _report(options: argparse.Namespace) -> int:
    from srcgcnn.analysis.report import write_report

    print(f"report: {write_report(existing_run(options.out), options.margin)}")
    return 0
