"""A build with a progress bar, and its summary for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from srcgcnn.data.build import BuildReport, build_store
from srcgcnn.data.manifest import REJECTED_FILE
from srcgcnn.terminal import make_console

if TYPE_CHECKING:
    from pathlib import Path

    from srcgcnn.data.source import Source


def build_with_progress(
    source: Source, out: Path, *, processes: int | None = None, strict: bool = False
) -> BuildReport:
    """Build or find a store, showing progress on stderr and saying what was rejected."""
    console = make_console(stderr=True)
    columns = (TextColumn("building graphs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("build", total=source.count)
        report = build_store(
            source, out, processes=processes, strict=strict, on_rows=lambda rows: bar.advance(task, rows)
        )
    manifest = report.store.manifest
    console.print(f"store {'found' if report.found else 'built'}: {out}", soft_wrap=True)
    if manifest.rejected:
        first = "; ".join(f"{row.row_id}: {row.reason}" for row in report.rejected[:3])
        listing = out / REJECTED_FILE
        console.print(f"{manifest.rejected:,} rows were rejected, listed in {listing}. {first}", soft_wrap=True)
    return report
