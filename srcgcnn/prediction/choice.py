"""Which trials of a sweep answer: a variant (all its seeds on one split), or one trial."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from srcgcnn.analysis.tradeoff import errors_of
from srcgcnn.records import RecordError
from srcgcnn.run.results import read_results

if TYPE_CHECKING:
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import TrialResult

SHORTEST_KEY = 6


@dataclass(frozen=True)
class Choice:
    """The trials that answer together, and why these.

    Trials of different splits never do: what one holds out, the other has trained on, and neither the spread nor the
    validation errors would mean anything.
    """

    members: tuple[TrialResult, ...]
    reason: str

    @property
    def label(self) -> str:
        """Name for people."""
        first = self.members[0].config
        if len(self.members) == 1:
            return first.label
        seeds = ", ".join(str(member.config.seeds.init) for member in self.members)
        return f"{first.model.label}, seeds {seeds}"

    @property
    def validation_error(self) -> float:
        """Mean over the members: MAE in the target's unit, or 1 - accuracy."""
        return fmean(errors_of(member)[0] for member in self.members)

    def best_member(self) -> TrialResult:
        """Return the member with the lowest validation error."""
        return min(self.members, key=lambda member: errors_of(member)[0])


def choose(paths: RunPaths, wanted: str | None = None) -> Choice:
    """Choose the variant with the lowest mean validation error, or what was asked for.

    Args:
        paths: the sweep.
        wanted: label of a variant (`SR-CGCNN T=3 step-norm`) or of a trial (`... seed 1`), or a trial's key.

    Raises:
        RecordError: there are no results or none of that name, or the sweep holds several targets.
    """
    results = list(read_results(paths))
    if not results:
        raise RecordError(f"{paths.out}: no results yet; run the sweep first")
    chosen = results if wanted is None else _named(results, wanted, paths)
    _refuse_several_targets(chosen)
    variants = _variants(chosen)
    best = min(variants, key=lambda variant: variant.validation_error)
    return Choice(best.members, _reason(len(variants), wanted))


def _reason(variants: int, wanted: str | None) -> str:
    if wanted is not None:
        return "as asked" if variants == 1 else f"as asked, the best of {variants} splits and recipes"
    return "the only variant" if variants == 1 else f"lowest mean validation error of {variants} variants"


def _named(results: list[TrialResult], wanted: str, paths: RunPaths) -> list[TrialResult]:
    single = [result for result in results if _is_trial(result, wanted)]
    named = single or [result for result in results if result.config.model.label == wanted]
    if not named:
        known = ", ".join(sorted({result.config.model.label for result in results}))
        raise RecordError(f"{paths.out}: no variant {wanted!r}; known: {known}, each also with ' seed N', or a key")
    return named


def _is_trial(result: TrialResult, wanted: str) -> bool:
    return result.config.label == wanted or (len(wanted) >= SHORTEST_KEY and result.key.startswith(wanted))


def _variants(results: list[TrialResult]) -> list[Choice]:
    groups: dict[object, list[TrialResult]] = {}
    for result in results:
        config = result.config
        identity = (config.model, config.training, config.data.data_hash, config.seeds.split)
        groups.setdefault(identity, []).append(result)
    return [Choice(tuple(sorted(group, key=lambda one: one.config.seeds.init)), "") for group in groups.values()]


def _refuse_several_targets(results: list[TrialResult]) -> None:
    targets = sorted({f"{result.config.data.target} ({result.config.model.task})" for result in results})
    if len(targets) > 1:
        raise RecordError(f"these trials predict different things ({', '.join(targets)}): name one trial by its key")
