"""Two sweeps: the variants that both have, paired if seeds, splits and test crystals agree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from srcgcnn.analysis.comparison import Comparison, holm, paired
from srcgcnn.analysis.studies import differing_recipes, views_of
from srcgcnn.run.labels import settings_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from srcgcnn.analysis.intervals import Interval
    from srcgcnn.analysis.study import Study
    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import Variant

NOT_SHARED = "no common seed, split and test crystal"


@dataclass(frozen=True)
class Pair:
    """One variant that both sweeps have.

    Attributes:
        variant: its name in the first sweep.
        first: its test error there.
        second: its test error in the second sweep.
        comparison: second minus first, p values corrected for all pairs (Holm); None if nothing pairs them.
        same_trials: whether they are the same trials: equal keys.
    """

    variant: str
    first: Interval
    second: Interval
    comparison: Comparison | None
    same_trials: bool


@dataclass(frozen=True)
class TwoFolders:
    """What two sweeps have in common.

    Attributes:
        first: study of the first sweep.
        second: study of the second.
        pairs: the variants of both, in the order of the first.
        only_first: names of variants that only the first has.
        only_second: names of those that only the second has.
        differences: settings in which all trials of the second differ from those of the first, in readable form.
    """

    first: Study
    second: Study
    pairs: tuple[Pair, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    differences: tuple[str, ...]


def compare_folders(first: Run | RunPaths, second: Run | RunPaths, target: str | None = None) -> TwoFolders:
    """Compare the last requests of two sweeps; of networks for several targets `target` asks for one of them.

    Raises:
        ValueError: one has no results, they predict different things, or they have no variant in common.
    """
    mine, theirs = (_first_study(folder, target) for folder in (first, second))
    if (_target(mine), mine.unit, mine.task) != (_target(theirs), theirs.unit, theirs.task):
        raise ValueError(
            f"these sweeps predict different things: {_target(mine)} ({mine.unit}, {mine.task}) and "
            f"{_target(theirs)} ({theirs.unit}, {theirs.task})"
        )
    varied = _varied(mine) | _varied(theirs)
    own = {_identity(variant, varied): name for name, variant in mine.named.items()}
    others = {_identity(variant, varied): name for name, variant in theirs.named.items()}
    shared = [identity for identity in own if identity in others]
    if not shared:
        raise ValueError(
            f"no variant is in both; the first has {', '.join(own.values())}; the second {', '.join(others.values())}"
        )
    pairs = _corrected([_pair(mine, own[identity], theirs, others[identity]) for identity in shared])
    only_first = tuple(name for identity, name in own.items() if identity not in others)
    only_second = tuple(name for identity, name in others.items() if identity not in own)
    return TwoFolders(mine, theirs, tuple(pairs), only_first, only_second, _differences(mine, theirs, varied))


def _first_study(folder: Run | RunPaths, target: str | None) -> Study:
    studies = views_of(folder, target)
    if not studies:
        raise ValueError(f"{getattr(folder, 'out', folder)}: no trial has finished yet")
    return studies[0]


def _target(study: Study) -> str:
    return study.data.target


def _varied(study: Study) -> set[str]:
    """Return the settings of the recipe in which the variants of a study differ among themselves."""
    return set(_of_recipe(differing_recipes(study.named.values())))


def _of_recipe(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith("model.")]


def _identity(variant: Variant, varied: set[str]) -> object:
    settings = settings_of(variant)
    return variant.model, tuple(settings.get(name) for name in sorted(varied))


def _pair(mine: Study, name: str, theirs: Study, other: str) -> Pair:
    keys = [{one.key for one in study.members[label]} for study, label in ((mine, name), (theirs, other))]
    comparison = paired(f"{other} (second)", theirs.repeats(other), f"{name} (first)", mine.repeats(name))
    return Pair(
        name, mine.interval(name), theirs.interval(other), comparison if comparison.seeds else None, keys[0] == keys[1]
    )


def _corrected(pairs: list[Pair]) -> list[Pair]:
    found = iter(holm([pair.comparison for pair in pairs if pair.comparison is not None]))
    return [pair if pair.comparison is None else replace(pair, comparison=next(found)) for pair in pairs]


def _differences(mine: Study, theirs: Study, varied: set[str]) -> tuple[str, ...]:
    first, second = (settings_of(next(iter(study.named.values()))) for study in (mine, theirs))
    names = [name for name in _of_recipe({**first, **second}) if name not in varied]
    return tuple(
        f"{name} {shown(first.get(name))} and {shown(second.get(name))}"
        for name in names
        if first.get(name) != second.get(name)
    )
