"""How a network is trained: the record of a recipe, with the split of the rows and the weights to start from."""

from __future__ import annotations

import math
import re
from dataclasses import field
from typing import Literal

from srcgcnn.data.limited_store import GraphLimits
from srcgcnn.records import record

GROUPED_SPLITS = ("formula", "prototype", "cluster")  # the sizes of their sets depend on the split seed


@record
class SplitConfig:
    """How rows become training, validation and test sets.

    Attributes:
        kind: `random` rows; `formula` keeps all crystals of one reduced formula on one side; `lists` reads the ids of
            each set from `lists`; `kfold` cuts k folds, tests on `fold` and validates on the next one. Kinds that hold
            out what training has never seen: `element` tests on all crystals with an element of `held_out`; `size` on
            the largest cells; `prototype` keeps crystals of one anonymous formula and number of atoms on one side,
            `cluster` those of one of `clusters` clusters of compositions.
        fractions: shares of train, validation and test; of `element` only the proportion of the first two counts.
        folds: k (kfold).
        fold: which fold is the test set, 0-based (kfold).
        lists: ids of the three sets (lists), in the order train, validation, test.
        held_out: symbols of elements (element).
        clusters: how many clusters of compositions, drawn by the split seed (cluster).
        train_size: use so many of the training rows: the first in the order in which the split seed shuffles them, so
            that each set holds the smaller ones. Validation and test rows stay the same. By default all.
    """

    kind: Literal["random", "formula", "lists", "kfold", "element", "prototype", "cluster", "size"] = "random"
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    folds: int = 5
    fold: int = 0
    lists: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] | None = None
    held_out: tuple[str, ...] = ()
    clusters: int = 10
    train_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse shares that leave a set without rows, and folds that do not exist."""
        if any(share <= 0 for share in self.fractions) or sum(self.fractions) > 1 + 1e-9:
            raise ValueError(f"fractions={self.fractions} must be positive and add up to at most 1")
        if self.kind == "kfold" and not (self.folds >= 3 and 0 <= self.fold < self.folds):
            raise ValueError(f"folds={self.folds} must be at least 3 and fold={self.fold} in 0..{self.folds - 1}")
        if self.kind == "lists" and self.lists is None:
            raise ValueError("split kind 'lists' needs lists = [train ids, validation ids, test ids]")
        if self.kind == "element" and not self.held_out:
            raise ValueError("split kind 'element' needs held_out, a list of elements such as ['O']")
        if self.kind != "element" and self.held_out:
            raise ValueError(f"held_out={list(self.held_out)} belongs to split kind 'element', not {self.kind!r}")
        if self.clusters < 3:
            raise ValueError(f"clusters={self.clusters} must be at least 3: one for each set")
        if self.train_size is not None and self.train_size < 1:
            raise ValueError(f"train_size={self.train_size} must be at least 1")

    def training_rows(self, validation_rows: int) -> int:
        """Return about how many training rows there are beside so many validation rows, before `train_size`."""
        if self.lists is not None:
            return len(self.lists[0])
        ratio = self.folds - 2 if self.kind == "kfold" else self.fractions[0] / self.fractions[1]
        return round(validation_rows * ratio)


@record
class StartConfig:
    """Trained weights that a trial starts from, instead of random ones.

    Attributes:
        weights_hash: sha256 of the model file: the weights are part of the trial, where the file lies is not.
        head: `new` draws the readout from the trial's seed and scales the target by its own training set; `keep` takes
            the readout and the target's scale from the file, so that the first prediction is that of the file.
        frozen: names of parts that are not trained, such as `embedding`, `blocks`, `norms.0` or `head.hidden`.
    """

    weights_hash: str
    head: Literal["new", "keep"] = "new"
    frozen: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Human-readable name, such as `1b027958 with a new head, frozen: embedding`."""
        frozen = f", frozen: {' '.join(self.frozen)}" if self.frozen else ""
        return f"{self.weights_hash[:8]} with {'its' if self.head == 'keep' else 'a new'} head{frozen}"


@record
class DepthRecipe:
    """What training adds so that depth may pay (docs/depth.md). The defaults add nothing.

    Attributes:
        supervision: steps whose outputs enter the loss: `last`, or all, with weights that are `uniform` or `rising`
            (in proportion to t); the weights add up to 1.
        sampling: steps of a batch: `none` for all T; `uniform` draws from 1..T, `uniform:2:8` from 2..8. Evaluation
            takes all T. The drawn numbers are the same for all trials, so that trials can train as one group.
        step_dropout: probability that the update of a step is left out for a batch; the others go further by
            1 / (1 - step_dropout). Evaluation takes every step as it is.
        noise_angstrom: deviation of normal noise on the distances of training crystals.
        denoising: weight of a second loss: a small network on (h_i, h_j, u_ij) predicts the noise on each distance from
            the last states, in units of `noise_angstrom`. It is not part of the trained model.
    """

    supervision: Literal["last", "uniform", "rising"] = "last"
    sampling: str = "none"
    step_dropout: float = 0.0
    noise_angstrom: float = 0.0
    denoising: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot train; write real numbers as such, so that 0 and 0.0 are one recipe."""
        for name in ("step_dropout", "noise_angstrom", "denoising"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not 0 <= self.step_dropout < 1:
            raise ValueError(f"step_dropout={self.step_dropout} must lie in [0, 1)")
        for name in ("noise_angstrom", "denoising"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if self.denoising and not self.noise_angstrom:
            raise ValueError(f"denoising={self.denoising} needs noise: give noise_angstrom, such as 0.05")
        if self.sampling not in ("none", "uniform"):
            match = re.fullmatch(r"uniform:(\d{1,5}):(\d{1,5})", self.sampling)
            if match is None or not 1 <= int(match[1]) <= int(match[2]):
                raise ValueError(f"sampling={self.sampling!r} must be none, uniform, or uniform:LEAST:MOST")

    def sampled_steps(self, depth: int) -> tuple[int, int]:
        """Return the least and the most steps that a batch takes in a network of some depth.

        Raises:
            ValueError: more steps are requested than the network has.
        """
        if self.sampling == "none":
            return depth, depth
        if self.sampling == "uniform":
            return 1, depth
        _, least, most = self.sampling.split(":")
        if int(most) > depth:
            raise ValueError(f"sampling={self.sampling!r} draws up to {most} steps, but the network has {depth}")
        return int(least), int(most)


@record
class TrainingConfig:
    """How a network is trained. The defaults are the paper's recipe (arXiv:2605.01304, section on training).

    Attributes:
        epochs: length of the recipe.
        batch_size: crystals of one step.
        optimizer: `adam`, `adamw` or `sgd`.
        learning_rate: at the start; of `onecycle` the highest.
        weight_decay: of the optimiser.
        momentum: of `sgd`.
        loss: `mse`, `l1` or `huber`, on the standardised target (classification always uses the log-likelihood).
        schedule: `multistep` (milestones, gamma), `cosine`, `onecycle`, `plateau` (on validation error) or `none`.
        milestones: epochs after which `multistep` lowers the learning rate.
        gamma: factor of `multistep` and `plateau`.
        plateau_patience_epochs: epochs without a better validation error before `plateau` lowers the learning rate.
        patience_epochs: stop after this many epochs without a better validation error; by default train to the end.
        clip_norm: largest gradient norm; by default none is clipped.
        normaliser: rows that set mean and deviation of the target. `train` is honest; `paper` draws 500 of all rows,
            test rows included, as the released code does.
        exact_padding: missing neighbours become unmasked edges to atom 0 at cutoff + 1 angstrom, as in the original.
        precision: of the matrix products in training steps: `float32`, `tf32` (GPUs only) or `bf16`. Normalisation,
            loss, optimiser and evaluation are float32 always.
        split: how rows become training, validation and test sets.
        start: trained weights to start from; None starts from random ones.
        warmup_epochs: the learning rate rises from 0 over so many epochs, on top of the schedule.
        average_decay: evaluate and keep an exponential moving average of the weights, with this decay per step;
            by default the weights themselves.
        depth: what training adds so that depth may pay.
        graph: which of the store's neighbours are used, in training and in prediction; by default all.
    """

    epochs: int = 300
    batch_size: int = 256
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    loss: Literal["mse", "l1", "huber"] = "mse"
    schedule: Literal["multistep", "cosine", "onecycle", "plateau", "none"] = "multistep"
    milestones: tuple[int, ...] = (100,)
    gamma: float = 0.1
    plateau_patience_epochs: int = 10
    patience_epochs: int | None = None
    clip_norm: float | None = None
    normaliser: Literal["train", "paper"] = "train"
    exact_padding: bool = False
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    split: SplitConfig = field(default_factory=SplitConfig)
    start: StartConfig | None = None
    warmup_epochs: int = 0
    average_decay: float | None = None
    depth: DepthRecipe = field(default_factory=DepthRecipe)
    graph: GraphLimits = field(default_factory=GraphLimits)

    def __post_init__(self) -> None:
        """Refuse numbers that cannot train; write real numbers as such, so that 1 and 1.0 are one recipe."""
        for name in ("learning_rate", "weight_decay", "momentum", "gamma", "clip_norm"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, float(value))
        for name in ("epochs", "batch_size", "learning_rate", "gamma"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        for name in ("weight_decay", "momentum"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        for name in ("patience_epochs", "clip_norm"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value} must be positive, or left out")
        self._check_beside_the_weights()

    def _check_beside_the_weights(self) -> None:
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} must lie in 0..epochs, here {self.epochs}")
        if self.warmup_epochs and self.schedule == "onecycle":
            raise ValueError("schedule 'onecycle' warms up by itself: leave out warmup_epochs")
        if self.average_decay is not None and not 0 < self.average_decay < 1:
            raise ValueError(f"average_decay={self.average_decay} must lie between 0 and 1, such as 0.99")
