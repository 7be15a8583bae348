"""The trade-off table: accuracy against parameters. `results`, MLflow, the console and the report show this one."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from srcgcnn.analysis.intervals import Interval
from srcgcnn.analysis.markdown import markdown_table
from srcgcnn.analysis.studies import views_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from srcgcnn.analysis.study import Study
    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths


REPEATED = {  # what an interval is for, by what was repeated
    "seeds and crystals": "for new seeds and new crystals",
    "seeds": "for new seeds on these crystals",
    "splits": "for new splits",
    "splits and crystals": "for new splits and new crystals",
}


def interval_words(intervals: Iterable[Interval]) -> str:
    """Say what `mean ± half width` is, of those among these intervals that are known."""
    found = {one.repeats for one in intervals if one.known}
    words = " or ".join(text for name, text in REPEATED.items() if name in found)
    return f"mean ± half width of the 95 % interval {words}" if words else "mean; no interval is known"


def caption_of(errors: Iterable[Interval]) -> str:
    """Return what stands below a table of these errors."""
    return f"{interval_words(errors)}; the test set was read once"


@dataclass(frozen=True)
class TradeoffRow:
    """One variant of one study: all its seeds and splits.

    `train`, `val` and `test` are MAE in `unit`, or 1 - accuracy (`unit` is then "error rate"), or the common error of
    several targets ("mean of MAE/std"). `train` is the mean
    error on the training rows, None if older versions trained. `rmse`, `r2` and `roc_auc` are those of the test
    rows, means over trials; None for the other task, and if they need predictions that were not kept. `variant` is
    the name that `compare` takes. `study` says what distinguishes its study from others of the sweep, `data_hash` which
    data it was trained on.
    """

    variant: str
    model: str
    depth: int
    norm: str
    alpha: str
    conv_parameters: int
    total_parameters: int
    seeds: int
    splits: int
    train: float | None
    val: Interval
    test: Interval
    rmse: float | None
    r2: float | None
    roc_auc: float | None
    unit: str
    seconds: float
    study: str
    data_hash: str


def tradeoff_of(folder: Run | RunPaths, target: str | None = None) -> list[TradeoffRow]:
    """Return the rows of a sweep: those of the last request first, then by model, norm, damping and depth.

    Rows of several targets are followed by those of each; `target` asks for one of them.
    """
    return [row for study in views_of(folder, target) for row in rows_of(study)]


def rows_of(study: Study) -> list[TradeoffRow]:
    """Return the rows of one study."""
    return [_row(study, row) for row in study.variants.itertuples()]


def _row(study: Study, counts: Any) -> TradeoffRow:
    model, data = study.named[counts.variant].model, study.named[counts.variant].data
    return TradeoffRow(
        variant=counts.variant,
        model=model.title + (" + LayerNorm" if model.layer_norm else ""),
        depth=model.depth,
        norm=model.norm if model.varies_steps else "-",
        alpha=str(model.alpha) if model.varies_steps else "-",
        conv_parameters=int(counts.conv_parameters),
        total_parameters=int(counts.total_parameters),
        seeds=int(counts.seeds),
        splits=int(counts.splits),
        train=_known(counts.train_error),
        val=study.interval(counts.variant, "validation"),
        test=study.interval(counts.variant),
        rmse=_known(counts.rmse),
        r2=_known(counts.r2),
        roc_auc=_known(counts.roc_auc),
        unit="error rate" if study.task == "classification" else data.unit,
        seconds=float(counts.seconds),
        study=study.title,
        data_hash=data.data_hash,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


HEADINGS = {
    "variant": "variant",
    "conv_parameters": "conv params",
    "total_parameters": "total params",
    "seeds": "seeds",
    "splits": "splits",
    "train": "train MAE",
    "val": "val MAE",
    "test": "test MAE",
    "rmse": "test RMSE",
    "r2": "test R²",
    "roc_auc": "test ROC-AUC",
    "unit": "unit",
    "seconds": "seconds/trial",
    "study": "study",
}
LEFT = ("variant", "unit", "study")
OPTIONAL = ("train", "rmse", "r2", "roc_auc")  # columns that are left out if they are empty
LEFT_OUT_FIRST = ("seconds", "rmse", "r2", "total_parameters", "train", "unit", "val", "splits")  # on a narrow terminal


def _columns(rows: Sequence[TradeoffRow]) -> dict[str, str]:
    """Headings; an empty column is left out."""
    columns = dict(HEADINGS)
    if all(row.unit == "error rate" for row in rows):
        columns |= {"train": "train error", "val": "val error", "test": "test error"}
    if all(row.splits == 1 for row in rows):
        del columns["splits"]
    for name in OPTIONAL:
        if all(getattr(row, name) is None for row in rows):
            del columns[name]
    if len({row.study for row in rows}) == 1:
        del columns["study"]
    return columns


def _cell(row: TradeoffRow, name: str) -> str:
    value = getattr(row, name)
    if name.endswith("_parameters"):
        return f"{value:,}"
    if name in OPTIONAL:
        return "–" if value is None else f"{value:.4f}"
    return f"{value:.1f}" if name == "seconds" else str(value)


def print_tradeoff(rows: Sequence[TradeoffRow], console: Console) -> None:
    """Print the table in readable form."""
    from rich.table import Table

    caption = described = caption_of(row.test for row in rows)
    columns = _columns(rows)
    units = {row.unit for row in rows}
    for name in [name for name in LEFT_OUT_FIRST if name != "unit" or len(units) == 1]:
        if _width(rows, columns) <= console.width:
            break
        columns.pop(name, None)
        unit = "" if "unit" in columns else f"errors in {''.join(units)}; "
        caption = f"{unit}{described}; this terminal is too narrow for all columns: --format markdown"
    table = Table(caption=caption)
    for name, heading in columns.items():
        table.add_column(heading, justify="left" if name in LEFT else "right")
    for row in rows:
        table.add_row(*[_cell(row, name) for name in columns])
    console.print(table)


def _width(rows: Sequence[TradeoffRow], columns: Mapping[str, str]) -> int:
    """Return the columns of a terminal that the table takes."""
    longest = [max(len(heading), *(len(_cell(row, name)) for row in rows)) for name, heading in columns.items()]
    return sum(longest) + 3 * len(longest) + 1


def as_markdown(rows: Sequence[TradeoffRow]) -> str:
    """Return the table as Markdown."""
    columns = _columns(rows)
    return markdown_table([*columns.values()], ([_cell(row, name) for name in columns] for row in rows))


def as_csv(rows: Sequence[TradeoffRow]) -> str:
    """Return the table as CSV, one plain number per cell."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    records = as_records(rows)
    writer.writerow(records[0] if records else [field.name for field in fields(TradeoffRow)])
    for record in records:
        writer.writerow(["" if value is None else value for value in record.values()])
    return stream.getvalue()


def as_records(rows: Sequence[TradeoffRow]) -> list[dict[str, object]]:
    """Return the table as flat JSON-like records; an interval is its mean, its half width and what it is over."""
    return [_flat(row) for row in rows]


def _flat(row: TradeoffRow) -> dict[str, object]:
    record: dict[str, object] = {}
    for field in fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Interval):
            half_width = value.half_width if value.known else None
            record |= {field.name: value.mean, f"{field.name}_half_width": half_width}
            record |= {f"{field.name}_interval_over": value.repeats}
        else:
            record[field.name] = value
    return record
