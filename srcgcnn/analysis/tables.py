"""Tables as files: CSV with plain numbers, Markdown and LaTeX (booktabs) for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from srcgcnn.analysis.comparison import effect_text, p_text
from srcgcnn.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from srcgcnn.analysis.comparison import Comparison


def shown_tradeoff(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Return the trade-off table as people read it; columns that say nothing are left out."""
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
    if table["paper_test_mae"].notna().any():
        shown["paper, test MAE"] = [_number(value) for value in table["paper_test_mae"]]
    shown["against the best"] = table["against_best"]
    shown["s/trial"] = [f"{value:.0f}" for value in table["seconds"]]
    return shown


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


def write_table(folder: Path, name: str, data: pd.DataFrame, shown: pd.DataFrame | None = None) -> None:
    """Write a table: `data` as CSV, `shown` (default: the same) as Markdown and LaTeX."""
    shown = data if shown is None else shown
    write_text(folder / f"{name}.csv", data.to_csv(index=False))
    write_text(folder / f"{name}.md", as_markdown(shown))
    write_text(folder / f"{name}.tex", as_latex(shown))


def as_markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown."""
    rows = [[str(value).replace("|", "\\|") for value in row] for row in [table.columns, *table.to_numpy()]]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(table.columns), *lines[1:]]) + "\n"


def as_latex(table: pd.DataFrame) -> str:
    """Return a table as LaTeX; its rules need the package booktabs."""
    # Styler escapes cells with escape="latex" only after conversion to text, and headings apart
    style = table.astype(str).style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    text: str = style.to_latex(hrules=True)
    return text.replace("±", r"$\pm$").replace("…", r"\ldots{}").replace("–", "--").replace("α", r"$\alpha$")
