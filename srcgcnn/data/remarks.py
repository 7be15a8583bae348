"""Remarks on a store that was built: what was left out, repeated, or far outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.data.manifest import REJECTED_FILE
from srcgcnn.data.outliers import FAR, far_outside

if TYPE_CHECKING:
    from pathlib import Path

    from srcgcnn.data.build import BuildReport
    from srcgcnn.data.manifest import TargetColumn
    from srcgcnn.data.store import GraphStore


def build_remarks(report: BuildReport, out: Path) -> list[str]:
    """Return one line for everything that is odd in the data of a build."""
    manifest, lines = report.store.manifest, [f"store {'found' if report.found else 'built'}: {out}"]
    if manifest.rejected:
        first = "; ".join(f"{row.row_id}: {row.reason}" for row in report.rejected[:3])
        listed = f"{manifest.rejected:,} rows were rejected, listed in {out / REJECTED_FILE}"
        lines.append(f"{listed}. {first}" if first else listed)
    if manifest.repeated:
        lines.append(
            f"{manifest.repeated:,} crystals have the same graph as an earlier row: a random split may test on what it "
            "trained on; remove them, or split by formula"
        )
    lines += [
        f"{target.name} is missing in {target.missing:,} of {manifest.crystals:,} crystals, which train other targets"
        for target in manifest.targets
        if target.missing
    ]
    return [*lines, *filter(None, (_outliers(report.store, target) for target in manifest.targets))]


def _outliers(store: GraphStore, target: TargetColumn) -> str:
    values = store.target(target.name)
    there = np.flatnonzero(~np.isnan(values))
    values = values[there]
    rows = far_outside(values)
    if not len(rows):
        return ""
    worst = ", ".join(f"{store.ids[there[row]]}: {values[row]:g}" for row in rows[:3].tolist())
    median = f"{np.median(values):.4g} {target.unit}".rstrip()
    return (
        f"{len(rows):,} of {len(values):,} values of {target.name} lie far outside (over {FAR:g} robust deviations "
        f"from the median {median}): {worst}{' ...' if len(rows) > 3 else ''}; they stay in and change the scale of "
        "all targets: correct the source if they are mistakes"
    )
