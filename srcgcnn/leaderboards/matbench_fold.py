"""One fold: a sweep of one variant on matbench's split, and what it predicted for the test crystals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.leaderboards.matbench_task import scores
from srcgcnn.leaderboards.recipe import (
    LeaderboardError,
    few,
    mean_predictions,
    own_validation,
    plan_recipe,
    results_of,
)
from srcgcnn.version import __version__

if TYPE_CHECKING:
    from srcgcnn.data.store import GraphStore
    from srcgcnn.leaderboards.matbench_record import Fold
    from srcgcnn.leaderboards.matbench_task import MatbenchTask
    from srcgcnn.leaderboards.recipe import Lists, RecipeRun
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import DataRef
    from srcgcnn.sweep.spec import SweepSpec


def plan_fold(
    task: MatbenchTask, fold: int, spec: SweepSpec, store: GraphStore, data: DataRef, paths: RunPaths, group_size: int
) -> RecipeRun:
    """Plan a fold: matbench's fold is the test set, and our own share of the other four is the validation set.

    Raises:
        LeaderboardError: the data are not the published ones, or a test crystal cannot be read.
    """
    lists = _split_lists(task, fold, spec, store)
    return plan_recipe(spec, f"{task.name}-fold-{fold}", lists, data, paths, group_size)


def fold_record(task: MatbenchTask, run: RecipeRun, store: GraphStore, paths: RunPaths) -> Fold:
    """Return matbench's record of a trained fold; of several seeds the mean prediction."""
    results = results_of(run, paths)
    mean = mean_predictions(results, paths)
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


def _split_lists(task: MatbenchTask, fold: int, spec: SweepSpec, store: GraphStore) -> Lists:
    """Return the ids of training, validation and test set. The file's index 0, 1, ... is the id in the store."""
    known, test = set(store.ids), [str(row) for row in task.test_rows(fold)]
    total = store.manifest.crystals + store.manifest.rejected
    if total != task.rows or not known <= {str(row) for row in range(task.rows)}:
        raise LeaderboardError(
            f"{task.name} has {task.rows:,} crystals with index 0 to {task.rows - 1}; the file has {total:,}"
            f"{'' if total != task.rows else ' with another index'}: it is not the published one"
        )
    if missing := [row for row in test if row not in known]:
        raise LeaderboardError(
            f"{len(missing)} test crystals cannot be read (index {few(missing)}), and matbench requires a prediction "
            f"for each: see rejected.csv in {store.folder}"
        )
    return (*own_validation(sorted(known - set(test), key=int), spec), tuple(test))
