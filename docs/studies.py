"""Write the numbers and figures of studies into the pages that tell them: `python -m docs.studies`, at the top folder.

Between two comments stands what the result files of a study say, so that no number is typed by hand. A study that is
still training may be named: what it has not trained yet is left out, and said.

    <!-- table of studies/matched: CGCNN-3; SR-CGCNN T=3 step-norm -->      (or without names: all variants)
    <!-- depths of studies/depth: CGCNN; SR-CGCNN step-norm -->             (depth against lines; or all lines)
    <!-- comparison in studies/matched: SR-CGCNN T=3 step-norm; CGCNN-3; 0.01 -->
    <!-- figure of studies/matched: parameters; CGCNN-3 -->                 (against this reference)
    <!-- figure of studies/depth: depth; CGCNN; SR-CGCNN step-norm -->      (or all lines)
    <!-- end -->

A figure is written beside the study, `studies/matched/parameters.svg`. A test fails where a page or a figure differs
from what this writes.
"""

from __future__ import annotations

import math
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from srcgcnn.analysis.study import Study
    from srcgcnn.analysis.style import Drawing
    from srcgcnn.analysis.tradeoff import TradeoffRow

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("studies/*/README.md"))]
BLOCK = re.compile(
    r"(?P<start><!-- (?P<kind>table of|depths of|comparison in|figure of) (?P<folder>studies/\w+)"
    r"(?:: (?P<names>[^\n]*?))? -->\n).*?(?P<end><!-- end -->)",
    re.DOTALL,
)


@lru_cache
def study_in(folder: Path) -> Study | None:
    """Return the study of a folder, what its definition asked for; None where no trial is archived yet."""
    from srcgcnn.analysis.studies import studies_of
    from srcgcnn.run.paths import RunPaths

    return next(iter(studies_of(RunPaths(folder))), None)


def table(study: Study, names: list[str]) -> str:
    """Return the named variants as Markdown, in this order; all of them where none is named."""
    from srcgcnn.analysis.tradeoff import rows_of

    rows = {row.variant: row for row in rows_of(study)}
    lines = [
        f"| variant | convolution parameters | seeds | train MAE | test MAE ({study.unit}) |",
        "| --- | --- | --- | --- | --- |",
        *(_line(rows[name]) if name in rows else f"| {name} | not trained yet | | | |" for name in names or rows),
    ]
    return "\n".join(lines) + "\n"


def _line(row: TradeoffRow) -> str:
    train = "–" if row.train is None else f"{row.train:.4f}"
    return f"| {row.variant} | {row.conv_parameters:,} | {row.seeds} | {train} | {row.test} |"


def depths(study: Study, names: list[str]) -> str:
    """Return errors as Markdown, depth against line: test error, its interval, and the training error in brackets."""
    lines = {name: study.line_of(name).set_index("depth") for name in names or study.lines if name in study.lines}
    headings = ["T or L", *lines]
    rows = [
        [str(depth), *(_cell(study, found.loc[depth]) if depth in found.index else "" for found in lines.values())]
        for depth in sorted({depth for found in lines.values() for depth in found.index})
    ]
    text = "\n".join("| " + " | ".join(row) + " |" for row in [headings, ["---"] * len(headings), *rows])
    seeds = sorted({int(count) for found in lines.values() for count in found["seeds"]})
    missing = [name for name in names if name not in study.lines]
    note = f"Test MAE ± half of the 95 % interval, and in brackets the training MAE ({study.unit}); seeds: "
    note += " to ".join(map(str, dict.fromkeys((*seeds[:1], *seeds[-1:])))) + "."
    return f"{text}\n\n{note}" + (f" Not trained yet: {', '.join(missing)}." if missing else "") + "\n"


def _cell(study: Study, row: pd.Series) -> str:
    train = "" if math.isnan(row["train_error"]) else f" ({row['train_error']:.4f})"
    return f"{study.interval(row['variant'])}{train}"


def comparison(study: Study, names: list[str]) -> str:
    """Return the paired difference of two variants, and whether the first is not worse by more than a margin."""
    from srcgcnn.analysis.comparison import compare, non_inferior, p_phrase

    variant, reference, margin = names
    if not {variant, reference} <= set(study.variants["variant"]):
        return f"> {variant} minus {reference}: not trained yet.\n"
    found = compare(study, variant, reference)
    if not found.seeds:
        return f"> {variant} minus {reference}: not trained with the same seed yet.\n"
    difference, claim = found.difference, non_inferior(found, float(margin))
    if not difference.known:
        return f"> {variant} minus {reference}: **{difference.mean:+.4f} {study.unit}** (one seed: no interval).\n"
    if difference.low > 0 or difference.high < 0:
        verdict = "worse" if difference.low > 0 else "better"
    else:
        verdict = f"worse by {margin} is {'excluded' if claim.holds else 'not excluded'} ({p_phrase(claim.p_value)})"
    return (
        f"> {variant} minus {reference}: **{difference.mean:+.4f} {study.unit}** "
        f"({difference.low:+.4f} to {difference.high:+.4f}, {found.seeds} pairs of trials): {verdict}.\n"
    )


def figure(study: Study, names: list[str], folder: Path, home: Path) -> tuple[str, dict[Path, Drawing]]:
    """Return a figure as Markdown for a page that lies in `home`, and the figure with the file that it belongs into."""
    from docs.study_figures import draw

    kind, *others = names
    try:
        drawing = draw(study, kind, others)
    except ValueError as error:
        return f"> No figure yet: {error}.\n", {}
    path, (title, _, _) = folder / f"{kind}.svg", drawing.caption.partition(".")
    return f"![{title}]({os.path.relpath(path, home)})\n\n{drawing.caption}\n", {path: drawing}


TEXTS = {"table of": table, "depths of": depths, "comparison in": comparison}


def with_numbers(page: str, home: Path) -> tuple[str, dict[Path, Drawing]]:
    """Return a page of the folder `home` with what its studies say now, and its figures with their files."""
    figures: dict[Path, Drawing] = {}

    def written(found: re.Match[str]) -> str:
        folder = ROOT / found["folder"]
        study = study_in(folder)
        names = [name.strip() for name in (found["names"] or "").split(";") if name.strip()]
        if study is None:
            text = "> No trial has finished yet.\n"
        elif found["kind"] == "figure of":
            text, drawn = figure(study, names, folder, home)
            figures.update(drawn)
        else:
            text = TEXTS[found["kind"]](study, names)
        return f"{found['start']}{text}{found['end']}"

    return BLOCK.sub(written, page), figures


def main() -> None:
    """Write the pages and their figures."""
    from docs.study_figures import svg_of

    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after, figures = with_numbers(before, page.parent)
        if after != before:
            page.write_text(after, encoding="utf-8")
        for path, drawing in figures.items():
            path.write_bytes(svg_of(drawing))


if __name__ == "__main__":
    main()
