"""The variants of a sweep: all points of its axes for a grid, proposed ones for a search, and the way back."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from itertools import islice, product
from typing import TYPE_CHECKING, Any, get_args

from srcgcnn.models.config import USUAL_WIDTH, ModelConfig, Norm
from srcgcnn.models.counts import count_parameters
from srcgcnn.models.own import is_own
from srcgcnn.models.published import NAMES, settings_of
from srcgcnn.models.registry import TIED
from srcgcnn.run.labels import label_of
from srcgcnn.run.trial import DataRef, Seeds, Variant
from srcgcnn.sweep.axes import LARGEST, SHORT_NAMES, has, with_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    import optuna

    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.sweep.axes import Axes, CountedBy
    from srcgcnn.sweep.search_spec import Range
    from srcgcnn.sweep.spec import SweepSpec

Params = dict[str, Any]  # names and values of a point, as Optuna's study has them
RANGED = ("learning_rate", "weight_decay")
DIGITS = 3  # of proposed numbers: a person can type them again
# Names in studies that exist already; other axes go by their dotted names
DRAWN_NAMES = {
    "model.family": "model",
    "model.depth": "depth",
    "model.norm": "norm",
    "model.alpha": "alpha",
    "model.layer_norm": "layer_norm",
    "model.hidden_channels": "hidden_channels",
    "training.learning_rate": "learning_rate",
    "training.weight_decay": "weight_decay",
}
DOTTED = {drawn: name for name, drawn in DRAWN_NAMES.items()}
WIDTH = "model.hidden_channels"
_NO_DATA = DataRef("", "", "", "")  # networks and recipes do not depend on it
DEEPEST_NAMED = 200  # of the networks among which the label of a match is looked up
DEEPEST_SUGGESTED = 10  # of those that are suggested if it is not found


@dataclass(frozen=True)
class Dimension:
    """One axis of a space.

    Attributes:
        field: dotted name in the trial's record.
        values: to choose from.
    """

    field: str
    values: tuple[Any, ...]

    @property
    def drawn(self) -> str:
        """Name in a study."""
        return DRAWN_NAMES.get(self.field, self.field)


class Space:
    """A block of axes, and the ranges of the search if there is one, on one data set.

    Args:
        spec: the sweep.
        data: the numbers to train on.
        axes: one of its blocks; by default its only one, which is what a search chooses from.

    Raises:
        ValueError: no block is given and the sweep has several.
    """

    def __init__(self, spec: SweepSpec, data: DataRef, axes: Axes | None = None) -> None:
        if axes is None and len(spec.axes) != 1:
            raise ValueError(
                f"sweep {spec.name!r} has {len(spec.axes)} [[axes]] blocks, and a search chooses from one: "
                "write one [axes] block, or use --search grid"
            )
        self._spec, self._axes, self._data = spec, axes or spec.axes[0], data
        ranges = spec.search.ranges if spec.search.proposes else None
        self._ranges: dict[str, Range] = {name: found for name in RANGED if (found := getattr(ranges, name, None))}
        self._network = {**asdict(spec.network), "outputs": len(spec.data.targets) or 1}

    @property
    def axes(self) -> Axes:
        """The discrete choices, as they were given."""
        return self._axes

    @property
    def ranges(self) -> dict[str, Range]:
        """The continuous choices."""
        return self._ranges

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the atom states to choose from."""
        proposed = self._spec.search.ranges.hidden_channels if self._spec.search.proposes else ()
        return proposed or self._axes.widths or (self._spec.network.hidden_channels,)

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The discrete choices, by the dotted names of what they set."""
        named = {SHORT_NAMES.get(name, name): values for name, values in self._axes.named.items()}
        named.pop(WIDTH, None)
        if self._axes.match is None:
            named[WIDTH] = self.widths
        usual = [name for name in DRAWN_NAMES if name in named]
        return tuple(Dimension(name, named[name]) for name in dict.fromkeys([*usual, *named]))

    def _of(self, family: Any) -> list[Dimension]:
        """Return the choices of one family, after the family itself."""
        return [
            dimension
            for dimension in self.dimensions
            if dimension.field != "model.family" and has(family, dimension.field, self._spec.networks)
        ]

    @property
    def seeds(self) -> frozenset[Seeds]:
        """Seeds and splits over which every variant is trained."""
        pairs = product(self._axes.seeds, self._axes.split_seeds)
        return frozenset(Seeds(init=seed, order=seed, split=split) for seed, split in pairs)

    def described(self) -> dict[str, str]:
        """Return the choices in readable form: name -> values."""
        choices = {dimension.drawn: dimension.values for dimension in self.dimensions}
        listed = {name: " ".join(map(str, values)) for name, values in choices.items() if len(values) > 1}
        scale = {True: "on a logarithmic scale", False: "evenly"}
        return listed | {
            name: f"{bounds.low:g} .. {bounds.high:g}, {scale[bounds.log]}" for name, bounds in self._ranges.items()
        }

    def points(self) -> Iterator[Params]:
        """Yield every combination of the discrete choices; a family has only those that it knows."""
        for family in self._axes.models:
            own = self._of(family)
            for values in product(*[dimension.values for dimension in own]):
                yield {"model": family} | {dimension.drawn: value for dimension, value in zip(own, values, strict=True)}

    def draw(self, trial: optuna.Trial) -> Params:
        """Draw one point; norms and damping only if the family has them."""
        params: Params = {"model": trial.suggest_categorical("model", self._axes.models)}
        for dimension in self._of(params["model"]):
            params[dimension.drawn] = trial.suggest_categorical(dimension.drawn, dimension.values)
        for name, bounds in self._ranges.items():
            params[name] = trial.suggest_float(name, bounds.low, bounds.high, log=bounds.log)
        return params

    def network(self, params: Params) -> ModelConfig:
        """Return the network at a point as it was requested."""
        values = {DOTTED.get(name, name): value for name, value in params.items()}
        own = {name.removeprefix("model."): value for name, value in values.items() if name.startswith("model.")}
        if is_own(own["family"]):
            return self._own_network(own)
        published = settings_of(own.pop("family"))
        model = ModelConfig(**{**self._network, **published, **own})
        fitted = model if self.matching is None else self.matching.fitted(model)
        # not in ModelConfig.canonical: results of earlier versions would get other keys
        same = fitted.edge_channels == fitted.hidden_channels or not fitted.block.reads_edge_width
        return replace(fitted, edge_channels=0) if same else fitted

    def _own_network(self, given: dict[str, Any]) -> ModelConfig:
        """Return a network of one's own: of the settings those that its constructor takes."""
        known = [network for network in self._spec.networks if network.name == given["family"]]
        if not known:
            raise ValueError(f"network {given['family']!r}: nothing is known of it; name it with --models of `sweep`")
        if self._axes.match is not None:
            raise ValueError(f"match: the parameters of {given['family']} are counted when it is built; give widths")
        settings = {name: value for name, value in {**self._network, **given}.items() if name in known[0].settings}
        more = {name: self._network[name] for name in ("task", "outputs")}
        more |= {"family": known[0].name, "code": known[0].code}
        return ModelConfig(**{"depth": 1, **settings, **more})

    def variant(self, params: Params) -> Variant:
        """Return the variant at a point. Points of the same network and recipe are one variant."""
        rounded = {name: float(f"{float(params[name]):.{DIGITS}g}") for name in self._ranges if name in params}
        values = {DOTTED.get(name, name): value for name, value in {**params, **rounded}.items()}
        recipe = {
            name.removeprefix("training."): None if value == "all" else value  # of `train_sizes`
            for name, value in values.items()
            if name.startswith("training.")
        }
        return Variant(self.network(params), with_values(self._spec.training, recipe), self._data)

    def trials(self, variant: Variant) -> list[TrialConfig]:
        """Return the trials of a variant, one per seed and split."""
        ordered = sorted(self.seeds, key=lambda seeds: (seeds.split, seeds.init))
        return [variant.trial(seeds) for seeds in ordered]

    def label(self, variant: Variant) -> str:
        """Name a variant in readable form, with the numbers that are searched."""
        return label_of(variant, self._recipe_names)

    @cached_property
    def _recipe_names(self) -> tuple[str, ...]:
        """Settings of the recipe that are varied here."""
        axes = [dimension.field for dimension in self.dimensions if dimension.field.startswith("training.")]
        return tuple(dict.fromkeys([*(name.removeprefix("training.") for name in axes), *self._ranges]))

    def requested_label(self, point: Params) -> str:
        """Name a point as it was requested: another point may be the same network."""
        return label_of(self.variant(point), self._recipe_names, self.network(point).label)

    def point_of(self, config: TrialConfig) -> Params | None:
        """Return the point at which a trial lies, or None if the space does not hold it."""
        numbers = {name: float(getattr(config.training, name)) for name in self._ranges}
        usual = with_values(config.training, {name: getattr(self._spec.training, name) for name in self._ranges})
        point = self._variants.get(Variant(config.model, usual, self._data))
        inside = all(number in self._ranges[name] for name, number in numbers.items())
        if point is None or not inside or config.data != self._data or config.seeds not in self.seeds:
            return None
        return {**point, **numbers}

    @cached_property
    def _variants(self) -> dict[Variant, Params]:
        """Every variant of the discrete choices with the first point that leads to it."""
        found: dict[Variant, Params] = {}
        for point in self.points():
            found.setdefault(self.variant(point), point)
        return found

    @cached_property
    def matching(self) -> Matching | None:
        """What the widths are chosen for, if the axes say so.

        Raises:
            ValueError: no network has this label.
        """
        match = self._axes.match
        return None if match is None else Matching(match.by, self._named(match.of))

    def _named(self, label: str) -> ModelConfig:
        """Return the network that a label names; its width may be any."""
        _, _, width = label.partition(" width=")
        shallow = []
        for network in self._nameable(int(width.split()[0]) if width[:1].isdigit() else USUAL_WIDTH):
            if network.label == label:
                return network
            if network.depth <= DEEPEST_SUGGESTED:
                shallow.append(network.label)
        near = ", ".join(map(repr, get_close_matches(label, shallow, n=4))) or "'SR-CGCNN T=3 step-norm', 'CGCNN-3'"
        raise ValueError(f"match of={label!r}: no network has that name; similar names: {near}")

    def _nameable(self, width: int) -> Iterator[ModelConfig]:
        """Yield every model by depth: stacked, and tied with all norms and dampings."""
        alphas = dict.fromkeys(("none", "learned", "learned-scalar", *self._axes.alphas))
        stacked = [(name, {"blocks": "all"}) for name in NAMES if name not in TIED]
        tied = [
            (name, {"blocks": None if name in TIED else 1, "norm": norm, "alpha": alpha, "layer_norm": layer_norm})
            for name, norm, alpha, layer_norm in product(NAMES, get_args(Norm), alphas, (False, True))
        ]
        for depth, (name, more) in product(range(1, DEEPEST_NAMED + 1), [*stacked, *tied]):
            yield ModelConfig(
                **{**self._network, **settings_of(name), **more, "depth": depth, "hidden_channels": width}
            )


@dataclass(frozen=True)
class Matching:
    """Widths for equal parameter counts, in closed form.

    Attributes:
        by: which count.
        of: the network whose count is to be met.
    """

    by: CountedBy
    of: ModelConfig

    def count(self, network: ModelConfig) -> int:
        """Return the count of a network."""
        counts = count_parameters(network)
        return counts.convolution if self.by == "conv_params" else counts.total

    def fitted(self, network: ModelConfig) -> ModelConfig:
        """Return a network in the width whose count comes nearest; of two equally near the narrower one."""
        reference = self.count(self.of)
        above = (
            bisect_left(range(1, LARGEST[WIDTH]), reference, key=lambda width: self.count(_wide(network, width))) + 1
        )
        near = [_wide(network, width) for width in (above - 1, above) if width >= 1]
        return min(near, key=lambda candidate: abs(self.count(candidate) - reference))

    def describe(self, network: ModelConfig) -> str:
        """Say how near a network comes."""
        count, reference = self.count(network), self.count(self.of)
        return f"{network.label}: {count:,}, {100 * (count / reference - 1):+.2f} %"


def _wide(network: ModelConfig, width: int) -> ModelConfig:
    return replace(network, hidden_channels=width)


def trials_of(spec: SweepSpec, data: DataRef) -> Iterator[tuple[TrialConfig, str]]:
    """Yield every combination of the axes as a canonical trial, with the label of the combination."""
    for axes in spec.axes:
        space = Space(spec, data, axes)
        for point in space.points():
            label = space.requested_label(point)
            for trial in space.trials(space.variant(point)):
                yield trial, label


def variants_of(spec: SweepSpec) -> Iterator[Variant]:
    """Yield the variants of all combinations; one may be requested several times."""
    for axes in spec.axes:
        space = Space(spec, _NO_DATA, axes)
        for point in space.points():
            yield space.variant(point)


def varied_settings(spec: SweepSpec) -> tuple[str, ...]:
    """Return the settings of the recipe that a sweep varies, by their names in labels."""
    values: dict[str, set[Any]] = {}
    for axes in spec.axes:
        space = Space(spec, _NO_DATA, axes)
        for dimension in space.dimensions:
            if dimension.field.startswith("training."):
                values.setdefault(dimension.field.removeprefix("training."), set()).update(dimension.values)
        for name, bounds in space.ranges.items():
            values.setdefault(name, set()).update((bounds.low, bounds.high))
    return tuple(name for name, found in values.items() if len(found) > 1)


def without_effect(spec: SweepSpec) -> list[str]:
    """Return in readable form which axes do nothing for which models."""
    found: dict[str, dict[str, None]] = {}
    for axes in spec.axes:
        for name, dotted in axes.chosen.items():
            found.setdefault(name, {}).update({m: None for m in axes.models if not has(m, dotted, spec.networks)})
    models = {model for axes in spec.axes for model in axes.models}
    lines = [
        f"{name}: no model of this sweep has them"
        if set(lacking) == models
        else f"{name}: without effect on {', '.join(lacking)}"
        for name, lacking in found.items()
        if lacking
    ]
    split = spec.training.split
    drawn = split.train_size or any(size != "all" for axes in spec.axes for size in axes.train_sizes or ())
    if split.kind == "lists" and not drawn and any(len(axes.split_seeds) > 1 for axes in spec.axes):
        lines.append("split_seeds: without effect, since the rows of all sets are listed")
    return lines


def matches_of(spec: SweepSpec, most: int) -> list[str]:
    """Return in readable form how near the matched networks of a sweep come, `most` of them."""
    lines = []
    for axes in spec.axes:
        space = Space(spec, _NO_DATA, axes)
        if space.matching is None:
            continue
        networks = dict.fromkeys(space.variant(point).model for point in space.points())
        lines.append(f"widths matched by {space.matching.by} to {space.matching.describe(space.matching.of)}")
        lines += [f"  {space.matching.describe(network)}" for network in islice(networks, most)]
        if len(networks) > most:
            lines.append(f"  and {len(networks) - most} more")
    return lines
