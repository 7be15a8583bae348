"""What a sweep asks for: a TOML file with flags on top, validated once."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from srcgcnn.data.materials_project.query import MpFilter
from srcgcnn.models.config import Alpha, Family, ModelConfig, Norm, Task
from srcgcnn.records import RecordError, parse, record
from srcgcnn.run.trial import DataRef, Seeds, TrainingConfig, TrialConfig
from srcgcnn.sweep.early_stopping import SchedulerSpec
from srcgcnn.sweep.search_spec import SearchSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MATERIALS_PROJECT = "mp"


@record
class PublishedStatistics:
    """What a publication says of one target, to be printed beside ours; the unit is the target's.

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
        target: column of the table; by default its only one, or the first of a store.
        unit: unit of the target; by default that of the source.
        mp: which materials of the Materials Project; with `source = "mp"` only.
        published: numbers to be printed beside ours.
    """

    source: str = "demo"
    target: str | None = None
    unit: str | None = None
    mp: MpFilter | None = None
    published: PublishedStatistics | None = None

    def __post_init__(self) -> None:
        """Refuse filters that nothing would read."""
        if self.mp is not None and self.source != MATERIALS_PROJECT:
            raise ValueError(f"[data.mp] belongs to source = {MATERIALS_PROJECT!r}, not to {self.source!r}")


@record
class Axes:
    """What is varied: all combinations.

    Attributes:
        models: `srcgcnn` applies one convolution T times, `cgcnn` stacks L of them.
        depths: T of srcgcnn and L of cgcnn.
        norms: srcgcnn only. `step`: BatchNorms of its own for every step; `shared`: the same ones in every step.
        alphas: srcgcnn only. Damping: `none`, a number in (0, 1], `learned` for each step, or `learned-scalar`.
        layer_norms: srcgcnn only. Whether one LayerNorm follows every step.
        widths: width F of the atom states; by default the one of [network].
        seeds: initial weights and batch order; `seeds = 5` is 0 to 4.
        split_seeds: rows of training, validation and test set, the same for all variants; `split_seeds = 2` is 0 and 1.
    """

    models: tuple[Family, ...] = ("srcgcnn", "cgcnn")
    depths: tuple[int, ...] = (1, 2, 3, 5, 8)
    norms: tuple[Norm, ...] = ("step",)
    alphas: tuple[Alpha, ...] = ("none",)
    layer_norms: tuple[bool, ...] = (False,)
    widths: tuple[int, ...] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    split_seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        """Refuse empty axes, repeated values and negative seeds."""
        for name in self.__dataclass_fields__:
            values = getattr(self, name)
            if values is None:
                continue
            if not values:
                raise ValueError(f"axis {name!r} is empty: give at least one value")
            if len(set(values)) < len(values):
                raise ValueError(f"axis {name!r} names a value twice: {list(values)}")
        for name in ("seeds", "split_seeds"):
            if min(getattr(self, name)) < 0:
                raise ValueError(f"axis {name!r} has a negative seed: {list(getattr(self, name))}")


@record
class NetworkSpec:
    """Widths and task, the same for all trials of a sweep.

    Attributes:
        hidden_channels: width of the atom states.
        head_channels: width of the readout.
        head_layers: hidden layers of the readout.
        task: `regression`, or `classification` of targets 0 and 1.
    """

    hidden_channels: int = 64
    head_channels: int = 128
    head_layers: int = 1
    task: Task = "regression"


@record
class StartSpec:
    """Trained weights to start from (docs/predictions.md).

    Attributes:
        model: a model file, or the folder of a sweep.
        variant: label of the sweep's variant whose best seed is taken; by default the best variant.
        head: `new` draws the readout anew; `keep` takes it and the target's scale from the model.
        frozen: names of parts that are not trained, such as `embedding`, `linears`, `norms.0` or `head.hidden`.
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

    def __post_init__(self) -> None:
        """Refuse names that cannot be a folder, and schedulers that would judge unfairly."""
        if not self.name.strip(".") or any(char not in NAME_CHARACTERS for char in self.name):
            raise ValueError(f"name={self.name!r} must consist of letters, digits, '-', '_' and '.'")
        if not self.scheduler.stops:
            return
        if self.search.proposes and len(self.search.objectives) > 1:
            raise ValueError(
                f"a scheduler judges by the error alone and would stop small networks: scheduler "
                f"{self.scheduler.kind!r} does not go with objectives={list(self.search.objectives)}"
            )
        if self.training.schedule == "plateau":
            raise ValueError(
                f"schedule 'plateau' trains seeds one by one, scheduler {self.scheduler.kind!r} needs them as one "
                "group: choose another of the two"
            )


NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def read_spec(path: Path, overrides: dict[str, Any]) -> SweepSpec:
    """Read a sweep definition and put the flags on top.

    Args:
        path: TOML file; `name` defaults to its stem.
        overrides: nested like the file, with only what was given.

    Raises:
        RecordError: the file is missing or not TOML, or a key or value is wrong; the message lists what is known.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(str(found) for found in path.parent.glob("*.toml"))) or "none"
        raise RecordError(f"no sweep definition {path}; there: {known}") from None
    except tomllib.TOMLDecodeError as error:
        raise RecordError(f"{path}: not valid TOML: {error}") from None
    axes_flags = overrides.get("axes", {})
    others = {name: value for name, value in overrides.items() if name != "axes"}
    if "source" in data.get("data", {}) and "source" in others.get("data", {}):
        data = {**data, "data": {}}  # the file's target and unit belong to the file's source
    merged = _merge({"name": path.stem, **data}, others)
    blocks = merged.get("axes", {})
    blocks = [blocks] if isinstance(blocks, dict) else blocks
    merged["axes"] = [_with_seed_lists(_merge(block, axes_flags)) for block in blocks]
    return parse(SweepSpec, merged, f"{path} with flags" if overrides else str(path))


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in top.items():
        nested = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merge(merged[name], value) if nested else value
    return merged


def _with_seed_lists(block: dict[str, Any]) -> dict[str, Any]:
    """Read `seeds = 5` as seeds 0..4."""
    lists = {name: list(range(block[name])) for name in ("seeds", "split_seeds") if isinstance(block.get(name), int)}
    return {**block, **lists}


def trials_of(spec: SweepSpec, data: DataRef) -> Iterator[tuple[TrialConfig, str]]:
    """Yield every combination of the axes as a canonical trial, with the label that the combination was asked by."""
    for axes in spec.axes:
        for model in _models_of(axes, spec.network):
            for split_seed in axes.split_seeds:
                for seed in axes.seeds:
                    seeds = Seeds(init=seed, order=seed, split=split_seed)
                    yield TrialConfig(model, spec.training, seeds, data), f"{model.label} seed {seed}"


def networks_of(spec: SweepSpec) -> Iterator[ModelConfig]:
    """Yield the networks of all combinations."""
    for axes in spec.axes:
        yield from _models_of(axes, spec.network)


def _models_of(axes: Axes, network: NetworkSpec) -> Iterator[ModelConfig]:
    widths = axes.widths or (network.hidden_channels,)
    for width, family, depth in product(widths, axes.models, axes.depths):
        plain = ModelConfig(family, depth, **{**asdict(network), "hidden_channels": width})
        if family == "cgcnn":
            yield plain
            continue
        for norm, alpha, layer_norm in product(axes.norms, axes.alphas, axes.layer_norms):
            yield replace(plain, norm=norm, alpha=alpha, layer_norm=layer_norm)
