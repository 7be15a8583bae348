"""The weights that a sweep starts from: find them, check that they fit, keep a copy in the sweep's folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.data.store import sha256_of
from srcgcnn.files import write_bytes
from srcgcnn.models.counts import body_layout, head_layout
from srcgcnn.models.parts import PARTS, current_name
from srcgcnn.prediction.choice import choose
from srcgcnn.records import RecordError
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.training_config import StartConfig
from srcgcnn.sweep.space import variants_of
from srcgcnn.training.model_card import ModelCard, read_card

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from srcgcnn.models.config import ModelConfig
    from srcgcnn.run.trial import DataRef, TrialConfig
    from srcgcnn.sweep.spec import SweepSpec

    Layout = Callable[[ModelConfig], Mapping[str, int | str]]


@dataclass(frozen=True)
class FoundStart:
    """A sweep with its weights found.

    Attributes:
        spec: the sweep, with `training.start` filled in.
        weights: the model file; None if the sweep starts from random weights.
        description: one line for the plan.
        source: the trial that the weights come from; None if only a model file was given.
    """

    spec: SweepSpec
    weights: Path | None = None
    description: str = ""
    source: TrialConfig | None = None

    def describe(self, data: DataRef) -> str:
        """Return the description, with a warning if test crystals may have been seen by the weights."""
        if not self.description or (self.source and self._holds_out_the_same(self.source, data)):
            return self.description
        return (
            f"{self.description}; test crystals of this sweep may be among those that the weights were trained on "
            "(other data, another split, or unknown): their errors are then too small"
        )

    def _holds_out_the_same(self, source: TrialConfig, data: DataRef) -> bool:
        if source.training.start is not None:  # what those weights had seen is not known here
            return False
        seeds = {seed for axes in self.spec.axes for seed in axes.split_seeds}
        splits = {replace(variant.training.split, train_size=None) for variant in variants_of(self.spec)}
        same_split = splits == {replace(source.training.split, train_size=None)} and seeds == {source.seeds.split}
        listed = source.training.split.kind == "lists"  # by their ids, whatever else the data hold
        return same_split and (listed or source.data.data_hash == data.data_hash)

    def keep(self, paths: RunPaths) -> None:
        """Copy the weights into the sweep's folder: workers and later resumes read them there."""
        start = self.spec.training.start
        if start is None or self.weights is None:
            return
        write_bytes(paths.start(start.weights_hash), self.weights.read_bytes())


def find_start(spec: SweepSpec) -> FoundStart:
    """Find the weights that `spec.start` names and check that every variant of the sweep can start from them.

    Raises:
        RecordError: they are not there, or do not fit; the message says in what.
    """
    if spec.start is None:
        return FoundStart(spec)
    weights, source = _weights_of(Path(spec.start.model).expanduser(), spec.start.variant)
    card = read_card(weights)
    start = StartConfig(sha256_of(weights), spec.start.head, tuple(sorted(spec.start.frozen)))
    for prefix in start.frozen:
        if current_name(prefix).split(".")[0] not in PARTS:
            raise RecordError(f"frozen={prefix!r}: not a part of a network; its parts are {', '.join(PARTS)}")
    for network in dict.fromkeys(variant.model for variant in variants_of(spec)):
        if network.own:
            raise RecordError(f"{network.family}: a network of your own starts from random weights: leave [start] out")
        _refuse_other_shapes(card, network.canonical(), start, weights)
    trained = f"{card.model.label} on {card.target}" + (f", {card.origin}" if card.origin else f", trial {card.key}")
    description = f"{trained} ({start.label})"
    return FoundStart(replace(spec, training=replace(spec.training, start=start)), weights, description, source)


def _weights_of(path: Path, variant: str | None) -> tuple[Path, TrialConfig | None]:
    if path.is_file():
        return path, None
    if not path.is_dir():
        raise RecordError(f"start from {path}: no such model file or folder of a sweep")
    paths = RunPaths(path)
    best = choose(paths, variant).best_member()
    return paths.model(best.key), best.config


def _refuse_other_shapes(card: ModelCard, network: ModelConfig, start: StartConfig, weights: Path) -> None:
    layouts: list[Layout] = [body_layout, head_layout] if start.head == "keep" else [body_layout]
    faults = [
        f"{name} {there} there, {here} here"
        for layout in layouts
        for (name, there), here in zip(layout(card.model).items(), layout(network).values(), strict=True)
        if there != here
    ]
    if faults:
        raise RecordError(f"{network.label} cannot start from {card.model.label} in {weights}: {'; '.join(faults)}")
