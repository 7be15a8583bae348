"""From a trained group to results: the best weights of every member, tested once."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch

from srcgcnn.data.domain import domain_of
from srcgcnn.models.counts import count_parameters
from srcgcnn.run.trial_result import SETS, Cost, Curves, Metrics, TargetResult, TrialResult
from srcgcnn.training.model_card import ModelCard, PredictedTarget
from srcgcnn.training.model_file import save_model
from srcgcnn.training.objective import root_mean_square
from srcgcnn.training.probes import probe_depth
from srcgcnn.training.provenance import collect_provenance, peak_memory_mb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.run.trial_result import DepthProbes
    from srcgcnn.training.progress import MemberProgress
    from srcgcnn.training.trainer import GroupTrainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SetPredictions:
    """One set of one trial: store rows [R], targets and predictions in the target's unit.

    With several targets [R, P], NaN where a crystal lacks one.
    """

    rows: np.ndarray
    targets: np.ndarray
    predictions: np.ndarray

    def of(self, column: int) -> SetPredictions:
        """Return one of several targets, of the crystals that have it."""
        known = ~np.isnan(self.targets[:, column])
        return SetPredictions(self.rows[known], self.targets[known, column], self.predictions[known, column])


@dataclass(frozen=True)
class TrialOutcome:
    """One member of a trained group: a result with predictions, or the reason why there is none."""

    config: TrialConfig
    result: TrialResult | None
    validation: SetPredictions | None
    test: SetPredictions | None
    fault: str


def conclude(trainer: GroupTrainer) -> list[TrialOutcome]:
    """Evaluate the best weights of every member on its training, validation and, once, test rows; probe their steps."""
    trainer.load_best_weights()
    sets = {
        name: tuple(values.cpu().numpy() for values in (rows, trainer.targets.of(rows), trainer.predict(rows)))
        for name, rows in ((name, trainer.rows_of(name)) for name in ("train", "val", "test"))
    }
    outcomes = []
    for member, config in enumerate(trainer.configs):
        own = {name: SetPredictions(*(values[member] for values in arrays)) for name, arrays in sets.items()}
        fault = trainer.progress.members[member].fault or _fault_of(own)
        if fault:
            outcomes.append(TrialOutcome(config, None, None, None, fault))
            continue
        outcomes.append(TrialOutcome(config, _result(trainer, member, own), own["val"], own["test"], ""))
    probes = _probes(trainer)  # after the results, as its time and memory are no cost of a trial
    return [
        replace(outcome, result=replace(outcome.result, probes=its_probes)) if outcome.result else outcome
        for outcome, its_probes in zip(outcomes, probes, strict=True)
    ]


def _fault_of(sets: dict[str, SetPredictions]) -> str:
    infinite = [name for name, part in sets.items() if not np.isfinite(part.predictions).all()]
    if not infinite:
        return ""
    return f"not finite: predictions for {' and '.join(infinite)} rows; lower the learning rate or set clip_norm"


def _probes(trainer: GroupTrainer) -> Sequence[DepthProbes | None]:
    """Probe the steps of every member; a result is worth more than its probes, so what fails here is a warning."""
    try:
        return probe_depth(trainer)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError) and len(trainer.configs) > 1:
            raise  # halves of the group may fit
        logger.warning("no depth probes of %s (%s: %s)", trainer.configs[0].label, type(error).__name__, error)
        return [None] * len(trainer.configs)


def _result(trainer: GroupTrainer, member: int, sets: dict[str, SetPredictions]) -> TrialResult:
    config, progress = trainer.configs[member], trainer.progress.members[member]
    counts, split = count_parameters(config.model), trainer.splits[member]
    targets = _target_results(trainer, member, sets)
    mean, std = _scale(trainer, member)
    damped = config.model.alpha != "none"
    return TrialResult(
        key=config.key,
        config=config,
        metrics=_metrics(config, progress, sets, targets),
        curves=Curves(tuple(progress.train_loss), tuple(progress.val_error), tuple(progress.learning_rate)),
        conv_parameters=counts.convolution,
        total_parameters=counts.total,
        target_mean=mean,
        target_std=std,
        rows=(len(split.train), len(split.val), len(split.test)),
        alphas=tuple(trainer.network.alphas()[member].tolist()) if damped else (),
        cost=_cost(trainer, member),
        provenance=collect_provenance(trainer.device, trainer.network.backend),
        targets=targets,
    )


def _scale(trainer: GroupTrainer, member: int) -> tuple[float, float]:
    """Return mean and deviation of the only target; for several targets each has its own."""
    normalisers = trainer.targets.normalisers[member]
    return (normalisers[0].mean, normalisers[0].std) if len(normalisers) == 1 else (0.0, 1.0)


def _target_results(trainer: GroupTrainer, member: int, sets: dict[str, SetPredictions]) -> tuple[TargetResult, ...]:
    """Return the errors of each of several targets; nothing for a single one."""
    results = []
    for column, target in enumerate(trainer.configs[member].data.targets):
        own = {name: one.of(column) for name, one in sets.items()}
        normaliser = trainer.targets.normalisers[member][column]
        deviation = trainer.targets.deviations[member][column]
        train, val, test = (len(own[name].rows) for name in SETS)
        scale = (normaliser.mean, normaliser.std, deviation)
        results.append(TargetResult(target.name, *scale, (train, val, test), **_errors(own)))
    return tuple(results)


def _errors(sets: dict[str, SetPredictions]) -> dict[str, float]:
    """Return MAE and RMSE of every set by the names of `Metrics`."""
    mae = {name: float(np.mean(np.abs(one.predictions - one.targets))) for name, one in sets.items()}
    rmse = {name: root_mean_square(one.predictions, one.targets) for name, one in sets.items()}
    return {f"{name}_mae": value for name, value in mae.items()} | {f"{name}_rmse": v for name, v in rmse.items()}


def _metrics(
    config: TrialConfig,
    progress: MemberProgress,
    sets: dict[str, SetPredictions],
    targets: tuple[TargetResult, ...],
) -> Metrics:
    best, loss = progress.best_epoch, progress.train_loss[progress.best_epoch]
    if config.model.task == "classification":
        accuracy = {name: float(np.mean((one.predictions > 0.5) == one.targets)) for name, one in sets.items()}
        return Metrics(best, loss, **{f"{name}_accuracy": value for name, value in accuracy.items()})
    if not targets:
        return Metrics(best, loss, **_errors(sets))
    ratios = [{name: error / one.deviation for name, error in one.errors().items()} for one in targets]
    return Metrics(best, loss, **{name: fmean(each[name] for each in ratios) for name in ratios[0]})


def _cost(trainer: GroupTrainer, member: int) -> Cost:
    size = len(trainer.configs)
    epochs = len(trainer.progress.members[member].train_loss)
    seconds = trainer.seconds
    trained = epochs * len(trainer.splits[member].train)
    return Cost(
        seconds=round(seconds / size, 3),
        peak_memory_mb=round(peak_memory_mb(trainer.device), 1),
        structures_per_second=round(trained * size / seconds, 2),
        group_size=size,
        resumes=trainer.progress.resumes,
    )


def save_member(trainer: GroupTrainer, member: int, path: Path) -> None:
    """Write one member's best weights as a model file."""
    config, (mean, std) = trainer.configs[member], _scale(trainer, member)
    shards, graph = trainer.store.shards, trainer.store.manifest.graph
    targets = [
        PredictedTarget(target.name, target.unit, normaliser.mean, normaliser.std)
        for target, normaliser in zip(config.data.each, trainer.targets.normalisers[member], strict=True)
    ]
    card = ModelCard(
        key=config.key,
        model=config.model,
        target=config.data.target,
        unit=config.data.unit,
        mean=mean,
        std=std,
        data_hash=config.data.data_hash,
        graph=graph,
        exact_padding=config.training.exact_padding,
        domain=domain_of(shards, trainer.splits[member].train, graph.cutoff_angstrom),
        targets=tuple(targets) if config.data.targets else (),
    )
    weights = {name: value[member : member + 1] for name, value in trainer.best_weights.items()}
    save_model(path, card, weights, trainer.crystals.element_features)
