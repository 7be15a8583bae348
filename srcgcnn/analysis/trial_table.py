"""The trials of a sweep as flat rows: one per trial, and one per trial and epoch."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from srcgcnn.run.labels import labels_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from srcgcnn.run.trial_result import TrialResult


def trial_rows(results: Iterable[TrialResult], target: str | None = None) -> list[dict[str, Any]]:
    """Return one row per trial: what it is, its errors in the target's unit, its size and its cost.

    Args:
        results: the trials.
        target: only trials that predict this, with its errors in its unit.
    """
    results = list(results) if target is None else [view for one in results for view in _of_target(one, target)]
    labels = labels_of(result.config.variant for result in results)
    return [_row(result, labels[result.config.variant]) for result in results]


def _of_target(result: TrialResult, target: str) -> list[TrialResult]:
    data = result.config.data
    if data.target == target:
        return [result]
    return [result.of_target(target)] if target in [each.name for each in data.targets] else []


def _row(result: TrialResult, label: str) -> dict[str, Any]:
    config = result.config
    model = {"model" if name == "family" else name: value for name, value in asdict(config.model).items()}
    return {
        "key": result.key,
        "variant": label,
        "seed": config.seeds.init,
        "split_seed": config.seeds.split,
        "val_error": result.val_error,
        "test_error": result.test_error,
        "unit": "error rate" if config.model.task == "classification" else config.data.unit,
        "conv_params": result.conv_parameters,
        "total_params": result.total_parameters,
        "seconds": result.cost.seconds,
        **model,
        **asdict(result.metrics),
        **{f"{name}_{one.name}": value for one in result.targets for name, value in one.errors().items()},
        "train_rows": result.rows[0],
        "learning_rate": config.training.learning_rate,
        "batch_size": config.training.batch_size,
        "epochs": config.training.epochs,
        "data": config.data.name,
        "target": config.data.target,
        "data_hash": config.data.data_hash,
        "finished_at": result.provenance.finished_at,
    }


def curve_rows(results: Iterable[TrialResult]) -> list[dict[str, Any]]:
    """Return one row per trial and epoch, epochs counted from 1."""
    results = list(results)
    labels = labels_of(result.config.variant for result in results)
    return [
        {
            "key": result.key,
            "variant": labels[result.config.variant],
            "seed": result.config.seeds.init,
            "split_seed": result.config.seeds.split,
            "epoch": epoch,
            "train_loss": train_loss,
            "val_error": val_error,
            "learning_rate": learning_rate,
        }
        for result in results
        for epoch, (train_loss, val_error, learning_rate) in enumerate(
            zip(result.curves.train_loss, result.curves.val_error, result.curves.learning_rate, strict=True), 1
        )
    ]
