"""What a trial is and what it leaves behind. No torch here: a plan needs none.

The result of one trial is the unit of truth of a sweep (docs/design.md): one small file, named by the key of its
configuration. Everything else (MLflow, tables, figures) can be rebuilt from these files.
"""

from __future__ import annotations

import math
import re
from dataclasses import field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from srcgcnn.models.config import ModelConfig
from srcgcnn.records import as_dict, record
from srcgcnn.run.keys import key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULT_FORMAT = 1
MEAN_OF_RATIOS = "mean of MAE/std"  # the error of several targets: std is that of the training rows
SETS = ("train", "val", "test")
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
        step_dropout: probability that a step of a batch leaves all states as they are; the others go further by
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


@record
class Seeds:
    """The three random sources of a trial: initial weights, order of batches, split of rows."""

    init: int
    order: int
    split: int


@record
class Target:
    """One of the numbers that a network predicts. The unit is a label."""

    name: str
    unit: str = field(compare=False)


@record
class DataRef:
    """Which numbers a trial saw: the content hash of its store and the target column. `name` and `unit` are labels.

    Attributes:
        targets: all that one network predicts, where these are several; `target` then names them together, and `unit`
            is that of their common error, `MEAN_OF_RATIOS`.
    """

    data_hash: str
    name: str = field(compare=False)
    target: str
    unit: str = field(compare=False)
    targets: tuple[Target, ...] = ()

    @classmethod
    def of(cls, data_hash: str, name: str, targets: Sequence[Target]) -> DataRef:
        """Return the reference to one target or several."""
        if len(targets) == 1:
            return cls(data_hash, name, targets[0].name, targets[0].unit)
        return cls(data_hash, name, " + ".join(one.name for one in targets), MEAN_OF_RATIOS, tuple(targets))

    @property
    def each(self) -> tuple[Target, ...]:
        """The targets, one or several."""
        return self.targets or (Target(self.target, self.unit),)

    @property
    def described(self) -> str:
        """The targets with their units, in readable form."""
        return " + ".join(f"{one.name} [{one.unit or 'no unit'}]" for one in self.each)


@record
class Variant:
    """What is repeated over seeds and splits: a network (canonical), trained in one way, on one target of one data set.

    This is the identity by which results are grouped, everywhere. Its name among others is in `srcgcnn/run/labels.py`.
    """

    model: ModelConfig
    training: TrainingConfig
    data: DataRef

    def __post_init__(self) -> None:
        """Replace the network by the representative of all that are the same."""
        object.__setattr__(self, "model", self.model.canonical())

    def trial(self, seeds: Seeds) -> TrialConfig:
        """Return one repetition."""
        return TrialConfig(self.model, self.training, seeds, self.data)


@record
class TrialConfig:
    """Everything that determines the numbers of one trial. Its network is canonical: equal networks are one trial."""

    model: ModelConfig
    training: TrainingConfig
    seeds: Seeds
    data: DataRef

    def __post_init__(self) -> None:
        """Replace the network by the representative of all that are the same."""
        object.__setattr__(self, "model", self.model.canonical())
        self.training.depth.sampled_steps(self.model.depth)

    @cached_property
    def key(self) -> str:
        """Hash of (model, training, seeds, data hash, target, result format): the name of the result file."""
        return key_of(self)

    @property
    def variant(self) -> Variant:
        """All of it but the seeds."""
        return Variant(self.model, self.training, self.data)

    @cached_property
    def shape(self) -> tuple[Any, ...]:
        """What the trials of a group share: everything but seeds, learning rate and the value of a fixed alpha.

        Splits that keep rows together differ in their sizes, so trials of a group share the split seed there.
        """
        model = replace(self.model, alpha=0.5) if isinstance(self.model.alpha, float) else self.model
        split_seed = self.seeds.split if self.training.split.kind in GROUPED_SPLITS else None
        return model, replace(self.training, learning_rate=1.0), self.data, split_seed

    @property
    def label(self) -> str:
        """Human-readable name, such as `SR-CGCNN T=3 step-norm seed 1`, with the split seed if it is not 0."""
        return f"{self.model.label}{self.repeat}"

    @property
    def repeat(self) -> str:
        """What distinguishes it from other trials of its variant, to follow a name: ` seed 1` or ` seed 1 split 2`."""
        return f" seed {self.seeds.init}" + (f" split {self.seeds.split}" if self.seeds.split else "")


@record
class Metrics:
    """Errors at the best validation epoch, in the target's unit. Classification fills accuracy and leaves the rest.

    With several targets an error is the mean of theirs, each over its target's standard deviation (`TargetResult`).
    `test_*` is read once, with the weights of `best_epoch`. `train_*` is the error on the training rows with the same
    weights, in evaluation mode; None in results of older versions.
    """

    best_epoch: int
    train_loss: float
    val_mae: float | None = None
    val_rmse: float | None = None
    test_mae: float | None = None
    test_rmse: float | None = None
    val_accuracy: float | None = None
    test_accuracy: float | None = None
    train_mae: float | None = None
    train_rmse: float | None = None
    train_accuracy: float | None = None


@record
class Curves:
    """One number per epoch, epoch 0 first. `val_error` is MAE in the target's unit, or 1 - accuracy."""

    train_loss: tuple[float, ...]
    val_error: tuple[float, ...]
    learning_rate: tuple[float, ...]


@record
class Cost:
    """What the trial used. A trial of a group of M carries 1/M of the group's seconds.

    `seconds` counts training and evaluation over all attempts; `peak_memory_mb` is device memory on a GPU, else the
    process's largest resident size; `structures_per_second` counts training structures, evaluation time included.
    """

    seconds: float
    peak_memory_mb: float
    structures_per_second: float
    group_size: int
    resumes: int


@record
class Provenance:
    """Where the numbers came from.

    `path` is the backend of the network (`models/backend.py`); results of older versions have other names, or "".
    """

    finished_at: str
    git_commit: str
    versions: dict[str, str]
    hardware: str
    hostname: str
    threads: int
    path: str = ""


@record
class DepthProbes:
    """What each step t of message passing does, on validation crystals, at the best epoch (`training/probes.py`).

    Attributes:
        change: relative change of the atoms' states, t = 1 .. T.
        spread: how much the atoms of a crystal differ, from 0 (all alike) to 1, t = 0 (the embedding) .. T.
        exit_error: error of the trained readout after step t = 0 .. T; the last one is the validation error.
        beyond: the same after steps T + 1 .. 2T, which were not trained (`training/unrolled.py`); of networks whose
            blocks go in cycles.
        size: root mean square of the atoms' states, t = 0 .. T.
        energy: Dirichlet energy per edge and channel, mean of (h_i - h_j)^2 / 2 over the edges, t = 0 .. T. Over
            `size`^2 it is 0 where neighbours are alike, about 1 where they have nothing in common.
        gradients: norm of the gradient of the loss by the atoms' states after step t = 0 .. T, on the first training
            batch of each of the first epochs. Empty if one is not finite.

    Those from `beyond` on are empty in results of older versions.
    """

    change: tuple[float, ...]
    spread: tuple[float, ...]
    exit_error: tuple[float, ...]
    beyond: tuple[float, ...] = ()
    size: tuple[float, ...] = ()
    energy: tuple[float, ...] = ()
    gradients: tuple[tuple[float, ...], ...] = ()


@record
class TargetResult:
    """One of several targets: its errors in its unit, on the crystals that have it.

    Attributes:
        name: column of the target.
        mean, std: by which it was standardised.
        deviation: standard deviation of the training rows (all of the split, also if `train_size` takes fewer): its
            error in this unit enters the common one.
        rows: training, validation and test crystals that have it.
    """

    name: str
    mean: float
    std: float
    deviation: float
    rows: tuple[int, int, int]
    train_mae: float
    train_rmse: float
    val_mae: float
    val_rmse: float
    test_mae: float
    test_rmse: float

    def errors(self) -> dict[str, Any]:
        """Return the errors by the names of `Metrics`."""
        return {f"{rows}_{kind}": getattr(self, f"{rows}_{kind}") for rows in SETS for kind in ("mae", "rmse")}


@record
class TrialResult:
    """The outcome of one finished trial; `OUT/results/<key>.json` holds exactly this.

    `probes` is None in results of older versions, and if a probe is not finite. `targets` are those of a network
    that predicts several; `target_mean` is then 0 and `target_std` 1.
    """

    key: str
    config: TrialConfig
    metrics: Metrics
    curves: Curves
    conv_parameters: int
    total_parameters: int
    target_mean: float
    target_std: float
    rows: tuple[int, int, int]
    alphas: tuple[float, ...]
    cost: Cost
    provenance: Provenance
    format_version: int = RESULT_FORMAT
    probes: DepthProbes | None = None
    targets: tuple[TargetResult, ...] = ()

    def of_target(self, name: str) -> TrialResult:
        """Return this trial's result for one of its targets, in its unit, like that of a network for it alone.

        Curves and probes are of the common error, and stay out.
        """
        (one,) = (target for target in self.targets if target.name == name)
        (target,) = (target for target in self.config.data.targets if target.name == name)
        data = replace(self.config.data, target=name, unit=target.unit, targets=())
        return replace(
            self,
            config=replace(self.config, data=data),
            metrics=replace(self.metrics, **one.errors()),
            curves=replace(self.curves, val_error=()),
            target_mean=one.mean,
            target_std=one.std,
            rows=one.rows,
            probes=None,
            targets=(),
        )

    @property
    def val_error(self) -> float:
        """Validation error at the best epoch: MAE in the target's unit, or 1 - accuracy."""
        return self._error("val")

    @property
    def test_error(self) -> float:
        """Test error with the weights of the best epoch: MAE in the target's unit, or 1 - accuracy."""
        return self._error("test")

    @property
    def train_error(self) -> float | None:
        """Error on the training rows with the same weights; None in results of older versions."""
        if self.metrics.train_mae is None and self.metrics.train_accuracy is None:
            return None
        return self._error("train")

    def _error(self, rows: str) -> float:
        mae, accuracy = getattr(self.metrics, f"{rows}_mae"), getattr(self.metrics, f"{rows}_accuracy")
        if mae is None and accuracy is None:
            raise ValueError(f"result {self.key} has neither {rows}_mae nor {rows}_accuracy")
        return float(mae) if mae is not None else 1 - float(accuracy)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return as_dict(self)
