"""What a trial is: a network, trained in one way with certain seeds, on one target of one data set.

No torch here: a plan needs none.
"""

from __future__ import annotations

from dataclasses import field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from srcgcnn.data.source import with_unit
from srcgcnn.models.config import ModelConfig
from srcgcnn.records import record
from srcgcnn.run.keys import key_of
from srcgcnn.run.training_config import GROUPED_SPLITS, TrainingConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

MEAN_OF_RATIOS = "mean of MAE/std"  # the error of several targets: std is that of the training rows


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
        return " + ".join(with_unit(one.name, one.unit) for one in self.each)


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
    def cautions(self) -> tuple[str, ...]:
        """What one should know before judging such a trial by its error."""
        _, trained = self.training.depth.sampled_steps(self.model.depth)
        found = [self.model.caution] if self.model.caution else []
        if trained < self.model.depth:
            found.append(
                f"Depth sampling `{self.training.depth.sampling}` trains at most {trained} steps, and a network of "
                "more is evaluated with all of its steps: its errors mean nothing."
            )
        return tuple(found)

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
