"""Results to studies: trials that may be compared, as pandas frames.

A study is one data set, target, recipe and width. Trials of different studies are never averaged or compared.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from srcgcnn.analysis.intervals import Repeats
from srcgcnn.analysis.tradeoff import errors_of, recipe_differences
from srcgcnn.run.results import read_results
from srcgcnn.run.spent import is_gpu

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from srcgcnn.models.config import ModelConfig
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import TrialResult


@dataclass(frozen=True)
class Study:
    """Comparable trials.

    Attributes:
        title: data set and target, and what tells this study from the others of the sweep.
        results: its trials, ordered by key.
        paths: where the predictions are.
    """

    title: str
    results: tuple[TrialResult, ...]
    paths: RunPaths

    @property
    def task(self) -> str:
        """`regression` or `classification`."""
        return self.results[0].config.model.task

    @property
    def unit(self) -> str:
        """Unit of the errors."""
        return "error rate" if self.task == "classification" else self.results[0].config.data.unit or "target's unit"

    @property
    def on_gpu(self) -> bool:
        """Whether all trials ran on GPUs, so that their memory is that of a trial."""
        return all(is_gpu(result) for result in self.results)

    @property
    def quantity(self) -> str:
        """What the errors are, for axes: `MAE (eV/atom)`."""
        return "error rate (1 − accuracy)" if self.task == "classification" else f"MAE ({self.unit})"

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial, ordered by variant, split and seed."""
        rows = [_row(result) for result in self.results]
        return pd.DataFrame(rows).sort_values(["line", "depth", "split", "seed"], ignore_index=True)

    @cached_property
    def variants(self) -> pd.DataFrame:
        """One row per variant: its line, depth, counts, and means over trials, ordered by line and depth."""
        grouped = self.trials.groupby("variant", sort=False)
        table = grouped.agg(
            line=("line", "first"),
            depth=("depth", "first"),
            conv_parameters=("conv_parameters", "first"),
            total_parameters=("total_parameters", "first"),
            trials=("key", "size"),
            seeds=("seed", "nunique"),
            splits=("split", "nunique"),
            val_error=("val_error", "mean"),
            test_error=("test_error", "mean"),
            seconds=("seconds", "median"),
            memory_mb=("memory_mb", "median"),
        )
        return table.reset_index()

    @property
    def best(self) -> str:
        """The variant of lowest mean validation error: the test set has no say in it."""
        return str(self.variants.loc[self.variants["val_error"].idxmin(), "variant"])

    @cached_property
    def predictions(self) -> dict[str, pd.DataFrame]:
        """Test predictions by trial key: id, formula, target, prediction. Trials without a file are missing."""
        found = {}
        for key in self.trials["key"]:
            path = self.paths.predictions(key)
            if path.exists():
                table = pd.read_parquet(path)
                found[key] = table[table["set"] == "test"] if "set" in table else table
        return found

    def crystal_errors(self, key: str) -> pd.Series | None:
        """Error of each test crystal of a trial, by id: |prediction - target|, or 0 and 1; None without a file."""
        table = self.predictions.get(key)
        if table is None:
            return None
        if self.task == "classification":
            errors = ((table["prediction"] > 0.5) != (table["target"] > 0.5)).astype(float)
        else:
            errors = (table["prediction"] - table["target"]).abs()
        return errors.set_axis(table["id"])

    def repeats(self, variant: str) -> Repeats:
        """Test errors of a variant by split, seed and crystal; by split and seed where predictions are missing."""
        chosen = self.trials[self.trials["variant"] == variant]
        if chosen.empty:
            raise ValueError(f"no variant {variant!r}; there are: {', '.join(self.variants['variant'])}")
        by_split = {}
        for split, members in chosen.groupby("split"):
            errors = {seed: self.crystal_errors(key) for seed, key in zip(members["seed"], members["key"], strict=True)}
            if any(series is None for series in errors.values()):
                errors = {
                    seed: pd.Series({"mean": error})
                    for seed, error in zip(members["seed"], members["test_error"], strict=True)
                }
            by_split[int(str(split))] = pd.DataFrame(errors).T.dropna(axis="columns")
        train, _, test = self.results[0].rows
        return Repeats(by_split, test / train)

    def line_of(self, line: str) -> pd.DataFrame:
        """Variants of a line by depth. X-1 is the T = 1 of every undamped line of SR-X (docs/design.md, decision 2)."""
        table = self.variants
        chosen = table["line"] == line
        tied = re.fullmatch(r"SR-(\S+) \w+-norm", line)
        if tied:
            chosen |= table["variant"] == f"{tied[1]}-1"
        return table[chosen].sort_values("depth", ignore_index=True)

    @property
    def lines(self) -> list[str]:
        """Lines of the figure of error against depth."""
        return sorted(self.variants["line"].unique())


def studies_of(paths: RunPaths) -> list[Study]:
    """Split a sweep's results into studies, the one with most trials first."""
    groups: dict[object, list[TrialResult]] = {}
    for result in read_results(paths):
        groups.setdefault(_setting(result), []).append(result)
    differences = recipe_differences([members[0].config for members in groups.values()])
    studies = [
        Study(_title(members[0], difference, groups), tuple(members), paths)
        for members, difference in zip(groups.values(), differences, strict=True)
    ]
    return sorted(studies, key=lambda study: (-len(study.results), study.title))


def _setting(result: TrialResult) -> object:
    config = result.config
    widths = {name: value for name, value in asdict(config.model).items() if name in WIDTHS}
    return config.data.data_hash, config.data.target, config.training, tuple(widths.values())


WIDTHS = ("hidden_channels", "head_channels", "head_layers", "task")


def _title(result: TrialResult, difference: str, groups: Mapping[object, Sequence[TrialResult]]) -> str:
    data = result.config.data
    several = len({members[0].config.data.data_hash for members in groups.values()}) > 1
    parts = [f"{data.name} ({data.data_hash})" if several else data.name, data.target]
    return ": ".join(parts) + (f" [{difference}]" if difference else "")


def _row(result: TrialResult) -> dict[str, object]:
    config, metrics = result.config, result.metrics
    model = config.model
    val, test = errors_of(result)
    return {
        "key": result.key,
        "variant": model.label,
        "line": line_label(model),
        "depth": model.depth,
        "seed": config.seeds.init,
        "split": config.seeds.split,
        "conv_parameters": result.conv_parameters,
        "total_parameters": result.total_parameters,
        "val_error": val,
        "test_error": test,
        "best_epoch": metrics.best_epoch,
        "epochs": len(result.curves.train_loss),
        "seconds": result.cost.seconds,
        "memory_mb": result.cost.peak_memory_mb,
    }


def line_label(model: ModelConfig) -> str:
    """Name a network without its depth."""
    return model.line


def find_studies(paths: RunPaths, *variants: str) -> list[Study]:
    """Return the studies that have all these variants, those with most trials first.

    Raises:
        ValueError: none has; the message lists the known variants.
    """
    studies = studies_of(paths)
    found = [study for study in studies if set(variants) <= set(study.variants["variant"])]
    if found:
        return found
    known = sorted({name for study in studies for name in study.variants["variant"]})
    raise ValueError(f"no study in {paths.out} holds {' and '.join(map(repr, variants))}; known: {', '.join(known)}")
