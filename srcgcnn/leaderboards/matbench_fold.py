"""One fold: a sweep of one variant on matbench's split, and what it predicted for the test crystals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from srcgcnn.leaderboards.matbench_task import MatbenchError, scores
from srcgcnn.records import as_dict
from srcgcnn.run.results import read_result
from srcgcnn.run.trial import SplitConfig
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.space import variants_of
from srcgcnn.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.data.store import GraphStore
    from srcgcnn.leaderboards.matbench_record import Fold
    from srcgcnn.leaderboards.matbench_task import MatbenchTask
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import DataRef
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.sweep.spec import SweepSpec


@dataclass(frozen=True)
class FoldRun:
    """What trains one fold.

    Attributes:
        plan: a sweep whose trials differ in their seed only.
        recipe: network, training, seeds and data, the same for all folds; JSON.
    """

    plan: Plan
    recipe: dict[str, Any]


def check_recipe(spec: SweepSpec) -> None:
    """See that a sweep is one network on one split, and sees no test crystal.

    Raises:
        MatbenchError: it is not, or does.
    """
    asked = {(variant.model, variant.training) for variant in variants_of(spec)}
    variants = len(asked) * len({seed for axes in spec.axes for seed in axes.split_seeds})
    if variants != 1 or spec.search.proposes or spec.scheduler.stops:
        raise MatbenchError(
            f"sweep {spec.name!r} has {variants} variants, a search or a scheduler; a record is of one network "
            "trained to its end: choose it on validation errors, then give one model, depth, norm, alpha and split seed"
        )
    if spec.network.task != "regression":
        raise MatbenchError(f"sweep {spec.name!r} has network task {spec.network.task!r}; these targets are numbers")
    if spec.training.split.kind != "random":
        raise MatbenchError(
            f"split kind {spec.training.split.kind!r}: the test set is matbench's; only fractions count"
        )
    if spec.training.normaliser != "train" or spec.start is not None:
        raise MatbenchError("normaliser 'paper' and weights to start from may have seen test crystals: leave them out")


def plan_fold(
    task: MatbenchTask, fold: int, spec: SweepSpec, store: GraphStore, data: DataRef, paths: RunPaths, group_size: int
) -> FoldRun:
    """Plan a fold: matbench's fold is the test set, and our own share of the other four is the validation set.

    Raises:
        MatbenchError: the data are not the published ones, or a test crystal cannot be read.
    """
    lists = _split_lists(task, fold, spec, store)
    own = replace(spec, name=f"{task.name}-fold-{fold}")
    on_fold = replace(own, training=replace(spec.training, split=SplitConfig("lists", lists=lists)))
    plan = plan_sweep(on_fold, data, paths, group_size)
    recipe = {
        "network": as_dict(plan.trials[0].model),
        "training": as_dict(spec.training),  # its split holds the shares that the validation set is made by
        "init_seeds": sorted(trial.seeds.init for trial in plan.trials),
        "validation_seed": plan.trials[0].seeds.split,
        "data_hash": data.data_hash,
    }
    return FoldRun(plan, recipe)


def fold_record(task: MatbenchTask, run: FoldRun, store: GraphStore, paths: RunPaths) -> Fold:
    """Return matbench's record of a trained fold; of several seeds the mean prediction."""
    import pandas as pd

    results = [read_result(paths.result(trial.key)) for trial in run.plan.trials]
    tables = [
        pd.read_parquet(paths.predictions(result.key)).query("set == 'test'").set_index("id") for result in results
    ]
    mean = pd.concat([table["prediction"].astype("float64") for table in tables], axis=1).mean(axis=1)
    row_of = {row_id: row for row, row_id in enumerate(store.ids)}
    targets = store.target(task.target)[[row_of[row_id] for row_id in mean.index]].astype(np.float64)
    return {
        "data": {task.id_of(int(row_id)): float(value) for row_id, value in mean.items()},
        "parameters": {
            "code": f"srcgcnn {__version__}",
            "model": results[0].config.model.label,
            "recipe": run.recipe,
            "trials": [result.key for result in results],
            "validation_mae": [result.metrics.val_mae for result in results],
            "rows_train_validation_test": list(results[0].rows),
        },
        "scores": scores(targets, mean.to_numpy()),
    }


def _split_lists(
    task: MatbenchTask, fold: int, spec: SweepSpec, store: GraphStore
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the ids of training, validation and test set. The file's index 0, 1, ... is the id in the store."""
    known, test = set(store.ids), [str(row) for row in task.test_rows(fold)]
    total = store.manifest.crystals + store.manifest.rejected
    if total != task.rows or not known <= {str(row) for row in range(task.rows)}:
        raise MatbenchError(
            f"{task.name} has {task.rows:,} crystals with index 0 to {task.rows - 1}; the file has {total:,}"
            f"{'' if total != task.rows else ' with another index'}: it is not the published one"
        )
    if missing := [row for row in test if row not in known]:
        raise MatbenchError(
            f"{len(missing)} test crystals cannot be read (index {_few(missing)}), and matbench wants a prediction for "
            f"each: see rejected.csv in {store.folder}"
        )
    others = np.array(sorted(known - set(test), key=int))
    train, validation, _ = spec.training.split.fractions
    count = round(len(others) * validation / (train + validation))
    shuffled = np.random.default_rng(spec.axes[0].split_seeds[0]).permutation(others).tolist()
    return tuple(shuffled[count:]), tuple(shuffled[:count]), tuple(test)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
