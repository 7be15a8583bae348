"""Train one group and write its files. Runs in a worker process; knows nothing of Ray or MLflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from srcgcnn.data.store import GraphStore
from srcgcnn.files import write_bytes, write_text
from srcgcnn.sweep.failures import write_failure
from srcgcnn.sweep.results import write_result
from srcgcnn.training.group import GroupTrainer
from srcgcnn.training.outcome import conclude, save_member

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from srcgcnn.sweep.paths import RunPaths
    from srcgcnn.sweep.plan import TrialGroup
    from srcgcnn.training.epoch import EpochReport
    from srcgcnn.training.outcome import TestPredictions, TrialOutcome


def run_group(
    group: TrialGroup,
    store_folder: Path,
    paths: RunPaths,
    *,
    checkpoint_interval_s: float,
    on_epoch: Callable[[list[EpochReport]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[TrialOutcome]:
    """Train a group from its checkpoint, where there is one, to its result files.

    The result file is written last: a kill before it leaves the checkpoint, a kill after it a finished trial.
    """
    store = GraphStore(store_folder)
    write_text(paths.group(group.key), json.dumps(group.to_dict()))
    trainer = GroupTrainer(
        group.trials, store, checkpoint=paths.checkpoint(group.key), checkpoint_interval_s=checkpoint_interval_s
    )
    trainer.train(on_epoch, should_stop)
    outcomes = conclude(trainer)
    for member, outcome in enumerate(outcomes):
        if outcome.result is None:
            write_failure(paths, outcome.config, outcome.fault)
            continue
        if outcome.predictions is not None:
            write_predictions(paths.predictions(outcome.result.key), store, outcome.predictions)
        save_member(trainer, member, store, paths.model(outcome.result.key))
        write_result(paths, outcome.result)
    paths.checkpoint(group.key).unlink(missing_ok=True)
    paths.group(group.key).unlink(missing_ok=True)
    return outcomes


def write_predictions(path: Path, store: GraphStore, predictions: TestPredictions) -> None:
    """Write test predictions, one row per crystal."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "id": [store.ids[row] for row in predictions.rows],
            "formula": [store.formulas[row] for row in predictions.rows],
            "target": predictions.targets,
            "prediction": predictions.predictions,
        }
    )
    write_bytes(path, table.to_parquet(index=False))
