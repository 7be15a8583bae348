"""Tables as files: CSV with plain numbers, Markdown and LaTeX (booktabs) in readable form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from srcgcnn.analysis.comparison import effect_text, p_text
from srcgcnn.analysis.markdown import markdown_table
from srcgcnn.analysis.tradeoff import interval_words
from srcgcnn.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from srcgcnn.analysis.baselines import Baseline
    from srcgcnn.analysis.comparison import Comparison
    from srcgcnn.analysis.study import Study

SCORES = {"rmse": "test RMSE", "r2": "test R²", "roc_auc": "test ROC-AUC"}
FIRST_SHARES = {3: 0.42}  # of a column of print, for the names; the rest are numbers
FIRST_SHARE = 0.21
NOTHING_SHARED = "no common trial"
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"$<$", ">": r"$>$", "±": r"$\pm$", "…": r"\ldots{}",
    "–": "--", "−": "$-$", "²": "$^2$", "α": r"$\alpha$", "Å": r"\AA{}", "µ": r"$\mu$",
    "\u202f": r"\,",
}  # fmt: skip


@dataclass(frozen=True)
class PrintedTable:
    """A table for a paper: its cells as text, and a caption that says what they are."""

    cells: pd.DataFrame
    caption: str


def shown_tradeoff(table: pd.DataFrame, quantity: str, baselines: Sequence[Baseline] = ()) -> pd.DataFrame:
    """Return the trade-off table as people read it, baselines last; empty columns are left out."""
    shown = pd.DataFrame({"variant": table["variant"]})
    shown["conv. params"] = [f"{count:,}" for count in table["conv_parameters"]]
    shown["all params"] = [f"{count:,}" for count in table["total_parameters"]]
    shown["seeds"] = table["seeds"].astype(str)
    if (table["splits"] > 1).any():
        shown["splits"] = table["splits"].astype(str)
    if table["train"].notna().any():
        shown[f"train {quantity}"] = [_number(value) for value in table["train"]]
    shown[f"val. {quantity}"] = _with_half_widths(table, "val")
    shown[f"test {quantity}"] = _with_half_widths(table, "test")
    shown["against the best"] = table["against_best"]
    for name, heading in SCORES.items():
        if table[name].notna().any():
            shown[heading] = [_number(value) for value in table[name]]
    if table["paper_test_mae"].notna().any():
        shown["paper, test MAE"] = [_number(value) for value in table["paper_test_mae"]]
    shown["s/trial"] = [f"{value:.0f}" for value in table["seconds"]]
    return pd.concat([shown, _shown_baselines(baselines, quantity, list(shown))], ignore_index=True).fillna("–")


def _shown_baselines(baselines: Sequence[Baseline], quantity: str, columns: Sequence[str]) -> pd.DataFrame:
    rows = [
        {
            "variant": one.name,
            "conv. params": "–",
            "all params": "–",
            f"train {quantity}": _number(one.train),
            f"val. {quantity}": str(one.val),
            f"test {quantity}": str(one.test),
            **{heading: _number(getattr(one.scores, name)) for name, heading in SCORES.items()},
            "against the best": "baseline",
        }
        for one in baselines
    ]
    return pd.DataFrame(rows, columns=list(columns))


def printed_tradeoff(
    study: Study, table: pd.DataFrame, comparisons: Sequence[Comparison], baselines: Sequence[Baseline] = ()
) -> PrintedTable:
    """Return what of the trade-off table fits a column of print, with the differences from a reference."""
    differences = {one.variant: _difference(one) for one in comparisons}
    splits = bool((table["splits"] > 1).any())
    rows = [
        {
            "variant": row.variant,
            "conv.": _thousands(row.conv_parameters),
            "total": _thousands(row.total_parameters),
            "n": str(row.seeds),
            **({"k": str(row.splits)} if splits else {}),
            "test error": rounded(row.test, row.test_half_width),
            "difference": differences.get(row.variant, "reference"),
        }
        for row in table.itertuples()
    ]
    rows += [{"variant": one.name, "test error": rounded(one.test.mean, one.test.half_width)} for one in baselines]
    cells = pd.DataFrame(rows).fillna("–")
    caption = (
        f"{study.title}: test {study.quantity} on {study.results[0].rows[2]:,} crystals. "
        f"{_differences_are(comparisons)}Given as {interval_words(study.interval(name) for name in table['variant'])}. "
        f"conv. and total: convolution and all parameters, thousands. n: seeds{', k: splits' if splits else ''}."
    )
    return PrintedTable(cells if comparisons else cells.drop(columns="difference"), caption)


def printed_comparisons(study: Study, comparisons: Sequence[Comparison]) -> PrintedTable:
    """Return what of the comparisons fits a column of print."""
    cells = pd.DataFrame(
        {"variant": one.variant, f"difference ({study.unit})": _difference(one), "p (Holm)": p_text(one.p_corrected)}
        for one in comparisons
    )
    intervals = interval_words(one.difference for one in comparisons)
    caption = f"{study.title}. {_differences_are(comparisons)}Given as {intervals}. p: t test, corrected (Holm)."
    return PrintedTable(cells, caption)


def _differences_are(comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return ""
    reference = comparisons[0].reference
    return f"Difference: test error minus that of {reference}, paired; positive is worse. "


def _difference(comparison: Comparison) -> str:
    if not comparison.seeds:
        return NOTHING_SHARED
    return rounded(comparison.difference.mean, comparison.difference.half_width, "+")


def _thousands(count: int) -> str:
    return f"{count / 1000:,.1f}"


def rounded(mean: float, half_width: float | None = None, sign: str = "") -> str:
    """Write a mean with the decimals of its half width, which gets two digits; without one it gets three itself."""
    known = half_width is not None and math.isfinite(half_width) and half_width > 0
    size, digits = (float(half_width or 0), 2) if known else (abs(mean), 3)
    places = digits - 1 - math.floor(math.log10(float(f"{size:.{digits - 1}e}"))) if size else 0

    def text(value: float, sign: str = "") -> str:
        return f"{round(value, places):{sign}z.{max(0, places)}f}".replace("-", "−")

    return f"{text(mean, sign)}\u202f±\u202f{text(size)}" if known else text(mean, sign)


def shown_comparisons(comparisons: Sequence[Comparison], unit: str) -> pd.DataFrame:
    """Return comparisons as people read them."""
    return pd.DataFrame(
        {
            "variant": one.variant,
            "reference": one.reference,
            f"difference ({unit})": f"{one.difference.mean:+.4f}" if one.seeds else NOTHING_SHARED,
            "95 % interval": f"{one.difference.low:+.4f} … {one.difference.high:+.4f}" if one.difference.known else "–",
            "Hedges' g": effect_text(one.effect),
            "p": p_text(one.p_value),
            "p (Holm)": p_text(one.p_corrected),
            "pairs of trials": str(one.seeds),
            "verdict": one.verdict,
        }
        for one in comparisons
    )


def _with_half_widths(table: pd.DataFrame, name: str) -> list[str]:
    pairs = zip(table[name], table[f"{name}_half_width"].astype(float), strict=True)
    return [_number(mean) if math.isnan(half) else f"{mean:.4f} ± {half:.4f}" for mean, half in pairs]


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def write_table(
    folder: Path, name: str, data: pd.DataFrame, shown: pd.DataFrame | None = None, printed: PrintedTable | None = None
) -> None:
    """Write a table: `data` as CSV, `shown` (default: the same) as Markdown, `printed` as LaTeX."""
    write_text(folder / f"{name}.csv", data.to_csv(index=False))
    write_text(folder / f"{name}.md", as_markdown(data if shown is None else shown))
    if printed is not None:
        write_text(folder / f"{name}.tex", as_latex(printed, f"tab:{name}"))


def as_markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown."""
    return markdown_table(list(table.columns), table.to_numpy())


def as_latex(printed: PrintedTable, label: str) -> str:
    """Return a table as LaTeX, as wide as the column of the page; the first of its columns may break.

    It needs the packages array and booktabs, and nothing else.
    """
    cells = printed.cells
    first, *rest = (" & ".join(map(_latex, row)) + r" \\" for row in [cells.columns, *cells.to_numpy()])
    share = FIRST_SHARES.get(len(cells.columns), FIRST_SHARE)
    columns = rf"@{{}}>{{\raggedright\arraybackslash}}p{{{share}\columnwidth}}@{{\extracolsep{{\fill}}}}"
    columns += "r" * (len(cells.columns) - 1) + "@{}"
    text = [
        r"% needs \usepackage{array} and \usepackage{booktabs}; as wide as the column of the page",
        r"\begin{table}",
        rf"\caption{{{_latex(printed.caption)}}}",
        rf"\label{{{label}}}",
        r"\footnotesize\setlength{\tabcolsep}{1pt}",
        rf"\begin{{tabular*}}{{\columnwidth}}{{{columns}}}",
        r"\toprule",
        first,
        r"\midrule",
        *rest,
        r"\bottomrule",
        r"\end{tabular*}",
        r"\end{table}",
    ]
    return "\n".join(text) + "\n"


def _latex(value: object) -> str:
    """Escape a cell; long names may break after what joins their words."""
    text = "".join(LATEX.get(letter, letter) for letter in str(value))
    for joint in (r"\_", "=", "/"):
        text = text.replace(joint, rf"{joint}\allowbreak{{}}")
    return text
