"""Write the table of measured GPUs into docs/performance.md: `python -m docs.gpu_rows`, from the repository's root.

Every row is one file of `benchmarks/gpu/`, which is the `report.json` of `benchmarks/gpu_report.py`. A test fails where
the page differs from what this writes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REPORTS, PAGE = ROOT / "benchmarks" / "gpu", ROOT / "docs" / "performance.md"
START, END = "<!-- GPUs, written by `python -m docs.gpu_rows` -->\n", "<!-- end of GPUs -->\n"
NO_ROW = "No GPU has been measured yet. To contribute a row: `benchmarks/gpu/README.md`.\n"


@dataclass(frozen=True)
class Column:
    """One figure of a report: the heading, and the part and name under which the report has it."""

    heading: str
    part: str
    figure: str


COLUMNS = (
    Column("one trial, s", "trial", "process to result"),
    Column("against the authors' code", "trial against authors", ""),
    Column("the paper's eight trainings, s", "paper", "eight trainings"),
    Column("16 trials in a group against one by one", "group", "group against one by one"),
    Column("memory, T = 10 against T = 1", "memory", "T=10 against T=1"),
    Column("structures/s at T = 3", "throughput", "T=3 M=16 batch=256"),
)


def rows_of(reports: Path) -> str:
    """Return the table as Markdown: a line per file, empty cells where a report has no such figure.

    Raises:
        ValueError: a file is no report.
    """
    files = sorted(reports.glob("*.json"))
    if not files:
        return NO_ROW
    lines = [
        "| device | torch | " + " | ".join(column.heading for column in COLUMNS) + " | commit |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    for file in files:
        report = json.loads(file.read_text(encoding="utf-8"))
        machine = next((part["machine"] for part in report.values() if "machine" in part), None)
        if machine is None:
            raise ValueError(f"{file}: no part of it names a machine; is it a report.json of gpu_report.py?")
        cells = [machine["device"], machine["torch"], *(_cell(report, column) for column in COLUMNS)]
        lines.append("| " + " | ".join([*cells, machine["commit"][:7]]) + " |")
    return "\n".join(lines) + "\n\n\\* extrapolated from fewer epochs\n"


def _cell(report: dict[str, Any], column: Column) -> str:
    part = report.get(column.part, {})
    figure = part.get(column.figure) if column.figure else part
    if not figure:
        return ""
    return f"{figure['value']:.3g}" + ("" if figure["how"] == "measured" else "\\*")


def with_rows(text: str) -> str:
    """Return the page with the table between its two marks."""
    pattern = re.compile(re.escape(START) + ".*?" + re.escape(END), re.DOTALL)
    return pattern.sub(lambda _: START + rows_of(REPORTS) + END, text)


if __name__ == "__main__":
    PAGE.write_text(with_rows(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
