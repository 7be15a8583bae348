"""The variants that a search chooses from, and the way from a variant to its trials and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

from srcgcnn.models.config import ModelConfig
from srcgcnn.run.trial import Seeds, TrialConfig

if TYPE_CHECKING:
    import optuna

    from srcgcnn.run.trial import DataRef, TrainingConfig
    from srcgcnn.sweep.search_spec import Range
    from srcgcnn.sweep.spec import Axes, SweepSpec

Value = str | int | float | bool
Params = dict[str, Value]
RANGED = ("learning_rate", "weight_decay")
DIGITS = 3  # of proposed numbers: a person can type them again


@dataclass(frozen=True)
class Variant:
    """What one proposal trains: a network and a recipe."""

    model: ModelConfig
    training: TrainingConfig

    def label(self, usual: TrainingConfig) -> str:
        """Name for people, with what the search varies beside the axes."""
        parts = [self.model.label]
        numbers = {name: getattr(self.training, name) for name in RANGED}
        parts += [f"{name}={number:g}" for name, number in numbers.items() if number != getattr(usual, name)]
        return " ".join(parts)


class Space:
    """The axes of a sweep and the ranges of its search, on one data set.

    Raises:
        ValueError: the sweep has several blocks of axes.
    """

    def __init__(self, spec: SweepSpec, data: DataRef) -> None:
        if len(spec.axes) != 1:
            raise ValueError(
                f"sweep {spec.name!r} has {len(spec.axes)} [[axes]] blocks, and a search chooses from one: "
                "write one [axes] block, or use --search grid"
            )
        self._spec, self._axes, self._data = spec, spec.axes[0], data
        self._ranges = {name: found for name in RANGED if (found := getattr(spec.search.ranges, name)) is not None}

    @property
    def axes(self) -> Axes:
        """The discrete choices."""
        return self._axes

    @property
    def ranges(self) -> dict[str, Range]:
        """The continuous choices."""
        return self._ranges

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the atom states to choose from."""
        return self._spec.search.ranges.hidden_channels or self._axes.widths or (self._spec.network.hidden_channels,)

    @property
    def seeds(self) -> frozenset[Seeds]:
        """Seeds and splits over which every variant is trained."""
        pairs = product(self._axes.seeds, self._axes.split_seeds)
        return frozenset(Seeds(init=seed, order=seed, split=split) for seed, split in pairs)

    def described(self) -> dict[str, str]:
        """Return what is chosen from, for people."""
        axes = self._axes
        choices: dict[str, tuple[Value, ...]] = {"model": axes.models, "depth": axes.depths}
        if "srcgcnn" in axes.models:
            choices |= {"norm": axes.norms, "alpha": axes.alphas, "layer_norm": axes.layer_norms}
        choices["hidden_channels"] = self.widths
        listed = {name: " ".join(map(str, values)) for name, values in choices.items() if len(values) > 1}
        scale = {True: "on a logarithmic scale", False: "evenly"}
        return listed | {
            name: f"{wanted.low:g} .. {wanted.high:g}, {scale[wanted.log]}" for name, wanted in self._ranges.items()
        }

    def draw(self, trial: optuna.Trial) -> Params:
        """Draw one point; norms and damping only where the family has them."""
        axes = self._axes
        params: Params = {
            "model": trial.suggest_categorical("model", axes.models),
            "depth": trial.suggest_categorical("depth", axes.depths),
        }
        if params["model"] == "srcgcnn":
            params["norm"] = trial.suggest_categorical("norm", axes.norms)
            params["alpha"] = trial.suggest_categorical("alpha", axes.alphas)  # type: ignore[assignment]
            params["layer_norm"] = trial.suggest_categorical("layer_norm", axes.layer_norms)
        params["hidden_channels"] = trial.suggest_categorical("hidden_channels", self.widths)
        for name, wanted in self._ranges.items():
            params[name] = trial.suggest_float(name, wanted.low, wanted.high, log=wanted.log)
        return params

    def variant(self, params: Params) -> Variant:
        """Return the variant at a point. Points of the same network and recipe are one variant."""
        values = dict(params)
        numbers = {name: float(f"{float(values.pop(name)):.{DIGITS}g}") for name in self._ranges}
        network = {**asdict(self._spec.network), "hidden_channels": values.pop("hidden_channels")}
        model = ModelConfig(family=values.pop("model"), **network, **values)  # type: ignore[arg-type]
        return Variant(model.canonical(), replace(self._spec.training, **numbers))  # type: ignore[arg-type]

    def trials(self, variant: Variant) -> list[TrialConfig]:
        """Return the trials of a variant, one per seed and split."""
        ordered = sorted(self.seeds, key=lambda seeds: (seeds.split, seeds.init))
        return [TrialConfig(variant.model, variant.training, seeds, self._data) for seeds in ordered]

    def label(self, variant: Variant) -> str:
        """Name a variant for people."""
        return variant.label(self._spec.training)

    def point_of(self, config: TrialConfig) -> Params | None:
        """Return the point at which a trial lies, or None where the space does not hold it."""
        point = self._networks.get(config.model)
        numbers = {name: float(getattr(config.training, name)) for name in self._ranges}
        usual = replace(config.training, **{name: getattr(self._spec.training, name) for name in self._ranges})
        inside = all(number in self._ranges[name] for name, number in numbers.items())
        same = (config.data.data_hash, config.data.target) == (self._data.data_hash, self._data.target)
        if point is None or not inside or not same or usual != self._spec.training or config.seeds not in self.seeds:
            return None
        return {**point, **numbers}

    @cached_property
    def _networks(self) -> dict[ModelConfig, Params]:
        """Every network of the space with the first point that leads to it."""
        found: dict[ModelConfig, Params] = {}
        axes = self._axes
        nothing = {name: wanted.low for name, wanted in self._ranges.items()}
        for model, depth, width in product(axes.models, axes.depths, self.widths):
            point: Params = {"model": model, "depth": depth, "hidden_channels": width}
            choices = product(axes.norms, axes.alphas, axes.layer_norms) if model == "srcgcnn" else [None]
            for chosen in choices:
                extra = dict(zip(("norm", "alpha", "layer_norm"), chosen, strict=True)) if chosen else {}
                found.setdefault(self.variant({**point, **extra, **nothing}).model, {**point, **extra})
        return found
