"""The definition of a sweep: a TOML file with flags on top, validated once."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal

from srcgcnn.data.graph import GraphSettings
from srcgcnn.data.materials_project.query import MpFilter
from srcgcnn.models.config import NormKind, Readout, Skip, Task
from srcgcnn.models.own import OwnNetwork
from srcgcnn.records import parse, read_toml, record
from srcgcnn.run.training_config import TrainingConfig
from srcgcnn.sweep.axes import MOST_VALUES, Axes, merged_axes, read_axes
from srcgcnn.sweep.early_stopping import SchedulerSpec
from srcgcnn.sweep.search_spec import SearchSpec

if TYPE_CHECKING:
    from pathlib import Path

MATERIALS_PROJECT = "mp"


@record
class PublishedStatistics:
    """What a publication says about one target, to be printed next to ours; the unit is the target's.

    Attributes:
        source: the publication.
        target: the target that these numbers are of.
        crystals: how many it has.
        mean, std, minimum, maximum: of that target.
    """

    source: str
    target: str
    crystals: int
    mean: float
    std: float
    minimum: float
    maximum: float


@record
class DataSpec:
    """Where the crystals come from.

    Attributes:
        source: a source (see `srcgcnn data build --help`), the folder of a store, or `mp`: the Materials Project, whose
            snapshot is fetched once.
        target: column of the table; by default its only one, or the first of a store. Several make one network that
            predicts them all; crystals may lack some.
        unit: unit of the target; by default that of the source. Of several one for all, or one each, with commas.
        mp: which materials of the Materials Project; with `source = "mp"` only.
        published: numbers to be printed next to ours.
        ids: a file of ids, one per line: only these crystals.
        graph: neighbours and cutoff, if the store is built from a source (`[data.graph]`).
    """

    source: str = "demo"
    target: str | tuple[str, ...] | None = None
    unit: str | None = None
    mp: MpFilter | None = None
    published: PublishedStatistics | None = None
    graph: GraphSettings = field(default_factory=GraphSettings)
    ids: str | None = None

    def __post_init__(self) -> None:
        """Refuse filters that nothing would read; write one target in a list as that target."""
        if isinstance(self.target, tuple):
            if not all(self.target) or len(set(self.target)) < len(self.target) or not self.target:
                raise ValueError(f"target={list(self.target)} must be different names of columns")
            object.__setattr__(self, "target", self.target if len(self.target) > 1 else self.target[0])
        if self.mp is not None and self.source != MATERIALS_PROJECT:
            raise ValueError(f"[data.mp] belongs to source = {MATERIALS_PROJECT!r}, not to {self.source!r}")

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that were named: none, one or several."""
        return self.target if isinstance(self.target, tuple) else (self.target,) if self.target else ()


@record
class NetworkSpec:
    """Widths, kinds and task, the same for all trials of a sweep.

    Attributes:
        hidden_channels: width of the atom states.
        head_channels: width of the readout.
        head_layers: hidden layers of the readout.
        task: `regression`, or `classification` of targets 0 and 1.
        norm_kind: `batch`, `layer` or `group` (differentiable group normalisation).
        skip: path around a step. `none`: the published step; `residual`: around the step, instead of its own; `double`:
            both.
        readout: how the atoms of a crystal are pooled: `mean`, `sum`, `max`, `attention` or `set2set`.
        edge_channels: width of filters and edge networks; 0 takes `hidden_channels`.
    """

    hidden_channels: int = 64
    head_channels: int = 128
    head_layers: int = 1
    task: Task = "regression"
    norm_kind: NormKind = "batch"
    skip: Skip = "none"
    readout: Readout = "mean"
    edge_channels: int = 0


@record
class StartSpec:
    """Trained weights to start from (docs/predictions.md).

    Attributes:
        model: a model file, or the folder of a sweep.
        variant: label of the sweep's variant whose best seed is taken; by default the best variant.
        head: `new` initialises the readout again; `keep` takes it and the target's scale from the model.
        frozen: names of parts that are not trained, such as `embedding`, `blocks`, `norms.0` or `head.hidden`.
    """

    model: str
    variant: str | None = None
    head: Literal["new", "keep"] = "new"
    frozen: tuple[str, ...] = ()


@record
class SweepSpec:
    """One sweep.

    Attributes:
        name: names its folder and its pages.
        question: a sentence for plan and report.
        data: where the crystals come from.
        axes: what is varied; several blocks `[[axes]]` are run as their union.
        network: what is the same for all trials.
        training: the recipe.
        search: how variants are chosen (docs/search.md).
        scheduler: when a variant is stopped before the end of its recipe (docs/search.md).
        start: trained weights to start from; by default random ones.
        networks: what is known about user-defined networks among the models; filled in from their code.
    """

    name: str
    question: str = ""
    data: DataSpec = field(default_factory=DataSpec)
    axes: tuple[Axes, ...] = (Axes(),)
    network: NetworkSpec = field(default_factory=NetworkSpec)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: SearchSpec = field(default_factory=SearchSpec)
    scheduler: SchedulerSpec = field(default_factory=SchedulerSpec)
    start: StartSpec | None = None
    networks: tuple[OwnNetwork, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names that cannot be a folder, and schedulers that would judge unfairly."""
        if not self.name.strip(".") or any(char not in NAME_CHARACTERS for char in self.name):
            raise ValueError(f"name={self.name!r} must consist of letters, digits, '-', '_' and '.'")
        if self.network.task == "classification" and len(self.data.targets) > 1:
            raise ValueError(
                f"task='classification' has one target, and target={list(self.data.targets)} names several: give one, "
                "or train a regression"
            )
        self._check_size()
        self._check_ranges()
        if self.scheduler.stops:
            self._check_scheduler()

    def _check_size(self) -> None:
        """Refuse absurdly large plans before anything is listed."""
        networks = sum(axes.combinations // axes.repeats for axes in self.axes)
        repeats = max((axes.repeats for axes in self.axes), default=0)
        proposed = self.search.proposals * repeats if self.search.proposes else 0
        for count, what in (
            (proposed or sum(axes.combinations for axes in self.axes), "trials"),
            (networks, "combinations of the axes"),
        ):
            if count > MOST_VALUES:
                raise ValueError(f"{count:,} {what}: a sweep has at most {MOST_VALUES:,}; give fewer values or seeds")

    def _check_ranges(self) -> None:
        """Refuse what is varied twice, and what no search can vary."""
        ranges = self.search.ranges
        given = {name: values for axes in self.axes for name, values in axes.named.items()}
        for name, values in given.items() if self.search.proposes else ():
            if any(isinstance(value, tuple) for value in values):  # not for Optuna's storage
                section, _, key = name.partition(".")
                raise ValueError(
                    f"axis {name}: a search varies numbers and words, not lists such as {list(values[0])}; write one "
                    f"of them into [{section}] as {key}"
                )
        for field_name, axis in RANGED_AXES.items():
            if self.search.proposes and getattr(ranges, field_name) and axis in given:
                raise ValueError(
                    f"search.ranges.{field_name} and axes.{axis} vary the same field: leave one of them out"
                )
        if self.search.proposes and ranges.hidden_channels and any(axes.match for axes in self.axes):
            raise ValueError("axes.match chooses the widths: leave out search.ranges.hidden_channels")

    def _check_scheduler(self) -> None:
        if self.search.proposes and len(self.search.objectives) > 1:
            raise ValueError(
                f"a scheduler judges by the error alone and would stop small networks: scheduler "
                f"{self.scheduler.kind!r} does not go with objectives={list(self.search.objectives)}"
            )
        varied = {name: values for axes in self.axes for name, values in axes.named.items()}
        if "training.epochs" in varied:
            raise ValueError(
                f"scheduler {self.scheduler.kind!r} compares variants at the same epochs of one recipe: leave out the "
                "axis training.epochs"
            )
        if "plateau" in (self.training.schedule, *varied.get("training.schedule", ())):
            raise ValueError(
                f"schedule 'plateau' trains seeds one by one, scheduler {self.scheduler.kind!r} needs them as one "
                "group: change one of the two"
            )


RANGED_AXES = {
    "learning_rate": "training.learning_rate",
    "weight_decay": "training.weight_decay",
    "hidden_channels": "widths",
}
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def read_spec(path: Path, overrides: dict[str, Any]) -> SweepSpec:
    """Read a sweep definition and put the flags on top.

    Args:
        path: TOML file; `name` defaults to its stem.
        overrides: nested like the file, with only what was given.

    Raises:
        RecordError: the file is missing or not TOML, or a key or value is wrong; the message lists what is known.
    """
    data = read_toml(path, "sweep definition")
    axes_flags = overrides.get("axes", {})
    others = {name: value for name, value in overrides.items() if name != "axes"}
    if "source" in data.get("data", {}) and "source" in others.get("data", {}):
        # the file's target and unit belong to the file's source; its graphs are the same for all
        data = {**data, "data": {name: value for name, value in data["data"].items() if name == "graph"}}
    merged = merge({"name": path.stem, **data}, others)
    where = f"{path} with flags" if overrides else str(path)
    blocks = merged.get("axes", {})
    blocks = [blocks] if isinstance(blocks, dict) else blocks
    merged["axes"] = [merged_axes(read_axes(block, where), read_axes(axes_flags, where)) for block in blocks]
    return parse(SweepSpec, merged, where)


def merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Return a nested table with another one put on top."""
    merged = dict(base)
    for name, value in top.items():
        nested = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = merge(merged[name], value) if nested else value
    return merged
