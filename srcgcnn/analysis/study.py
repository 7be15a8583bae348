"""Trials that may be compared, as pandas frames.

A study is one data set, target, task and recipe. Networks of all kinds and widths are in it side by side, with all
learning rates and weight decays, and whatever else of the recipe the last request of the sweep varied. Trials of
different studies are never averaged or compared; `studies.py` divides a sweep's results into them. Of networks that
predict several targets the errors of a study are the common ones, and it has parts: the same trials as a study of each
target, in its unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from srcgcnn.analysis.intervals import MEAN, Interval, Repeats, interval_of
from srcgcnn.analysis.scores import scores_of
from srcgcnn.models.config import USUAL_WIDTH
from srcgcnn.run.labels import by_number, differing, labels_of, line_of
from srcgcnn.run.predictions import PREDICTION, TARGET, column_of, of_target
from srcgcnn.run.spent import is_gpu

if TYPE_CHECKING:
    from srcgcnn.run.folder import Run
    from srcgcnn.run.trial import DataRef, Variant
    from srcgcnn.run.trial_result import TrialResult

Rows = Literal["test", "validation"]
MOST_FAMILIES = 8  # as many as there are colours
NO_RECIPE = ("model.", "data", "target", "split.", "epochs")  # beginnings of names of other settings


@dataclass(frozen=True)
class Study:
    """Comparable trials.

    Attributes:
        title: data set and target, and what distinguishes this study from the others of the sweep.
        results: its trials, ordered by key.
        run: the sweep, where the predictions are.
        requested: whether the last request of the sweep requested some of them.
    """

    title: str
    results: tuple[TrialResult, ...]
    run: Run
    requested: bool = True

    @property
    def task(self) -> str:
        """`regression` or `classification`."""
        return self.results[0].config.model.task

    @property
    def data(self) -> DataRef:
        """The numbers that its trials saw."""
        return self.results[0].config.data

    @property
    def unit(self) -> str:
        """Unit of the errors."""
        return "error rate" if self.task == "classification" else self.data.unit or "target's unit"

    @cached_property
    def parts(self) -> tuple[Study, ...]:
        """One study for each of several targets; none for a single one."""
        return tuple(
            replace(self, title=f"{self.title}: {name}", results=tuple(one.of_target(name) for one in self.results))
            for name in (target.name for target in self.data.targets)
        )

    @property
    def on_gpu(self) -> bool:
        """Whether all trials ran on GPUs, where memory is measured per trial."""
        return all(is_gpu(result) for result in self.results)

    @property
    def quantity(self) -> str:
        """What the errors are, for axes: `MAE (eV/atom)`."""
        if self.task == "classification":
            return "error rate (1 − accuracy)"
        return self.unit if self.data.targets else f"MAE ({self.unit})"

    @cached_property
    def peers(self) -> list[str]:
        """Variants that were trained on the rows of the best one: those among which one may choose."""
        split = self.named[self.best].training.split
        return [name for name in self.variants["variant"] if self.named[name].training.split == split]

    @cached_property
    def families(self) -> dict[str, str]:
        """Kind of network of every variant, by its name: all widths and depths of a kind are one family.

        Settings of the recipe that vary make families of their own, if these are few.
        """
        settings = [name for name in differing(list(self.named.values())) if not name.startswith(NO_RECIPE)]
        for names in (settings, []):
            found = {name: line_of(_usual_width(one), names) for name, one in self.named.items()}
            if len(set(found.values())) <= MOST_FAMILIES:
                return found
        return {name: one.model.title for name, one in self.named.items()}

    @cached_property
    def labels(self) -> dict[Variant, str]:
        """Names of the variants, which say what differs in this study."""
        return labels_of(result.config.variant for result in self.results)

    @cached_property
    def named(self) -> dict[str, Variant]:
        """The variants by name."""
        return {label: variant for variant, label in self.labels.items()}

    @cached_property
    def members(self) -> dict[str, tuple[TrialResult, ...]]:
        """The trials of every variant, by its name, ordered by split and seed."""
        found: dict[str, list[TrialResult]] = {}
        for result in sorted(self.results, key=lambda one: (one.config.seeds.split, one.config.seeds.init)):
            found.setdefault(self.labels[result.config.variant], []).append(result)
        return {label: tuple(results) for label, results in found.items()}

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial, ordered by variant, split and seed."""
        names = differing(list(self.labels))
        rows = [
            _row(one, self.labels[one.config.variant], line_of(one.config.variant, names)) | self._scores(one)
            for one in self.results
        ]
        table = pd.DataFrame(rows)
        names = sorted({*table["line"], *table["variant"]}, key=by_number)
        place = {name: number for number, name in enumerate(names)}

        def order(column: pd.Series) -> pd.Series:
            return column.map(place) if column.name in ("line", "variant") else column

        return table.sort_values(["line", "depth", "variant", "split", "seed"], key=order, ignore_index=True)

    @cached_property
    def variants(self) -> pd.DataFrame:
        """One row per variant: its line, depth, counts, and mean errors (those of `interval`), by line and depth."""
        grouped = self.trials.groupby("variant", sort=False)
        table = grouped.agg(
            line=("line", "first"),
            depth=("depth", "first"),
            conv_parameters=("conv_parameters", "first"),
            total_parameters=("total_parameters", "first"),
            trials=("key", "size"),
            seeds=("seed", "nunique"),
            splits=("split", "nunique"),
            train_error=("train_error", "mean"),
            rmse=("rmse", "mean"),
            r2=("r2", "mean"),
            roc_auc=("roc_auc", "mean"),
            seconds=("seconds", "median"),
            memory_mb=("memory_mb", "median"),
        ).reset_index()
        return table.assign(
            val_error=[self.interval(name, "validation").mean for name in table["variant"]],
            test_error=[self.interval(name).mean for name in table["variant"]],
        )

    @property
    def best(self) -> str:
        """The variant of lowest mean validation error: the test set has no say in it."""
        return str(self.variants.loc[self.variants["val_error"].idxmin(), "variant"])

    def predictions(self, key: str, rows: Rows = "test") -> pd.DataFrame | None:
        """Predictions of a trial: id, formula, target, prediction; None if they were not kept.

        None of several targets, too, whose parts have them.
        """
        chosen = self._kept(key, rows)
        if chosen is None or self.data.targets:
            return None
        return chosen if PREDICTION in chosen else of_target(chosen, self.data.target)

    def _kept(self, key: str, rows: Rows) -> pd.DataFrame | None:
        table = self.run.predictions(key)
        chosen = None if table is None else table[table["set"] == rows]
        return None if chosen is None or chosen.empty else chosen

    def _scores(self, result: TrialResult) -> dict[str, float]:
        """RMSE, R2 and ROC-AUC of a trial on its test rows; NaN if they need predictions that were not kept."""
        table = self.predictions(result.key)
        scores = None if table is None else scores_of(table["target"], table["prediction"], self.task)
        known = {"rmse": result.metrics.test_rmse, "r2": None, "roc_auc": None}
        if scores is not None:
            known |= {"r2": scores.r2, "roc_auc": scores.roc_auc}
        return {name: float("nan") if value is None else float(value) for name, value in known.items()}

    def crystal_errors(self, key: str, rows: Rows = "test") -> pd.Series | None:
        """Error of each crystal of a trial, by id: |prediction - target|, or 0 and 1; None without predictions."""
        if self.data.targets:
            return self._common_errors(key, rows)
        table = self.predictions(key, rows)
        if table is None:
            return None
        if self.task == "classification":
            errors = ((table["prediction"] > 0.5) != (table["target"] > 0.5)).astype(float)
        else:
            errors = (table["prediction"] - table["target"]).abs()
        return errors.set_axis(table["id"])

    def _common_errors(self, key: str, rows: Rows) -> pd.Series | None:
        """Give each crystal its share in the common error of several targets, so that their mean is that error.

        A target counts as much as another, however few crystals have it: its errors weigh more, then.
        """
        table = self._kept(key, rows)
        if table is None:
            return None
        targets = next(one for one in self.results if one.key == key).targets
        errors = {one.name: _absolute_errors(table, one.name) / one.deviation for one in targets}
        ratios = pd.DataFrame(errors)
        return (ratios * (len(ratios) / ratios.count())).sum(axis="columns").div(len(targets)).set_axis(table["id"])

    def repeats(self, variant: str, rows: Rows = "test") -> Repeats:
        """Errors of a variant by split, seed and crystal; by split and seed if predictions are missing."""
        if variant not in self.members:
            raise ValueError(f"no variant {variant!r}; available: {', '.join(self.variants['variant'])}")
        results = self.members[variant]
        by_split: dict[int, dict[int, Any]] = {}
        for one in results:
            by_split.setdefault(one.config.seeds.split, {})[one.config.seeds.init] = one
        errors = {split: self._errors(seeds, rows) for split, seeds in by_split.items()}
        split = results[0].config.training.split
        return Repeats(errors, overlap(results[0], rows), (self.data.data_hash, replace(split, train_size=None)))

    def _errors(self, seeds: dict[int, TrialResult], rows: Rows) -> pd.DataFrame:
        errors = {seed: self.crystal_errors(result.key, rows) for seed, result in seeds.items()}
        if any(series is None for series in errors.values()):
            errors = {
                seed: pd.Series({MEAN: result.test_error if rows == "test" else result.val_error})
                for seed, result in seeds.items()
            }
        return pd.DataFrame(errors).T.dropna(axis="columns")

    def interval(self, variant: str, rows: Rows = "test") -> Interval:
        """Return the mean error of a variant with its 95 % interval: the one that every table and figure shows."""
        if (variant, rows) not in self._intervals:
            self._intervals[variant, rows] = interval_of(self.repeats(variant, rows))
        return self._intervals[variant, rows]

    @cached_property
    def _intervals(self) -> dict[tuple[str, Rows], Interval]:
        return {}

    def like(self, variant: str, **changes: Any) -> str | None:
        """Return the name of the variant whose network differs in these fields alone; None if it is not here.

        Equal networks are one: what is like an SR-CGCNN with `depth=1` may be CGCNN-1.
        """
        one = self.named[variant]
        return self.labels.get(replace(one, model=replace(one.model, **changes)))

    def line_of(self, line: str) -> pd.DataFrame:
        """Variants of a line by depth, with the one of depth 1 that is the same network under another name."""
        table = self.variants
        chosen = table["line"] == line
        first = self.like(str(table.loc[chosen, "variant"].iloc[0]), depth=1)
        return table[chosen | (table["variant"] == first)].sort_values("depth", ignore_index=True)

    @property
    def lines(self) -> list[str]:
        """Lines of the figure of error against depth."""
        return list(self.variants["line"].unique())

    def depth_letter(self, line: str) -> str:
        """What the depth of a line counts: layers `L` or steps `T`."""
        variant = str(self.variants.loc[self.variants["line"] == line, "variant"].iloc[0])
        return self.named[variant].model.depth_letter

    def find(self, query: str) -> str:
        """Return the name of the variant that a query selects: its full name, or words that are in no other name.

        A word may be that of `--models`: `cgcnn` is the CGCNN, if there is one, and never an SR-CGCNN.

        Raises:
            ValueError: none or several match; the message lists them.
        """
        names = list(self.variants["variant"])
        if query in names:
            return query
        words = {name: {*name.lower().split(), self.named[name].model.family.lower()} for name in names}
        found = [name for name in names if set(query.lower().split()) <= words[name]]
        found = found or [name for name in names if query.lower() in name.lower()]
        if len(found) == 1:
            return found[0]
        meant = "several variants match" if found else "no variant matches"
        raise ValueError(f"{meant} {query!r}; known: {', '.join(found or names)}")


def _absolute_errors(table: pd.DataFrame, name: str) -> pd.Series:
    """Return the errors of one of several targets; NaN where a crystal lacks it."""
    return (table[column_of(PREDICTION, name)] - table[column_of(TARGET, name)]).abs()


def _row(result: TrialResult, label: str, line: str) -> dict[str, object]:
    config = result.config
    return {
        "key": result.key,
        "variant": label,
        "line": line,
        "depth": config.model.depth,
        "seed": config.seeds.init,
        "split": config.seeds.split,
        "conv_parameters": result.conv_parameters,
        "total_parameters": result.total_parameters,
        "train_error": float("nan") if result.train_error is None else result.train_error,
        "val_error": result.val_error,
        "test_error": result.test_error,
        "best_epoch": result.metrics.best_epoch,
        "epochs": len(result.curves.train_loss),
        "seconds": result.cost.seconds,
        "memory_mb": result.cost.peak_memory_mb,
    }


def overlap(result: TrialResult, rows: Rows = "test") -> float:
    """Return the test (or validation) rows per training row of a split, for the correction of overlapping splits.

    Subsets (`train_size`) overlap less than the training rows that they are drawn from: all of these count.
    """
    train, validation, test = result.rows
    split = result.config.training.split
    if split.train_size is not None:
        train = split.training_rows(validation)
    return (test if rows == "test" else validation) / train


def _usual_width(variant: Variant) -> Variant:
    return replace(variant, model=replace(variant.model, hidden_channels=USUAL_WIDTH))
