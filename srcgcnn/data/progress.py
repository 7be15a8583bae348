"""Builds and fetches with a progress bar, and their summaries for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from srcgcnn.data.build import BuildReport, build_store
from srcgcnn.data.manifest import REJECTED_FILE
from srcgcnn.data.materials_project.snapshot import Snapshot, fetch_snapshot
from srcgcnn.data.outliers import FAR, far_outside
from srcgcnn.terminal import make_console

if TYPE_CHECKING:
    from pathlib import Path

    from srcgcnn.data.graph import GraphSettings
    from srcgcnn.data.manifest import TargetColumn
    from srcgcnn.data.materials_project.query import MpQuery
    from srcgcnn.data.source import Source
    from srcgcnn.data.store import GraphStore


def build_with_progress(
    source: Source,
    out: Path,
    *,
    settings: GraphSettings | None = None,
    processes: int | None = None,
    strict: bool = False,
) -> BuildReport:
    """Build or find a store, showing progress on stderr and saying what is odd in the data."""
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
    manifest = report.store.manifest
    console.print(f"store {'found' if report.found else 'built'}: {out}", soft_wrap=True)
    if manifest.rejected:
        first = "; ".join(f"{row.row_id}: {row.reason}" for row in report.rejected[:3])
        listed = f"{manifest.rejected:,} rows were rejected, listed in {out / REJECTED_FILE}"
        console.print(f"{listed}. {first}" if first else listed, soft_wrap=True)
    if manifest.repeated:
        console.print(
            f"{manifest.repeated:,} crystals have the same graph as an earlier row: a random split may test on what it "
            "trained on; remove them, or split by formula",
            soft_wrap=True,
        )
    for target in manifest.targets:
        if line := _outliers(report.store, target):
            console.print(line, soft_wrap=True)
    return report


def _outliers(store: GraphStore, target: TargetColumn) -> str:
    values = store.target(target.name)
    rows = far_outside(values)
    if not len(rows):
        return ""
    worst = ", ".join(f"{store.ids[row]}: {values[row]:g}" for row in rows[:3].tolist())
    median = f"{np.median(values):.4g} {target.unit}".rstrip()
    return (
        f"{len(rows):,} of {len(values):,} values of {target.name} lie far outside (over {FAR:g} robust deviations "
        f"from the median {median}): {worst}{' ...' if len(rows) > 3 else ''}; they stay in and change the scale of "
        "all targets: correct the source if they are mistakes"
    )


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
