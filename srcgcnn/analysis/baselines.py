"""What predictors without a network reach on the same split: the mean or the majority class, and a linear model.

They need the graph store, so they are computed if it is available and kept in the folder of the sweep. A page that is
written elsewhere takes them from there, or says that they are missing.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from srcgcnn.analysis.intervals import Interval, Repeats, interval_of
from srcgcnn.analysis.scores import Scores, scores_of
from srcgcnn.analysis.study import overlap
from srcgcnn.files import write_text
from srcgcnn.records import RecordError, as_dict, digest, identity_of, read_if_whole, record
from srcgcnn.run.keys import FIRST_FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.analysis.study import Rows, Study
    from srcgcnn.data.store import GraphStore
    from srcgcnn.run.training_config import SplitConfig
    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.run.trial_result import TrialResult
    from srcgcnn.training.split import Split

PENALTIES = tuple(10.0**power for power in range(-6, 4))  # of the squared weights; the validation rows choose
MEAN, MAJORITY, LINEAR = "mean of the training rows", "majority class of the training rows", "linear on composition"


@record
class BaselineScores:
    """One predictor on one split: its scores on every set. Only training rows were fitted."""

    name: str
    train: Scores
    val: Scores
    test: Scores


@record
class BaselineFile:
    """All predictors on one split of one target."""

    baselines: tuple[BaselineScores, ...]


@dataclass(frozen=True)
class Baseline:
    """One predictor on all splits of a study.

    Attributes:
        train: mean error on training rows.
        val, test: errors; an interval if there are several splits, by the rule of all others.
        scores: on the test rows, mean over splits.
    """

    name: str
    train: float
    val: Interval
    test: Interval
    scores: Scores


def baselines_of(study: Study, split: SplitConfig | None = None) -> list[Baseline]:
    """Return the baselines of a study; none if they were never computed and the store is absent.

    Args:
        study: comparable trials.
        split: whose training rows count, if the variants differ in them; that of the best variant by default.
    """
    split = split or study.named[study.best].training.split
    results = [result for result in study.results if result.config.training.split == split]
    configs = {result.config.seeds.split: result.config for result in results}
    found = {seed: _kept(study, config) or _computed(study, config) for seed, config in configs.items()}
    if not found or not all(found.values()):
        return []
    names = [one.name for one in next(iter(found.values()))]
    by_name = {name: {seed: one for seed, ones in found.items() for one in ones if one.name == name} for name in names}
    return [_over_splits(name, by_split, results[0]) for name, by_split in by_name.items()]


def _over_splits(name: str, by_split: dict[int, BaselineScores], result: TrialResult) -> Baseline:
    def interval(rows: Rows) -> Interval:
        scores = {seed: one.test if rows == "test" else one.val for seed, one in by_split.items()}
        errors = {seed: pd.DataFrame([[one.error]]) for seed, one in scores.items()}
        return interval_of(Repeats(errors, overlap(result, rows)))

    def score(key: str) -> float | None:
        values = [getattr(one.test, key) for one in by_split.values()]
        return None if None in values else float(np.mean(values))

    test = interval("test")
    scores = Scores(test.mean, score("rmse"), score("r2"), score("roc_auc"), score("base_rate"))
    train = float(np.mean([one.train.error for one in by_split.values()]))
    return Baseline(name, train, interval("validation"), test, scores)


def baseline_table(baselines: Sequence[Baseline]) -> pd.DataFrame:
    """Return the baselines as a frame, errors and scores on the test rows."""
    rows = [{"baseline": one.name, "train": one.train, "val": one.val.mean, "test": one.test.mean} for one in baselines]
    scores = [{name: value for name, value in as_dict(one.scores).items() if name != "error"} for one in baselines]
    return pd.concat([pd.DataFrame(rows), pd.DataFrame(scores)], axis=1).dropna(axis="columns", how="all")


def _path(study: Study, config: TrialConfig) -> Path:
    data, seed = config.data, config.seeds.split
    split = identity_of(config.training.split, FIRST_FIELDS)
    identity = [data.data_hash, data.target, config.model.task, split, seed]
    return study.run.paths.baseline(digest(identity))


def _kept(study: Study, config: TrialConfig) -> tuple[BaselineScores, ...]:
    kept = read_if_whole(BaselineFile, _path(study, config))
    return kept.baselines if kept else ()


def _computed(study: Study, config: TrialConfig) -> tuple[BaselineScores, ...]:
    store = _store_of(study, config)
    if store is None:
        return ()
    baselines = fit_baselines(store, config)
    text = json.dumps(as_dict(BaselineFile(baselines)), indent=1, allow_nan=False)
    with suppress(OSError):  # a read-only folder
        write_text(_path(study, config), text + "\n")
    return baselines


def _store_of(study: Study, config: TrialConfig) -> GraphStore | None:
    """Return the store of the sweep, if it is available and holds the numbers that this trial saw."""
    from srcgcnn.data.store import GraphStore, StoreError
    from srcgcnn.sweep.record import read_record

    try:
        record = read_record(study.run.paths)
        if record.archived or record.data.data_hash != config.data.data_hash or not Path(record.store).is_dir():
            return None
        store = GraphStore(record.store)
    except (RecordError, StoreError, OSError):
        return None
    return store if store.manifest.data_hash == config.data.data_hash else None


def fit_baselines(store: GraphStore, config: TrialConfig) -> tuple[BaselineScores, ...]:
    """Fit the mean (or majority class) and the linear model to the training rows of a trial, for each target."""
    from srcgcnn.training.split import Crystals, split_rows

    split = split_rows(config.training.split, config.seeds.split, Crystals.of(store))
    each = [_fit(store, config.model.task, target.name, split) for target in config.data.each]
    return each[0] if not config.data.targets else _together(each, store, config)


def _fit(store: GraphStore, task: str, target: str, split: Split) -> tuple[BaselineScores, ...]:
    from srcgcnn.training.split import element_fractions

    targets = store.target(target).astype(float)
    split = _with_values(split, targets)
    mean = targets[split.train].mean()
    constant = float(mean > 0.5) if task == "classification" else mean
    name = MAJORITY if task == "classification" else MEAN
    linear = fit_ridge(element_fractions(store.formulas), targets, split)
    return (
        _scored(name, np.full(len(targets), constant), targets, split, task),
        _scored(LINEAR, linear, targets, split, task),
    )


def _with_values(split: Split, targets: np.ndarray) -> Split:
    """Leave out the rows that lack the target."""
    return replace(split, **{name: rows[~np.isnan(targets[rows])] for name, rows in vars(split).items()})


def _together(
    each: Sequence[tuple[BaselineScores, ...]], store: GraphStore, config: TrialConfig
) -> tuple[BaselineScores, ...]:
    """Give the baselines of several targets the error that networks have: the mean of errors over deviations."""
    from srcgcnn.training.targets import deviations_of

    deviations = deviations_of(store, config)

    def joined(scores: Sequence[BaselineScores], rows: str) -> Scores:
        errors = [getattr(one, rows).error for one in scores]
        return Scores(fmean(error / deviation for error, deviation in zip(errors, deviations, strict=True)))

    return tuple(
        BaselineScores(scores[0].name, joined(scores, "train"), joined(scores, "val"), joined(scores, "test"))
        for scores in zip(*each, strict=True)
    )


def fit_ridge(features: np.ndarray, targets: np.ndarray, split: Split) -> np.ndarray:
    """Return the predictions [R] of a ridge regression of targets [R] on features [R, K].

    The training rows are fitted; of ten penalties the one of lowest validation error is taken. Of targets 0 and 1 the
    prediction is a score of class 1.
    """
    centre, mean = features[split.train].mean(axis=0), targets[split.train].mean()
    inputs = features - centre
    fitted = inputs[split.train]
    gram, right = fitted.T @ fitted, fitted.T @ (targets[split.train] - mean)

    def predicted(penalty: float) -> np.ndarray:
        weights: np.ndarray = np.linalg.solve(gram + penalty * len(fitted) * np.eye(len(gram)), right)
        return inputs @ weights + mean

    def val_error(prediction: np.ndarray) -> float:
        return float(np.mean(np.abs(prediction[split.val] - targets[split.val])))

    return min(map(predicted, PENALTIES), key=val_error)


def _scored(name: str, predictions: np.ndarray, targets: np.ndarray, split: Split, task: str) -> BaselineScores:
    train, val, test = (
        scores_of(targets[rows], predictions[rows], task) for rows in (split.train, split.val, split.test)
    )
    return BaselineScores(name, train, val, test)
