"""Write the numbers of studies into the pages that tell them: `python -m docs.studies`, from the repository's root.

Between two comments stands what the result files of a study say, so that no number is typed by hand:

    <!-- table of studies/matched: CGCNN-3; SR-CGCNN T=3 step-norm -->      (or without names: all variants)
    <!-- comparison in studies/matched: SR-CGCNN T=3 step-norm; CGCNN-3; 0.01 -->
    <!-- end -->

A test fails where a page differs from what this writes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from srcgcnn.analysis.tradeoff import TradeoffRow

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("studies/*/README.md"))]
BLOCK = re.compile(
    r"(?P<start><!-- (?P<kind>table of|comparison in) (?P<folder>studies/\w+)(?:: (?P<names>[^\n]*?))? -->\n)"
    r".*?(?P<end><!-- end -->)",
    re.DOTALL,
)


def table(folder: Path, names: list[str]) -> str:
    """Return the named variants of a study as Markdown, in this order; all of them where none is named."""
    from srcgcnn.analysis.tradeoff import tradeoff_of
    from srcgcnn.run.paths import RunPaths

    rows = {row.variant: row for row in tradeoff_of(RunPaths(folder))}
    chosen = [rows[name] for name in names] if names else list(rows.values())
    lines = [
        f"| variant | convolution parameters | seeds | train MAE | test MAE ({chosen[0].unit}) |",
        "| --- | --- | --- | --- | --- |",
        *map(_line, chosen),
    ]
    return "\n".join(lines) + "\n"


def _line(row: TradeoffRow) -> str:
    train = "–" if row.train is None else f"{row.train:.4f}"
    spread = f" ± {row.test.half_width:.4f}" if row.test.known else ""
    return f"| {row.variant} | {row.conv_parameters:,} | {row.seeds} | {train} | {row.test.mean:.4f}{spread} |"


def comparison(folder: Path, names: list[str]) -> str:
    """Return the paired difference of two variants, and whether the first is not worse by more than a margin."""
    from srcgcnn.analysis.comparison import compare, non_inferior, p_phrase
    from srcgcnn.analysis.study import find_studies
    from srcgcnn.run.paths import RunPaths

    variant, reference, margin = names
    ((study, (own, other)),) = find_studies(RunPaths(folder), variant, reference)
    found = compare(study, own, other)
    difference, claim = found.difference, non_inferior(found, float(margin))
    if difference.low > 0 or difference.high < 0:
        verdict = "worse" if difference.low > 0 else "better"
    else:
        verdict = f"worse by {margin} is {'excluded' if claim.holds else 'not excluded'} ({p_phrase(claim.p_value)})"
    return (
        f"> {variant} minus {reference}: **{difference.mean:+.4f} {study.unit}** "
        f"({difference.low:+.4f} to {difference.high:+.4f}, {found.seeds} seeds): {verdict}.\n"
    )


def with_numbers(page: str) -> str:
    """Return a page with the numbers of its studies written anew."""

    def written(found: re.Match[str]) -> str:
        names = [name.strip() for name in (found["names"] or "").split(";") if name.strip()]
        write = table if found["kind"] == "table of" else comparison
        return f"{found['start']}{write(ROOT / found['folder'], names)}{found['end']}"

    return BLOCK.sub(written, page)


def main() -> None:
    """Write the pages."""
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        if (after := with_numbers(before)) != before:
            page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
