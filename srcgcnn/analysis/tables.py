"""Tables as files: CSV with plain numbers, Markdown and LaTeX (booktabs) in readable form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from srcgcnn.analysis.comparison import effect_text, p_text
from srcgcnn.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from srcgcnn.analysis.baselines import Baseline
    from srcgcnn.analysis.comparison import Comparison

SCORES = {"rmse": "test RMSE", "r2": "test R²", "roc_auc": "test ROC-AUC"}
FIRST_SHARES = {3: 0.42, 4: 0.28}  # of a column of print, for the names; the rest are numbers
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"$<$", ">": r"$>$", "±": r"$\pm$", "…": r"\ldots{}",
    "–": "--", "−": "$-$", "²": "$^2$", "α": r"$\alpha$", "Å": r"\AA{}", "µ": r"$\mu$",
}  # fmt: skip


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
            "conv. params": "0",
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


def printed_tradeoff(table: pd.DataFrame, quantity: str, baselines: Sequence[Baseline] = ()) -> pd.DataFrame:
    """Return what of the trade-off table fits a column of print: variant, parameters, test error, R2 or ROC-AUC."""
    shown = shown_tradeoff(table, quantity, baselines)
    last = [heading for name, heading in SCORES.items() if name != "rmse" and heading in shown]
    return shown[["variant", "conv. params", f"test {quantity}", *last]]


def printed_comparisons(comparisons: Sequence[Comparison], unit: str) -> pd.DataFrame:
    """Return what of the comparisons fits a column of print."""
    reference = comparisons[0].reference
    return pd.DataFrame(
        {
            f"variant (minus {reference})": one.variant,
            f"difference ({unit})": (
                f"{one.difference.mean:+.4f} ± {one.difference.half_width:.4f}"
                if one.difference.known
                else f"{one.difference.mean:+.4f}"
            ),
            "p (Holm)": p_text(one.p_corrected),
        }
        for one in comparisons
    )


def shown_comparisons(comparisons: Sequence[Comparison], unit: str) -> pd.DataFrame:
    """Return comparisons as people read them."""
    return pd.DataFrame(
        {
            "variant": one.variant,
            "reference": one.reference,
            f"difference ({unit})": f"{one.difference.mean:+.4f}",
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
    folder: Path, name: str, data: pd.DataFrame, shown: pd.DataFrame | None = None, printed: pd.DataFrame | None = None
) -> None:
    """Write a table: `data` as CSV, `shown` (default: the same) as Markdown, `printed` as LaTeX."""
    write_text(folder / f"{name}.csv", data.to_csv(index=False))
    write_text(folder / f"{name}.md", as_markdown(data if shown is None else shown))
    if printed is not None:
        write_text(folder / f"{name}.tex", as_latex(printed))


def as_markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown."""
    rows = [[str(value).replace("|", "\\|") for value in row] for row in [table.columns, *table.to_numpy()]]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(table.columns), *lines[1:]]) + "\n"


def as_latex(table: pd.DataFrame) -> str:
    """Return a table as LaTeX, as wide as the column of the page; the first of its columns may break.

    Its rules need the package booktabs, and nothing else.
    """
    heads = [_latex(name) for name in table.columns]
    rows = [[_latex(value) for value in row] for row in table.to_numpy()]
    lines = [rf"{{\raggedright {first}}} & " + " & ".join(rest) + r" \\" for first, *rest in [heads, *rows]]
    share = FIRST_SHARES.get(len(heads), 0.3)
    columns = rf"@{{}}p{{{share}\columnwidth}}@{{\extracolsep{{\fill}}}}" + "r" * (len(heads) - 1) + "@{}"
    text = [
        "% needs \\usepackage{booktabs}; as wide as the column of the page",
        r"{\footnotesize\setlength{\tabcolsep}{2pt}",
        rf"\noindent\begin{{tabular*}}{{\columnwidth}}{{{columns}}}",
        r"\toprule",
        lines[0],
        r"\midrule",
        *lines[1:],
        r"\bottomrule",
        r"\end{tabular*}}",
    ]
    return "\n".join(text) + "\n"


def _latex(value: object) -> str:
    """Escape a cell; long names may break after what joins their words."""
    text = "".join(LATEX.get(letter, letter) for letter in str(value))
    for joint in (r"\_", "=", "/"):
        text = text.replace(joint, rf"{joint}\allowbreak{{}}")
    return text
