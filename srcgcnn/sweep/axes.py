"""What a sweep varies: dotted names of the fields of a trial's record, with short names for the usual ones.

`"training.weight_decay" = [0, 0.01]` and `depths = [1, 2, 3]` are both axes; `depths` is short for `model.depth`.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from srcgcnn.models.config import MOST_OF_ANY, Alpha, ModelConfig, Norm
from srcgcnn.models.own import is_own
from srcgcnn.models.published import check_name, settings_of
from srcgcnn.models.registry import block_of
from srcgcnn.records import RecordError, parse, record
from srcgcnn.run.training_config import TrainingConfig

if TYPE_CHECKING:
    from collections.abc import Collection

    from srcgcnn.models.own import OwnNetwork

SHORT_NAMES = {
    "models": "model.family",
    "depths": "model.depth",
    "norms": "model.norm",
    "alphas": "model.alpha",
    "layer_norms": "model.layer_norm",
    "blocks": "model.blocks",
    "widths": "model.hidden_channels",
    "train_sizes": "training.split.train_size",
}
SEED_NAMES = ("seeds", "split_seeds")
NOT_OF_CGCNN = frozenset({"model.norm", "model.alpha", "model.layer_norm"})
# filled in from [start], from the code itself, and from the number of targets
NOT_VARIED = frozenset({"training.start", "model.code", "model.outputs"})
MOST_VALUES = 100_000  # of one axis, and trials of one sweep: planning stays a matter of seconds
LARGEST = {"model.depth": 1_000, "model.hidden_channels": MOST_OF_ANY, "model.head_channels": MOST_OF_ANY}
LARGEST_SEED = 2**63 - 1

CountedBy = Literal["conv_params", "total_params"]


@record
class Axis:
    """One field of a trial's record and the values that it takes.

    Attributes:
        name: dotted, such as `training.learning_rate`.
        values: each once.
    """

    name: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Refuse unknown names and the names of fields that have a short one; give lists of JSON their true form."""
        if self.name not in dotted_names():
            raise ValueError(unknown_axis(self.name))
        if self.name in SHORT_NAMES.values():
            short = next(short for short, name in SHORT_NAMES.items() if name == self.name)
            raise ValueError(f"axis {self.name!r} is called {short!r} here")
        real = float in _alternatives(dotted_names()[self.name])
        object.__setattr__(self, "values", tuple(_as_value(value, real=real) for value in self.values))


@record
class Match:
    """Widths that are chosen for equal parameter counts.

    Attributes:
        by: `conv_params` or `total_params`.
        of: label of the variant whose count is to be met, such as `SR-CGCNN T=3 step-norm`.
    """

    by: CountedBy
    of: str


@record
class Axes:
    """What is varied: all combinations.

    Attributes:
        models: `srcgcnn` applies one convolution T times, `cgcnn` stacks L of them; others stack the blocks of
            docs/models.md, or are its deeper variants.
        depths: number of steps: T if they share weights, L if they do not.
        norms: not for cgcnn. What the norms of different steps share. `step`: nothing; `affine`: weights, but not
            running averages; `shared`: running averages, too.
        alphas: not for cgcnn. Damping: `none`, a number in (0, 1], `learned` for each step, or `learned-scalar`.
        layer_norms: not for cgcnn. Whether one LayerNorm follows every step.
        blocks: distinct blocks, used in cycles over the steps: 1 is tied, `all` is stacked. By default srcgcnn has one
            and the others `all`.
        widths: width F of the atom states; by default the one of [network].
        train_sizes: how many training rows are used, such as `[100, 300, "all"]`; each set holds the smaller ones.
        seeds: initial weights and batch order; `seeds = 5` is 0 to 4.
        split_seeds: rows of training, validation and test set, the same for all variants; `split_seeds = 2` is 0 and 1.
        more: any other field, in a file by its dotted name: `"training.weight_decay" = [0, 0.01]`.
        match: for every network the width whose parameter count comes nearest to that of a named variant, such as
            `{by = "conv_params", of = "SR-CGCNN T=3 step-norm"}`.
    """

    models: tuple[str, ...] = ("srcgcnn", "cgcnn")
    depths: tuple[int, ...] = (1, 2, 3, 5, 8)
    norms: tuple[Norm, ...] = ("step",)
    alphas: tuple[Alpha, ...] = ("none",)
    layer_norms: tuple[bool, ...] = (False,)
    widths: tuple[int, ...] | None = None
    train_sizes: tuple[int | Literal["all"], ...] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    split_seeds: tuple[int, ...] = (0,)
    more: tuple[Axis, ...] = ()
    match: Match | None = None
    blocks: tuple[int | Literal["all"], ...] | None = None

    def __post_init__(self) -> None:
        """Refuse unknown models, empty axes, repeated values, negative seeds and absurd sizes."""
        for name in self.models:
            check_name(name)
        for name, values in [*self.named.items(), *((name, getattr(self, name)) for name in SEED_NAMES)]:
            if not values:
                raise ValueError(f"axis {name!r} is empty: give at least one value")
            if len(set(values)) < len(values):
                raise ValueError(f"axis {name!r} names a value twice: {list(values)[:20]}")
            largest = LARGEST.get(SHORT_NAMES.get(name, name))
            if largest and max(values) > largest:
                raise ValueError(f"axis {name!r} has the value {max(values)}: at most {largest}")
        for name in SEED_NAMES:
            seeds = getattr(self, name)
            if not 0 <= min(seeds) <= max(seeds) <= LARGEST_SEED:
                wrong = min(seeds) if min(seeds) < 0 else max(seeds)
                raise ValueError(f"axis {name!r} has the seed {wrong}: from 0 to {LARGEST_SEED}; none may be negative")
        if len({axis.name for axis in self.more}) < len(self.more):
            raise ValueError(f"an axis is listed twice: {', '.join(axis.name for axis in self.more)}")
        if self.match is not None and self.widths is not None:
            raise ValueError("'match' chooses the widths: leave out 'widths'")

    @property
    def named(self) -> dict[str, tuple[Any, ...]]:
        """All axes that are given, but for seeds: short or else dotted name -> values."""
        short = {name: getattr(self, name) for name in SHORT_NAMES}
        return {name: values for name, values in short.items() if values is not None} | {
            axis.name: axis.values for axis in self.more
        }

    @property
    def repeats(self) -> int:
        """How many trials every variant has."""
        return len(self.seeds) * len(self.split_seeds)

    @property
    def combinations(self) -> int:
        """At most so many trials; counted, not listed."""
        return prod(len(values) for values in self.named.values()) * self.repeats

    @property
    def chosen(self) -> dict[str, str]:
        """Axes of the networks that are given other values than the usual ones: name here -> dotted name."""
        short = {
            name: SHORT_NAMES[name] for name in SHORT_NAMES if getattr(self, name) not in (None, getattr(Axes, name))
        }
        return {name: dotted for name, dotted in short.items() if name != "models" and dotted.startswith("model.")} | {
            axis.name: axis.name for axis in self.more if axis.name.startswith("model.")
        }


def has(family: str, name: str, own: Collection[OwnNetwork] = ()) -> bool:
    """Whether the networks of a family have a field, by its dotted name; `own` are the networks of one's own."""
    if is_own(family) and name.startswith("model."):
        return any(name.removeprefix("model.") in network.settings for network in own if network.name == family)
    if name == "model.edge_channels":
        return block_of(settings_of(family)["family"]).reads_edge_width
    return family != "cgcnn" or name not in NOT_OF_CGCNN


@cache
def dotted_names() -> dict[str, Any]:
    """Return the dotted name and the type of every field that can be an axis."""
    return dict(_leaves(ModelConfig, "model.")) | dict(_leaves(TrainingConfig, "training."))


def _leaves(kind: type, prefix: str) -> list[tuple[str, Any]]:
    found, hints = [], get_type_hints(kind)
    for field in fields(kind):
        name, hint = prefix + field.name, hints[field.name]
        if name in NOT_VARIED:
            continue
        inner = isinstance(hint, type) and is_dataclass(hint)
        found += _leaves(hint, f"{name}.") if inner else [(name, hint)]
    return found


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) or (hint,)


def _as_value(value: Any, *, real: bool) -> Any:
    """Return tuples for lists, and real numbers if a field has them: 0 and 0.0 must not be two trials."""
    if isinstance(value, list | tuple):
        return tuple(_as_value(inner, real=False) for inner in value)
    return float(value) if real and isinstance(value, int) and not isinstance(value, bool) else value


def unknown_axis(name: str) -> str:
    """Say that there is no such axis, and which there are."""
    dotted = [known for known in dotted_names() if known not in SHORT_NAMES.values()]
    short = ", ".join(f"{short} ({dotted})" for short, dotted in SHORT_NAMES.items())
    return f"unknown key {name!r}; known axes: {short}, {', '.join(SEED_NAMES)}, match, {', '.join(dotted)}"


def read_axes(block: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a block of axes as `Axes` has it: dotted names sorted in, counts of seeds and ranges written out.

    Args:
        block: as in a file; `model.depth` may also be the table that TOML makes of a name without quotes.
        where: names the file or flag.

    Raises:
        RecordError: a name is unknown or given twice, or a count or range is too large.
    """
    found: dict[str, Any] = {}
    known = {field.name for field in fields(Axes)}
    short_of = {name: short for short, name in SHORT_NAMES.items()}
    more = list(block.get("more", ()))
    for name, value in _flat({name: value for name, value in block.items() if name not in ("more", "match")}):
        place = short_of.get(name, name)
        if place in found or place in {axis["name"] for axis in more}:
            raise RecordError(f"{where}: axes.{place} is given twice, once by its short and once by its dotted name")
        if place in SEED_NAMES:
            found[place] = _seeds(value, f"{where}: axes.{place}")
        elif place in known:
            found[place] = _listed(value, f"{where}: axes.{place}")
        elif place in dotted_names():
            hint = dotted_names()[place]
            given = [_none_of(one, hint) for one in _listed(value, where)]
            more.append({"name": place, "values": parse(_tuple_of(hint), given, f"{where}: axes.{place}")})
        else:
            raise RecordError(f"{where}: axes: {unknown_axis(place)}")
    return found | ({"more": more} if more else {}) | ({"match": block["match"]} if "match" in block else {})


def _tuple_of(hint: Any) -> Any:
    return tuple[hint, ...]


def merged_axes(block: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """Return a block, as `read_axes` returns it, with axes from flags in place of its own of the same name."""
    replaced = {axis["name"] for axis in flags.get("more", ())}
    kept = [axis for axis in block.get("more", ()) if axis["name"] not in replaced]
    more = [*kept, *flags.get("more", ())]
    other = {"match": "widths", "widths": "match"}  # one of them, and the flag is the newer word
    left = {name: value for name, value in block.items() if other.get(name) not in flags}
    return {**left, **flags} | ({"more": more} if more else {})


def _none_of(value: Any, hint: Any) -> Any:
    """Read `none` if a field may be left out; TOML has no word for it."""
    return None if value == "none" and type(None) in _alternatives(hint) else value


def _flat(block: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in block.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return found


def _seeds(value: Any, where: str) -> Any:
    """Read a count as the seeds from 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _listed(value, where)
    if value != int(value) or not 1 <= value <= MOST_VALUES:
        raise RecordError(f"{where}={value}: a count of seeds is a whole number from 1 to {MOST_VALUES}")
    return list(range(int(value)))


def _listed(value: Any, where: str) -> Any:
    """Read `1..10` and `1,2,3`."""
    if isinstance(value, str):
        return values_of([value], where)
    return [value] if isinstance(value, int | float) else value


RANGE = re.compile(r"(\d+)\.\.(\d+)")


def values_of(texts: list[str], where: str) -> list[Any]:
    """Return the values that words of a command line stand for: numbers, truths, names, `1,2,3` and `1..10`.

    Raises:
        RecordError: a range is too long, or runs backwards.
    """
    values: list[Any] = []
    for word in (word for text in texts for word in text.split(",") if word):
        if not (bounds := RANGE.fullmatch(word)):
            values.append(_value(word))
            continue
        first, last = int(bounds[1]), int(bounds[2])
        if not first <= last < first + MOST_VALUES:
            raise RecordError(f"{where}: {word!r} must run upwards, over at most {MOST_VALUES} values")
        values += range(first, last + 1)
    return values


def _value(word: str) -> Any:
    if word in ("true", "false"):
        return word == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def with_values(record: Any, values: dict[str, Any]) -> Any:
    """Return a record with some of its fields replaced, inner ones by dotted names."""
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        field, _, rest = name.partition(".")
        if rest:
            inner.setdefault(field, {})[rest] = value
        else:
            own[field] = value
    return replace(record, **own, **{field: with_values(getattr(record, field), rest) for field, rest in inner.items()})
