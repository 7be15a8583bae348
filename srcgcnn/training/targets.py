"""What a group is trained on and judged by: the targets of its members, in their units and standardised.

Shapes are those of one target; several have one more dimension, [..., P], with NaN where a crystal lacks one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from srcgcnn.training.objective import Normaliser, deviation_of, errors_per_model, fit_normaliser
from srcgcnn.training.predictor import in_units, scales_of
from srcgcnn.training.split import Crystals, Split, split_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from srcgcnn.data.store import GraphStore
    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.training.model_card import ModelCard


class GroupTargets:
    """The targets of M members.

    Attributes:
        normalisers: of every member, one for each target.
        deviations: standard deviation of all training rows of every member's split, one for each target; empty for
            one target, whose error is in its unit.
        scales: mean and deviation by which each member's targets are standardised, float64 [M, 2] or [M, P, 2].
    """

    def __init__(
        self,
        configs: Sequence[TrialConfig],
        store: GraphStore,
        splits: Sequence[Split],
        device: torch.device,
        kept: ModelCard | None,
    ) -> None:
        """Read the targets of a store.

        Args:
            configs: the trials, all of one shape.
            store: where the crystals lie.
            splits: the rows of each trial.
            device: where the networks are.
            kept: the model whose head, and so scale, is kept.

        Raises:
            ValueError: they are not classes, or a set has no value of a target.
        """
        first = configs[0]
        self._task, self._device = first.model.task, device
        names = [target.name for target in first.data.each]
        values = store.targets(names)
        columns = values.T
        if self._task == "classification":
            _check_classes(columns[0])
        for name, column in zip(names, columns, strict=True):
            _check_sets(name, column, splits)
        self.normalisers = [
            _kept(kept, names)
            or tuple(
                fit_normaliser(first.training, self._task, column, split.train, config.seeds.split, name)
                for name, column in zip(names, columns, strict=True)
            )
            for split, config in zip(splits, configs, strict=True)
        ]
        self.deviations = [deviations_of(store, config) for config in configs] if len(names) > 1 else []
        self.scales = scales_of(self.normalisers).to(device)
        self._values = torch.from_numpy(values).squeeze(1).to(device)
        mean, std = self.scales[:, None].unbind(-1)
        self._standardised = ((self._values - mean) / std).float()
        self._members = torch.arange(len(configs), device=device)[:, None]

    def of(self, rows: Tensor) -> Tensor:
        """Return targets in their unit, float64, for rows [M, R]."""
        return self._values[rows.to(self._device)]

    def standardised(self, rows: Tensor) -> Tensor:
        """Return standardised targets for rows [M, R]."""
        return self._standardised[self._members, rows.to(self._device, non_blocking=True)]

    def errors(self, predictions: Tensor, rows: Tensor) -> Tensor:
        """Return the error by which epochs are chosen, [M], of predictions in the targets' units for rows [M, R]."""
        return errors_per_model(self._task, predictions, self.of(rows), self.deviations)

    def errors_of_outputs(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Return the same for outputs of networks, standardised or log-probabilities."""
        return self.errors(in_units(outputs, self.scales, self._task), rows)


def _check_classes(values: np.ndarray) -> None:
    if not set(np.unique(values)) <= {0.0, 1.0}:
        raise ValueError(f"classification needs targets 0 and 1, found {np.unique(values)[:5].tolist()}")


def _check_sets(name: str, values: np.ndarray, splits: Sequence[Split]) -> None:
    """Refuse sets without a value: nothing could be trained or evaluated."""
    for split in splits:
        for what, rows in (("training", split.train), ("validation", split.val), ("test", split.test)):
            if np.isnan(values[rows]).all():
                raise ValueError(
                    f"target {name!r}: none of the {len(rows)} {what} rows has a value; leave this target out, or "
                    "split differently"
                )


def _kept(card: ModelCard | None, names: Sequence[str]) -> tuple[Normaliser, ...]:
    """Return the scales that a kept head was trained with; none if the head is new."""
    if card is None:
        return ()
    there = [target.name for target in card.each]
    if len(names) > 1 and there != list(names):
        raise ValueError(f"the kept head predicts {', '.join(there)}, in this order, not {', '.join(names)}")
    return tuple(Normaliser(target.mean, target.std) for target in card.each)


def deviations_of(store: GraphStore, config: TrialConfig) -> list[float]:
    """Return the standard deviation of each target over the training rows: the units of their common error.

    All training rows of the split count, also if `train_size` takes fewer: all sizes are then compared in one unit.
    """
    split = split_rows(replace(config.training.split, train_size=None), config.seeds.split, Crystals.of(store))
    return [deviation_of(store.target(target.name)[split.train], target.name) for target in config.data.each]
