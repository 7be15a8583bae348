"""What a leaderboard judges: one network with one recipe, trained on a split that is given, and its mean prediction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from srcgcnn.records import as_dict
from srcgcnn.run.results import read_result
from srcgcnn.run.training_config import SplitConfig
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.space import variants_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.training_config import TrainingConfig
    from srcgcnn.run.trial import DataRef
    from srcgcnn.run.trial_result import TrialResult
    from srcgcnn.sweep.axes import Axis
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.sweep.spec import SweepSpec

Lists = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]  # ids of training, validation and test set


class LeaderboardError(ValueError):
    """A task, a split or a record that cannot be; the message says what to do."""


@dataclass(frozen=True)
class RecipeRun:
    """What trains a recipe on one split.

    Attributes:
        plan: a sweep whose trials differ in their seed only.
        recipe: network, training, seeds and data, JSON.
    """

    plan: Plan
    recipe: dict[str, Any]


def check_recipe(spec: SweepSpec) -> None:
    """Check that a sweep is one network on one split, and sees no test crystal.

    Raises:
        LeaderboardError: it is not, or does.
    """
    requested = {(variant.model, variant.training) for variant in variants_of(spec)}
    variants = len(requested) * len({seed for axes in spec.axes for seed in axes.split_seeds})
    if variants != 1 or spec.search.proposes or spec.scheduler.stops:
        raise LeaderboardError(
            f"sweep {spec.name!r} has {variants} variants, a search or a scheduler; a record is of one network "
            "trained to its end: choose it on validation errors, then give one model, depth, norm, alpha and split seed"
        )
    if spec.network.task != "regression":
        raise LeaderboardError(f"sweep {spec.name!r} has network task {spec.network.task!r}; these targets are numbers")
    training = _training_of(spec)
    if training.split.kind != "random":
        raise LeaderboardError(
            f"split kind {training.split.kind!r}: the test set is the benchmark's; only fractions count"
        )
    if training.normaliser != "train" or spec.start is not None:
        raise LeaderboardError(
            "normaliser 'paper' and weights to start from may have seen test crystals: leave them out"
        )


def _training_of(spec: SweepSpec) -> TrainingConfig:
    """Return the recipe of the one variant, axes of one value included."""
    return next(variants_of(spec)).training


def _of_network(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    return tuple(axis for axis in axes if not axis.name.startswith("training."))


def plan_recipe(spec: SweepSpec, name: str, lists: Lists, data: DataRef, paths: RunPaths, group_size: int) -> RecipeRun:
    """Plan the training of a checked recipe on a split."""
    training = _training_of(spec)
    split = SplitConfig("lists", lists=lists, train_size=training.split.train_size)
    axes = tuple(replace(one, train_sizes=None, more=_of_network(one.more)) for one in spec.axes)
    plan = plan_sweep(
        replace(spec, name=name, axes=axes, training=replace(training, split=split)), data, paths, group_size
    )
    recipe = {
        "network": as_dict(plan.trials[0].model),
        "training": as_dict(training),  # its split holds the shares that a validation set is made by
        "init_seeds": sorted(trial.seeds.init for trial in plan.trials),
        "validation_seed": plan.trials[0].seeds.split,
        "data_hash": data.data_hash,
    }
    return RecipeRun(plan, recipe)


def own_validation(ids: Iterable[str], spec: SweepSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide ids into a training and a validation set, by the recipe's fractions and its split seed."""
    train, validation, _ = _training_of(spec).split.fractions
    shuffled = np.random.default_rng(spec.axes[0].split_seeds[0]).permutation(np.array(list(ids))).tolist()
    count = round(len(shuffled) * validation / (train + validation))
    return tuple(shuffled[count:]), tuple(shuffled[:count])


def results_of(run: RecipeRun, paths: RunPaths) -> list[TrialResult]:
    """Return the results of a recipe that was trained."""
    return [read_result(paths.result(trial.key)) for trial in run.plan.trials]


def mean_predictions(results: Sequence[TrialResult], paths: RunPaths) -> pd.Series:
    """Return the mean prediction of all seeds for the test crystals, by id, in the target's unit."""
    import pandas as pd

    tables = [
        pd.read_parquet(paths.predictions(result.key)).query("set == 'test'").set_index("id") for result in results
    ]
    return pd.concat([table["prediction"].astype("float64") for table in tables], axis=1).mean(axis=1)


def few(names: Sequence[str]) -> str:
    """Name the first of many."""
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
