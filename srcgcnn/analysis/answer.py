"""The answer in a few sentences: what the trials show and do not show, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcgcnn.analysis.baselines import LINEAR
from srcgcnn.analysis.comparison import SIGNIFICANCE, Comparison, compare, non_inferior
from srcgcnn.analysis.findings import find
from srcgcnn.analysis.power import seeds_to_decide
from srcgcnn.analysis.studies import views_of
from srcgcnn.terminal import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.analysis.baselines import Baseline
    from srcgcnn.analysis.findings import Findings
    from srcgcnn.analysis.study import Study
    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths


@dataclass(frozen=True)
class Answer:
    """What the top of the page says.

    Attributes:
        alike: that the variant of lowest validation error cannot be told apart from another; empty if it can.
        shows: which variant that is, its error, and what is reached without a network.
        advises: which variant to take, and what more seeds would decide.
        caution: that training was too short; empty if it was not.
        advised: the variant to take; None if nothing was repeated.
    """

    alike: str
    shows: str
    advises: str
    caution: str
    advised: str | None


def answer_of(study: Study, findings: Findings, baselines: Sequence[Baseline]) -> Answer:
    """Answer for a study."""
    advised = cheapest_not_worse(study, findings.comparisons)
    alike = _alike(study, findings, advised)
    return Answer(
        _not_told_apart(study, alike),
        _shows(study, baselines),
        _advises(study, findings, advised, alike),
        _caution(study),
        advised,
    )


def answer_lines(folder: Run | RunPaths, target: str | None = None, margin: float | None = None) -> list[str]:
    """Return what a terminal says of the study that was requested last; empty without trials.

    Args:
        folder: of the sweep, opened or not.
        target: of networks that predict several targets, the one that is asked for.
        margin: of non-inferiority; None takes the default.
    """
    studies = views_of(folder, target)
    if not studies:
        return []
    name = f"{studies[0].title}: " if len(studies) > 1 else ""
    answer = answer_of(studies[0], find(studies[0], margin), [])
    return [f"{name}{answer.alike or answer.shows}", f"{answer.advises} {answer.caution}".rstrip()]


def cheapest_not_worse(study: Study, comparisons: Sequence[Comparison]) -> str | None:
    """Return the variant with the fewest convolution parameters that is not shown to be worse than another.

    It is not worse than the best one after Holm's correction, nor than any other of which that is true (paired tests
    at 5 %, divided by their number). Variants with one seed are not tested, and not taken. Of equally small ones the
    one of lower validation error is.

    Args:
        study: comparable trials.
        comparisons: all variants against the best one, corrected.
    """
    passed = {one.variant for one in comparisons if one.verdict in ("not distinguishable", "better")}
    if not any(one.difference.known for one in comparisons if one.variant in study.peers):
        return None
    table = study.variants[study.variants["variant"].isin((passed & set(study.peers)) | {study.best})]
    candidates = [str(name) for name in table.sort_values(["conv_parameters", "val_error"])["variant"]]
    return next((name for name in candidates if not _is_worse(study, name, candidates)), study.best)


def _is_worse(study: Study, variant: str, others: Sequence[str]) -> bool:
    level = SIGNIFICANCE / max(1, len(others) - 1)
    found = (compare(study, variant, other) for other in others if other != variant)
    return any(one.difference.mean > 0 and one.p_value < level for one in found)


def _alike(study: Study, findings: Findings, advised: str | None) -> list[Comparison]:
    """Return the comparisons with the best variant that find no difference: first the one that the answer is about.

    That is the advised variant, or if the best one is advised, the one of next lowest validation error.
    """
    errors = study.variants.set_index("variant")["val_error"]
    found = [one for one in findings.comparisons if one.verdict == "not distinguishable" and one.variant in study.peers]
    return sorted(found, key=lambda one: (one.variant != advised, errors[one.variant]))


def _not_told_apart(study: Study, alike: Sequence[Comparison]) -> str:
    if not alike:
        return ""
    one = alike[0]
    text = (
        f"{one.reference} and {one.variant} are not distinguishable: on the test crystals the error of the second "
        f"minus that of the first is {_interval(study, one)}."
    )
    more = len(alike) - 1
    return f"{text} Nor can {counted(more, 'more variant')} be told apart from the first." if more else text


def _interval(study: Study, comparison: Comparison) -> str:
    difference = comparison.difference
    return f"{difference.mean:+.4f}{_unit(study)} (95 % interval {difference.low:+.4f} to {difference.high:+.4f})"


def _unit(study: Study) -> str:
    return "" if study.task == "classification" else f" {study.unit}"


def _shows(study: Study, baselines: Sequence[Baseline]) -> str:
    best = study.variants.set_index("variant").loc[study.best]
    error = "error rate" if study.task == "classification" else "error" if study.data.targets else "MAE"
    unit = _unit(study)
    text = (
        f"{study.best} has the lowest validation error: test {error} {study.interval(study.best)}{unit}"
        f" with {best['conv_parameters']:,} convolution parameters"
    )
    names = {LINEAR: "a linear model on composition"}
    baseline_errors = " and ".join(
        f"{names.get(one.name, f'the {one.name}')} has {one.test.mean:.4f}" for one in baselines
    )
    return f"{text}; {baseline_errors}{unit}." if baseline_errors else f"{text}."


def _advises(study: Study, findings: Findings, advised: str | None, alike: Sequence[Comparison]) -> str:
    if advised is None:
        if len(study.peers) == 1:
            rows = "" if len(study.variants) == 1 else " with these training rows"
            return f"There is nothing to choose from yet: this is the only variant{rows}."
        if all(one.seeds < 2 for one in findings.comparisons if one.variant in study.peers):
            why = "without two seeds in common nothing can be tested; three give intervals"
            return f"Train more seeds before choosing: {why}."
        return "Nothing can be chosen yet: the difference from the best one is the same in every pair of trials."
    if advised == study.best:
        return _best(study, findings, alike)
    one = next(each for each in findings.comparisons if each.variant == advised)
    if one.verdict == "better":
        return f"Take {advised}: on the test crystals it is better, difference {_interval(study, one)}."
    counts = study.variants.set_index("variant")["conv_parameters"]
    share = counts[advised] / counts[study.best]
    saves = f" has {share:.0%} of the convolution parameters ({counts[advised]:,}) and" if share < 1 else ""
    return f"If parameters count, take {advised}: it{saves} is not shown to be worse; {_decides(study, findings, one)}."


def _best(study: Study, findings: Findings, alike: Sequence[Comparison]) -> str:
    """Advise the variant of lowest validation error."""
    cheaper = _cheaper(study, study.best)
    untested = [one.variant for one in findings.comparisons if one.variant in cheaper and not one.difference.known]
    if untested:
        return (
            f"Take {study.best} for now: {', '.join(untested)} would be cheaper, but these trials do not test whether "
            "that is worse; train more seeds."
        )
    why = "no variant has fewer convolution parameters"
    if cheaper:
        than = " than it or than another" if cheaper & {one.variant for one in alike} else ""
        why = f"every variant with fewer convolution parameters is shown to be worse{than}"
    if not alike:
        return f"Take {study.best}: {why}."
    decides = _decides(study, findings, compare(study, study.best, alike[0].variant))
    return f"If parameters count, take {study.best}: {why}, and it is not shown to be worse than another; {decides}."


def _cheaper(study: Study, variant: str) -> set[str]:
    table = study.variants.set_index("variant")["conv_parameters"]
    return {name for name in study.peers if table[name] < table[variant]}


def _decides(study: Study, findings: Findings, comparison: Comparison) -> str:
    """Say what is shown already, or what more seeds would show."""
    margin = f"{findings.margin:g} {study.unit} of {comparison.reference}"
    if non_inferior(comparison, findings.margin).holds:
        return f"it is shown to be within {margin}"
    differences = study.repeats(comparison.variant).minus(study.repeats(comparison.reference))
    needed = seeds_to_decide(differences, findings.margin, family=len(findings.comparisons))
    repeats = "splits" if len(differences.by_split) > 1 else "seeds"
    if needed is None:
        return f"more {repeats} alone are unlikely to decide whether it is within {margin}: test on more crystals"
    return f"about {needed} {repeats} of each would decide whether it is worse or within {margin}"


def _caution(study: Study) -> str:
    unfinished = int((study.trials["best_epoch"] + 1 >= study.trials["epochs"]).sum())
    if not unfinished:
        return ""
    return (
        f"In {unfinished} of {len(study.trials)} trials the best epoch is the last one: longer training may lower the "
        "errors and change the order."
    )
