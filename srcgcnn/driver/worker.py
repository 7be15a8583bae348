"""Train one group and write its files. Runs in a worker process; knows nothing of Ray or MLflow."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from srcgcnn.data.store import GraphStore
from srcgcnn.driver.pace import Pace
from srcgcnn.files import write_bytes, write_text
from srcgcnn.run.failures import write_failure
from srcgcnn.run.predictions import PREDICTION, TARGET, column_of, names_of
from srcgcnn.run.results import write_result
from srcgcnn.training.checkpoint import CheckpointFile
from srcgcnn.training.outcome import conclude, save_member
from srcgcnn.training.trainer import GroupTrainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import TrialGroup
    from srcgcnn.training.epoch import EpochReport
    from srcgcnn.training.outcome import TrialOutcome
    from srcgcnn.training.progress import GroupProgress


def run_group(
    group: TrialGroup,
    store_folder: Path,
    paths: RunPaths,
    *,
    checkpoint_interval_s: float,
    on_epoch: Callable[[list[EpochReport]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    rungs: Sequence[int] = (),
    on_rung: Callable[[GroupProgress, int], None] | None = None,
    on_pace: Callable[[float], None] | None = None,
    on_resume: Callable[[int], None] | None = None,
) -> list[TrialOutcome]:
    """Train a group from its checkpoint, if there is one, to its result files.

    The result file is written last: a kill before it leaves the checkpoint, a kill after it a finished trial.

    Args:
        group: the trials.
        store_folder: the graphs.
        paths: the sweep's folder.
        checkpoint_interval_s: time between checkpoints.
        on_epoch: called after every epoch with the reports of all members that still train.
        should_stop: called after every batch; True writes a checkpoint and raises InterruptedGroupError.
        rungs: numbers of epochs after which a checkpoint is written and `on_rung` called, ascending.
        on_rung: called at rungs with what the group has reached; a group that resumes begins with those that it passed.
            It may end the training.
        on_pace: called with the seconds of an epoch, after a few steps and after every epoch.
        on_resume: called with the number of epochs already done, if a checkpoint was found.
    """
    store = GraphStore(store_folder)
    write_text(paths.group(group.key), json.dumps(group.to_dict()))
    start = group.trials[0].training.start
    trainer = GroupTrainer(
        group.trials,
        store,
        checkpoint=paths.checkpoint(group.key),
        checkpoint_interval_s=checkpoint_interval_s,
        start_weights=None if start is None else paths.start(start.weights_hash),
    )

    pace = _pace_of(trainer, on_pace)

    def after_batch() -> bool:
        pace.step()
        return should_stop is not None and should_stop()

    def after_epoch(reports: list[EpochReport]) -> None:
        pace.epoch()
        if on_epoch is not None:
            on_epoch(reports)
        if on_rung is not None and trainer.progress.epoch in rungs:
            trainer.save()
            on_rung(trainer.progress, trainer.progress.epoch)

    _tell_of_before(trainer, rungs, on_rung, on_resume)
    trainer.train(after_epoch, after_batch)
    outcomes = conclude(trainer)
    for member, outcome in enumerate(outcomes):
        if outcome.result is None:
            write_failure(paths, outcome.config, outcome.fault, label=group.label_of(outcome.config))
            continue
        write_predictions(paths.predictions(outcome.result.key), store, outcome)
        save_member(trainer, member, paths.model(outcome.result.key))
        write_result(paths, outcome.result)
    _forget(group, paths)
    return outcomes


def _tell_of_before(
    trainer: GroupTrainer,
    rungs: Sequence[int],
    on_rung: Callable[[GroupProgress, int], None] | None,
    on_resume: Callable[[int], None] | None,
) -> None:
    """Report what a checkpoint contained."""
    if on_resume is not None and trainer.progress.resumes:
        on_resume(trainer.progress.epoch)
    if on_rung is not None:
        for rung in (rung for rung in rungs if rung <= trainer.progress.epoch):
            on_rung(trainer.progress, rung)


def _pace_of(trainer: GroupTrainer, tell: Callable[[float], None] | None) -> Pace:
    size = trainer.batch_size
    trained, evaluated = (trainer.rows_of(part).shape[1] for part in ("train", "val"))
    return Pace(-(-trained // size), evaluated / size, tell or (lambda _seconds: None), trainer.progress.batches_done)


def _forget(group: TrialGroup, paths: RunPaths) -> None:
    CheckpointFile(paths.checkpoint(group.key)).forget()
    paths.group(group.key).unlink(missing_ok=True)


def run_in_parts(
    group: TrialGroup, paths: RunPaths, run: Callable[[TrialGroup], object], say: Callable[[str], None]
) -> None:
    """Run a group; if it does not fit into the device's memory, run its halves one after the other, and so on.

    Members end as they would have in the whole group. Halves have checkpoints of their own; a half that finished before
    is not run again.

    Args:
        group: the trials.
        paths: the sweep's folder.
        run: trains a group to its result files.
        say: called with a message when a group is divided.

    Raises:
        torch.OutOfMemoryError: a trial alone does not fit.
    """
    waiting = [group]
    while waiting:
        part = waiting.pop(0)
        if all(paths.result(trial.key).exists() for trial in part.trials):
            continue
        try:
            run(part)
        except torch.OutOfMemoryError:
            if len(part.trials) == 1:
                raise
        else:
            continue
        torch.cuda.empty_cache()  # here, where no traceback holds the network any more
        say(f"{len(part.trials)} trials do not fit into the device's memory together: they train in halves")
        _forget(part, paths)
        middle = len(part.trials) // 2
        waiting = [replace(part, trials=half) for half in (part.trials[:middle], part.trials[middle:])] + waiting


def write_predictions(path: Path, store: GraphStore, outcome: TrialOutcome) -> None:
    """Write the predictions for validation and test crystals, one row per crystal."""
    import pandas as pd

    names = names_of(outcome.config.data)

    def columns(kind: str, values: np.ndarray) -> dict[str, np.ndarray]:
        each = values.reshape(len(values), len(names)).T
        return {column_of(kind, name): column for name, column in zip(names, each, strict=True)}

    tables = [
        pd.DataFrame(
            {
                "id": [store.ids[row] for row in part.rows],
                "formula": [store.formulas[row] for row in part.rows],
                **columns(TARGET, part.targets),
                **columns(PREDICTION, part.predictions),
                "set": name,
            }
        )
        for name, part in (("validation", outcome.validation), ("test", outcome.test))
        if part is not None
    ]
    write_bytes(path, pd.concat(tables, ignore_index=True).to_parquet(index=False))
