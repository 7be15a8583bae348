"""The commands of `srcgcnn` on results: results, compare, report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_sweep_command, existing_run

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from srcgcnn.analysis.study import Study
    from srcgcnn.analysis.two_folders import Pair
    from srcgcnn.run.folder import Run


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
    results.add_argument("--format", choices=["table", "markdown", "csv", "json"], default="table", type=_format)
    results.add_argument("--csv", action="store_const", dest="format", const="csv", help="the same as --format csv")
    results.add_argument("--trials", action="store_true", help="one row per trial, not per variant")
    _add_target(results)
    results.add_argument("--sort", choices=list(SORTS), help="smallest first (default: by model and depth)")
    compare = add_sweep_command(
        commands,
        "compare",
        "two variants of a sweep, or two sweeps, on the same test crystals and seeds",
        _compare,
        description="Print the paired difference of two variants, its interval and its p-value. With two folders: "
        "every variant that both sweeps have, the second minus the first, paired if seeds, splits and test crystals "
        "agree.",
        examples="""
        srcgcnn compare runs/depth 'SR-CGCNN T=3 step-norm' CGCNN-3
        srcgcnn compare runs/depth runs/depth-longer
        """,
    )
    compare.add_argument(
        "variant",
        metavar="A",
        help="such as 'SR-CGCNN T=3 step-norm', as `results` names models, or srcgcnn, as --models does, if only one "
        "is of that kind; or a folder",
    )
    compare.add_argument("reference", metavar="B", nargs="?", help="such as CGCNN-3; none with two folders")
    _add_target(compare)
    _add_margin(compare)
    report = add_sweep_command(
        commands,
        "report",
        "write OUT/report: page, figures, tables",
        _report,
        description="Write the report of a sweep: one page that works offline, figures for a paper, LaTeX tables.",
        examples="""
        srcgcnn report runs/depth --reference CGCNN-3
        """,
    )
    report.add_argument(
        "--reference",
        metavar="VARIANT",
        help="take differences from this variant, named as for `compare` (default: that of lowest validation error)",
    )
    _add_margin(report)


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target", metavar="NAME", help="for networks that predict several targets: only this one, in its unit"
    )


def _add_margin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--margin",
        type=float,
        metavar="X",
        help="margin of non-inferiority in the unit of the errors (0.005 eV/atom; else 5 %% of the best error)",
    )


def _format(text: str) -> str:
    if text == "latex":
        import argparse

        raise argparse.ArgumentTypeError("`srcgcnn report OUT` writes LaTeX: OUT/report/tables/tradeoff.tex")
    return text


def _results(options: argparse.Namespace) -> int:
    from srcgcnn.analysis import tradeoff
    from srcgcnn.cli.extras import installed
    from srcgcnn.run.folder import open_run

    if options.trials:
        return _print_trials(options)
    run = open_run(existing_run(options.out))
    rows = tradeoff.tradeoff_of(run, options.target)
    if options.sort:
        rows.sort(key=lambda row: _number(row, SORTS[options.sort][0]))
    if options.format == "table":
        from srcgcnn.terminal import make_console

        if not rows:
            print(f"{options.out}: no trial has finished yet")
            return 0
        tradeoff.print_tradeoff(rows, make_console())
        if installed("report"):
            _print_answer(run, options.target)
    elif options.format == "json":
        print(json.dumps(tradeoff.as_records(rows), indent=1))
    else:
        print((tradeoff.as_markdown if options.format == "markdown" else tradeoff.as_csv)(rows), end="")
    return 0


def _print_answer(run: Run, target: str | None = None, margin: float | None = None) -> None:
    from srcgcnn.analysis.answer import answer_lines

    for line in answer_lines(run, target, margin):
        print(line)


def _number(row: Any, name: str) -> float:
    value = getattr(row, name)
    return float(getattr(value, "mean", value))


def _print_trials(options: argparse.Namespace) -> int:
    import pandas as pd

    from srcgcnn.analysis.trial_table import trial_rows
    from srcgcnn.run.folder import open_run

    table = pd.DataFrame(trial_rows(open_run(existing_run(options.out)).results, options.target))
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
    from srcgcnn.analysis.studies import find_studies

    if options.reference is None:
        return _compare_folders(options)
    found = find_studies(existing_run(options.out), options.variant, options.reference, target=options.target)
    for number, (study, (variant, reference)) in enumerate(found):
        if number:
            print()
        _print_comparison(study, variant, reference, options.margin)
    return 0


def _compare_folders(options: argparse.Namespace) -> int:
    from pathlib import Path

    from rich.table import Table

    from srcgcnn.analysis.comparison import non_inferior, p_text
    from srcgcnn.analysis.two_folders import NOT_SHARED, compare_folders
    from srcgcnn.terminal import make_console

    other = Path(options.variant)
    if not other.is_dir():
        raise ValueError(f"compare {options.variant!r}: give two variants of {options.out}, or a second folder")
    found = compare_folders(existing_run(options.out), existing_run(other), options.target)
    console = make_console()
    console.print(f"first: {options.out}, {found.first.title}", soft_wrap=True)
    console.print(f"second: {other}, {found.second.title}", soft_wrap=True)
    for line in found.differences:
        console.print(f"  differs: {line}", soft_wrap=True)
    table = Table(box=None, header_style="dim", caption=f"test error, {found.first.unit}; second minus first")
    for heading in ("variant", "first", "second", "difference", "95 % interval", "p (Holm)", "pairs"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for pair in found.pairs:
        table.add_row(pair.variant, str(pair.first), str(pair.second), *_difference_cells(pair, p_text, NOT_SHARED))
    console.print(table)
    for name, variants in (("first", found.only_first), ("second", found.only_second)):
        if variants:
            console.print(f"only in the {name}: {', '.join(variants)}", soft_wrap=True)
    if options.margin is not None:
        for pair in found.pairs:
            if pair.comparison is not None:
                claim = non_inferior(pair.comparison, options.margin)
                console.print(claim.sentence(found.first.unit), soft_wrap=True)
    return 0


def _difference_cells(pair: Pair, p_text: Callable[[float], str], unpaired: str) -> list[str]:
    one = pair.comparison
    if pair.same_trials:
        return ["the same trials", "", "", ""]
    if one is None:
        return [unpaired, "", "", ""]
    unknown = "one seed" if one.seeds < 2 else "all equal"
    interval = f"{one.difference.low:+.4f} to {one.difference.high:+.4f}" if one.difference.known else unknown
    return [f"{one.difference.mean:+.4f}", interval, p_text(one.p_corrected), str(one.seeds)]


def _print_comparison(study: Study, variant: str, reference: str, margin: float | None) -> None:
    from srcgcnn.analysis.comparison import compare, effect_text, non_inferior, p_phrase
    from srcgcnn.analysis.findings import default_margin
    from srcgcnn.terminal import counted

    result = compare(study, variant, reference).checked()
    claim = non_inferior(result, default_margin(study) if margin is None else margin)
    difference = result.difference
    print(
        f"{study.title}: test error of {result.variant} minus {result.reference}, {counted(result.seeds, 'pair')} of "
        f"trials; positive: {result.variant} is worse"
    )
    if difference.known:
        print(
            f"difference  {difference.mean:+.4f} {study.unit}, 95 % interval {difference.low:+.4f} to "
            f"{difference.high:+.4f} (over {difference.repeats}), {p_phrase(result.p_value)}, "
            f"Hedges' g over trials {effect_text(result.effect)}"
        )
    print(claim.sentence(study.unit))


def _report(options: argparse.Namespace) -> int:
    from srcgcnn.analysis.report import write_report
    from srcgcnn.cli.extras import require
    from srcgcnn.run.folder import open_run

    require("report")
    run = open_run(existing_run(options.out))
    print(f"report: {write_report(run, options.margin, options.reference)}")
    _print_answer(run, margin=options.margin)
    return 0
