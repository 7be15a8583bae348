"""Stores and snapshots made at a terminal: a progress bar, and remarks on the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from srcgcnn.data.build import build_store
from srcgcnn.data.materials_project.snapshot import fetch_snapshot
from srcgcnn.data.remarks import build_remarks
from srcgcnn.terminal import make_console

if TYPE_CHECKING:
    from pathlib import Path

    from srcgcnn.data.build import BuildReport
    from srcgcnn.data.graph import GraphSettings
    from srcgcnn.data.materials_project.query import MpQuery
    from srcgcnn.data.materials_project.snapshot import Snapshot
    from srcgcnn.data.source import Source


def build_with_progress(
    source: Source,
    out: Path,
    *,
    settings: GraphSettings | None = None,
    processes: int | None = None,
    strict: bool = False,
) -> BuildReport:
    """Build or find a store, showing progress on stderr and remarking on oddities of the data."""
    console = make_console(stderr=True)
    columns = (TextColumn("building graphs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("build", total=source.count)
        report = build_store(
            source,
            out,
            settings=settings,
            processes=processes,
            strict=strict,
            on_rows=lambda rows: bar.advance(task, rows),
        )
    for line in build_remarks(report, out):
        console.print(line, soft_wrap=True)
    return report


def fetch_with_progress(query: MpQuery, folder: Path) -> Snapshot:
    """Fetch or find a snapshot, showing progress on stderr."""
    console = make_console(stderr=True)
    columns = (TextColumn("Materials Project"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("fetch", total=query.filter.limit)
        snapshot = fetch_snapshot(
            query, folder, on_page=lambda done, total: bar.update(task, completed=done, total=total)
        )
    console.print(
        f"snapshot: {folder} ({snapshot.expected:,} materials, database {snapshot.database_version}, "
        f"fetched {snapshot.fetched_at})",
        soft_wrap=True,
    )
    return snapshot


class ShownBuilder:
    """A `Builder` for a terminal."""

    def build(self, source: Source, out: Path, settings: GraphSettings, *, strict: bool) -> BuildReport:
        """Build or find a store, with a progress bar."""
        return build_with_progress(source, out, settings=settings, strict=strict)

    def fetch(self, query: MpQuery, folder: Path) -> Snapshot:
        """Fetch or find a snapshot, with a progress bar."""
        return fetch_with_progress(query, folder)
