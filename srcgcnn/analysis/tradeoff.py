"""The trade-off table: accuracy against parameters, mean and interval over seeds."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass, fields
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING

from srcgcnn.sweep.results import read_results

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from srcgcnn.sweep.paths import RunPaths
    from srcgcnn.training.trial import TrialResult

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds with the half width of its 95 % interval (Student t); None with a single seed."""

    mean: float
    half_width: float | None

    def __str__(self) -> str:
        """Write as `0.1234 ± 0.0056`."""
        return f"{self.mean:.4f}" if self.half_width is None else f"{self.mean:.4f} ± {self.half_width:.4f}"


@dataclass(frozen=True)
class TradeoffRow:
    """One variant: all seeds of one network trained in one way on one target of one data set.

    `val` and `test` are MAE in `unit`, or 1 - accuracy (`unit` is then "error rate").
    """

    model: str
    depth: int
    norm: str
    alpha: str
    conv_parameters: int
    total_parameters: int
    seeds: int
    val: Estimate
    test: Estimate
    unit: str
    seconds: float
    training: str
    data_hash: str


def tradeoff_of(paths: RunPaths) -> list[TradeoffRow]:
    """Return the rows of a sweep's folder, ordered by model, depth, norm and damping."""
    return tradeoff(read_results(paths))


def tradeoff(results: Iterable[TrialResult]) -> list[TradeoffRow]:
    """Group results over seeds and splits."""
    variants: dict[object, list[TrialResult]] = {}
    for result in results:
        config = result.config
        identity = (config.model.canonical(), config.training, config.data.data_hash, config.data.target)
        variants.setdefault(identity, []).append(result)
    rows = [_row(members) for members in variants.values()]
    return sorted(rows, key=lambda row: (row.data_hash, row.training, row.model, row.norm, row.alpha, row.depth))


def _row(members: Sequence[TrialResult]) -> TradeoffRow:
    config = members[0].config
    model, recurrent = config.model, config.model.family == "srcgcnn"
    errors = [_errors(member) for member in members]
    return TradeoffRow(
        model=("SR-CGCNN" if recurrent else "CGCNN") + (" + LayerNorm" if model.layer_norm else ""),
        depth=model.depth,
        norm=model.norm if recurrent else "-",
        alpha=str(model.alpha) if recurrent else "-",
        conv_parameters=members[0].conv_parameters,
        total_parameters=members[0].total_parameters,
        seeds=len(members),
        val=estimate([val for val, _ in errors]),
        test=estimate([test for _, test in errors]),
        unit="error rate" if model.task == "classification" else config.data.unit,
        seconds=median(member.cost.seconds for member in members),
        training=f"{config.training.epochs} epochs",
        data_hash=config.data.data_hash,
    )


def _errors(result: TrialResult) -> tuple[float, float]:
    metrics = result.metrics
    if metrics.val_mae is not None and metrics.test_mae is not None:
        return metrics.val_mae, metrics.test_mae
    if metrics.val_accuracy is None or metrics.test_accuracy is None:
        raise ValueError(f"result {result.key} has neither MAE nor accuracy")
    return 1 - metrics.val_accuracy, 1 - metrics.test_accuracy


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and half width of the two-sided Student t interval."""
    from scipy.stats import t

    if len(values) < 2:
        return Estimate(fmean(values), None)
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return Estimate(fmean(values), quantile * stdev(values) / math.sqrt(len(values)))


HEADINGS = {
    "model": "model",
    "depth": "T or L",
    "norm": "norm",
    "alpha": "alpha",
    "conv_parameters": "conv params",
    "total_parameters": "total params",
    "seeds": "seeds",
    "val": "val MAE",
    "test": "test MAE",
    "unit": "unit",
    "seconds": "seconds/trial",
}


def _columns(rows: Sequence[TradeoffRow]) -> dict[str, str]:
    """Headings; training and data appear only where they differ between rows."""
    columns = dict(HEADINGS)
    for name in ("training", "data_hash"):
        if len({getattr(row, name) for row in rows}) > 1:
            columns[name] = name.replace("_", " ")
    return columns


def _cell(row: TradeoffRow, name: str) -> str:
    value = getattr(row, name)
    if name.endswith("_parameters"):
        return f"{value:,}"
    return f"{value:.1f}" if name == "seconds" else str(value)


def print_tradeoff(rows: Sequence[TradeoffRow], console: Console) -> None:
    """Print the table for people."""
    from rich.table import Table

    columns = _columns(rows)
    table = Table(caption="mean ± half width of the 95 % interval over seeds (Student t); test read once per trial")
    for name, heading in columns.items():
        table.add_column(heading, justify="left" if name in ("model", "norm", "alpha", "unit") else "right")
    for row in rows:
        table.add_row(*[_cell(row, name) for name in columns])
    console.print(table)


def as_markdown(rows: Sequence[TradeoffRow]) -> str:
    """Return the table as Markdown."""
    columns = _columns(rows)
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(row, name) for name in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def as_csv(rows: Sequence[TradeoffRow]) -> str:
    """Return the table as CSV, one plain number per cell."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [field.name for field in fields(TradeoffRow)]
    headings = [
        part for name in names for part in ([name, f"{name}_half_width"] if name in ("val", "test") else [name])
    ]
    writer.writerow(headings)
    for row in rows:
        writer.writerow([part for name in names for part in _plain(getattr(row, name))])
    return stream.getvalue()


def _plain(value: object) -> list[object]:
    if isinstance(value, Estimate):
        return [value.mean, "" if value.half_width is None else value.half_width]
    return [value]


def as_records(rows: Sequence[TradeoffRow]) -> list[dict[str, object]]:
    """Return the table as JSON-like records."""
    return [asdict(row) for row in rows]
