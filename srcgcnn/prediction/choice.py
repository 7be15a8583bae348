"""Which trials of a sweep make predictions: a variant (all its seeds on one split), or one trial."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from srcgcnn.records import RecordError
from srcgcnn.run.folder import open_run
from srcgcnn.run.keys import SHORTEST_KEY
from srcgcnn.run.labels import labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import Variant
    from srcgcnn.run.trial_result import TrialResult


@dataclass(frozen=True)
class Choice:
    """The trials that predict together, and why these.

    Trials of different splits never do: what one holds out, the other has trained on, and neither the spread nor the
    validation errors would mean anything.
    """

    members: tuple[TrialResult, ...]
    variant: str
    reason: str

    @property
    def label(self) -> str:
        """Human-readable name."""
        if len(self.members) == 1:
            return f"{self.variant}{self.members[0].config.repeat}"
        seeds = ", ".join(str(member.config.seeds.init) for member in self.members)
        return f"{self.variant}, seeds {seeds}"

    @property
    def validation_error(self) -> float:
        """Mean over the members: MAE in the target's unit, or 1 - accuracy."""
        return fmean(member.val_error for member in self.members)

    def best_member(self) -> TrialResult:
        """Return the member with the lowest validation error."""
        return min(self.members, key=lambda member: member.val_error)


def choose(folder: Run | RunPaths, name: str | None = None) -> Choice:
    """Choose the variant with the lowest mean validation error, or the requested trials; of several splits, the first.

    Args:
        folder: the sweep.
        name: a variant as `srcgcnn results` names it (`SR-CGCNN T=3 step-norm`), also without what only distinguishes
            recipes; or a trial (`... seed 1`), or a trial's key.

    Raises:
        RecordError: there are no results or none of that name, or the sweep holds several targets.
    """
    run = open_run(folder)
    if not run.results:
        raise RecordError(f"{run.paths.out}: no results yet; run the sweep first")
    labels = labels_of(result.config.variant for result in run.results)
    chosen = run.results if name is None else _named(run, name, labels)
    _refuse_several_targets(chosen)
    by_variant: dict[Variant, list[TrialResult]] = {}
    for result in chosen:
        by_variant.setdefault(result.config.variant, []).append(result)
    variant, trials = min(by_variant.items(), key=lambda item: fmean(trial.val_error for trial in item[1]))
    splits = sorted({trial.config.seeds.split for trial in trials})  # the easiest one would say nothing of the variant
    members = [trial for trial in trials if trial.config.seeds.split == splits[0]]
    reason = _reason(len(by_variant), len(splits), name)
    return Choice(tuple(sorted(members, key=lambda one: one.config.seeds.init)), labels[variant], reason)


def _reason(variants: int, splits: int, name: str | None) -> str:
    if name is not None:
        reason = "as requested" if variants == 1 else f"as requested, the best of {variants} recipes"
    else:
        reason = "the only variant" if variants == 1 else f"lowest mean validation error of {variants} variants"
    return reason if splits == 1 else f"{reason}; the first of {splits} splits"


def _named(run: Run, name: str, labels: dict[Variant, str]) -> Sequence[TrialResult]:
    trials = [result for result in run.results if _is_trial(result, name, labels)]
    variants = [result for result in run.results if labels[result.config.variant] == name]
    networks = [result for result in run.results if result.config.model.label == name]
    words = set(name.split())  # a study leaves out what does not differ in it
    alike = [result for result in run.results if words <= set(labels[result.config.variant].split())]
    if named := trials or variants or networks or alike:
        return named
    known = ", ".join(sorted(set(labels.values())))
    raise RecordError(f"{run.paths.out}: no variant {name!r}; known: {known}, each also with ' seed N', or a key")


def _is_trial(result: TrialResult, name: str, labels: dict[Variant, str]) -> bool:
    names = (result.config.label, f"{labels[result.config.variant]}{result.config.repeat}")
    return name in names or (len(name) >= SHORTEST_KEY and result.key.startswith(name))


def _refuse_several_targets(results: Sequence[TrialResult]) -> None:
    targets = sorted({f"{result.config.data.target} ({result.config.model.task})" for result in results})
    if len(targets) > 1:
        raise RecordError(f"these trials predict different things ({', '.join(targets)}): name one trial by its key")
