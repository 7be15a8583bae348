"""The trade-off table: accuracy against parameters, mean and interval over seeds."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass, fields
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING

from srcgcnn.records import digest
from srcgcnn.run.results import read_results

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import TrialConfig, TrialResult

CONFIDENCE = 0.95
CAPTION = "mean ± half width of the 95 % interval (Student t) over seeds, or over splits where several; test read once"


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
    """One variant: all seeds and splits of one network trained in one way on one target of one data set.

    `val` and `test` are MAE in `unit`, or 1 - accuracy (`unit` is then "error rate"). `recipe` names what differs in
    training, widths or target between the rows of one table, "" if nothing does.
    """

    model: str
    depth: int
    norm: str
    alpha: str
    conv_parameters: int
    total_parameters: int
    seeds: int
    splits: int
    val: Estimate
    test: Estimate
    unit: str
    seconds: float
    recipe: str
    data_hash: str


def tradeoff_of(paths: RunPaths) -> list[TradeoffRow]:
    """Return the rows of a sweep's folder, ordered by model, depth, norm and damping."""
    return tradeoff(read_results(paths))


def tradeoff(results: Iterable[TrialResult]) -> list[TradeoffRow]:
    """Group results over seeds and splits."""
    variants: dict[object, list[TrialResult]] = {}
    for result in results:
        config = result.config
        identity = (config.model, config.training, config.data.data_hash, config.data.target)
        variants.setdefault(identity, []).append(result)
    recipes = recipe_differences([members[0].config for members in variants.values()])
    rows = [_row(members, recipe) for members, recipe in zip(variants.values(), recipes, strict=True)]
    return sorted(rows, key=lambda row: (row.data_hash, row.recipe, row.model, row.norm, row.alpha, row.depth))


def recipe_differences(configs: Sequence[TrialConfig]) -> list[str]:
    """Name, for every configuration, the settings that are not columns of the table and differ somewhere in it."""
    settings = [_settings(config) for config in configs]
    differing = [name for name in (settings[0] if settings else ()) if len({str(each[name]) for each in settings}) > 1]
    return [", ".join(f"{name}={each[name]}" for name in differing) for each in settings]


def _settings(config: TrialConfig) -> dict[str, object]:
    training, model = asdict(config.training), asdict(config.model)
    split = {f"split.{name}": value for name, value in training.pop("split").items()}
    split["split.lists"] = digest(split["split.lists"]) if split["split.lists"] else "none"
    start = config.training.start
    training["start"] = "none" if start is None else start.label
    widths = {name: model[name] for name in ("hidden_channels", "head_channels", "head_layers", "task")}
    return {"target": config.data.target, **training, **split, **widths}


def _row(members: Sequence[TrialResult], recipe: str) -> TradeoffRow:
    config = members[0].config
    model, recurrent = config.model, config.model.varies_steps
    return TradeoffRow(
        model=model.title + (" + LayerNorm" if model.layer_norm else ""),
        depth=model.depth,
        norm=model.norm if recurrent else "-",
        alpha=str(model.alpha) if recurrent else "-",
        conv_parameters=members[0].conv_parameters,
        total_parameters=members[0].total_parameters,
        seeds=len({member.config.seeds.init for member in members}),
        splits=len({member.config.seeds.split for member in members}),
        val=_over_seeds_or_splits(members, [errors_of(member)[0] for member in members]),
        test=_over_seeds_or_splits(members, [errors_of(member)[1] for member in members]),
        unit="error rate" if model.task == "classification" else config.data.unit,
        seconds=median(member.cost.seconds for member in members),
        recipe=recipe,
        data_hash=config.data.data_hash,
    )


def _over_seeds_or_splits(members: Sequence[TrialResult], errors: Sequence[float]) -> Estimate:
    """Estimate over seeds; over the means of the splits where there are several, whose seeds are not independent."""
    by_split: dict[int, list[float]] = {}
    for member, error in zip(members, errors, strict=True):
        by_split.setdefault(member.config.seeds.split, []).append(error)
    return estimate(errors if len(by_split) == 1 else [fmean(values) for values in by_split.values()])


def errors_of(result: TrialResult) -> tuple[float, float]:
    """Return validation and test error of a trial: MAE, or 1 - accuracy."""
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
    "splits": "splits",
    "val": "val MAE",
    "test": "test MAE",
    "unit": "unit",
    "seconds": "seconds/trial",
}


def _columns(rows: Sequence[TradeoffRow]) -> dict[str, str]:
    """Headings; splits, recipe and data appear only where they tell rows apart."""
    columns = dict(HEADINGS)
    if all(row.unit == "error rate" for row in rows):
        columns |= {"val": "val error", "test": "test error"}
    if all(row.splits == 1 for row in rows):
        del columns["splits"]
    for name in ("recipe", "data_hash"):
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

    columns, caption = _columns(rows), CAPTION
    for name in LEFT_OUT_FIRST:
        if _width(rows, columns) <= console.width:
            break
        columns.pop(name, None)
        caption = f"{CAPTION}; this terminal is too narrow for all columns: --format markdown"
    table = Table(caption=caption)
    for name, heading in columns.items():
        table.add_column(heading, justify="left" if name in ("model", "norm", "alpha", "unit", "recipe") else "right")
    for row in rows:
        table.add_row(*[_cell(row, name) for name in columns])
    console.print(table)


LEFT_OUT_FIRST = ("seconds", "total_parameters", "val", "unit", "splits")  # on a narrow terminal; numbers are not cut


def _width(rows: Sequence[TradeoffRow], columns: Mapping[str, str]) -> int:
    """Return the columns of a terminal that the table takes."""
    longest = [max(len(heading), *(len(_cell(row, name)) for row in rows)) for name, heading in columns.items()]
    return sum(longest) + 3 * len(longest) + 1


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
