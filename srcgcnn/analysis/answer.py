"""The answer in two sentences: what the trials show, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcgcnn.analysis.baselines import LINEAR
from srcgcnn.analysis.comparison import SIGNIFICANCE, Comparison, compare, non_inferior
from srcgcnn.analysis.power import seeds_to_decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.analysis.baselines import Baseline
    from srcgcnn.analysis.findings import Findings
    from srcgcnn.analysis.study import Study


@dataclass(frozen=True)
class Answer:
    """What the top of the page says.

    Attributes:
        shows: which variant has the lowest error, and what is reached without a network.
        advises: which variant to take, and what more seeds would decide.
        advised: that variant; None if nothing was repeated.
    """

    shows: str
    advises: str
    advised: str | None


def answer_of(study: Study, findings: Findings, baselines: Sequence[Baseline]) -> Answer:
    """Answer for a study."""
    advised = cheapest_not_worse(study, findings.comparisons)
    return Answer(_shows(study, baselines), _advises(study, findings, advised), advised)


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


def _shows(study: Study, baselines: Sequence[Baseline]) -> str:
    best = study.variants.set_index("variant").loc[study.best]
    error = "error rate" if study.task == "classification" else "error" if study.data.targets else "MAE"
    unit = "" if study.task == "classification" else f" {study.unit}"
    text = (
        f"{study.best} has the lowest validation error: test {error} {study.interval(study.best)}{unit}"
        f" with {best['conv_parameters']:,} convolution parameters"
    )
    names = {LINEAR: "a linear model on composition"}
    baseline_errors = " and ".join(
        f"{names.get(one.name, f'the {one.name}')} has {one.test.mean:.4f}" for one in baselines
    )
    return f"{text}; {baseline_errors}{unit}." if baseline_errors else f"{text}."


def _advises(study: Study, findings: Findings, advised: str | None) -> str:
    if advised is None:
        if len(study.peers) == 1:
            return "There is nothing to choose from yet: this is the only variant."
        if all(one.seeds < 2 for one in findings.comparisons):
            why = "with one seed of each nothing can be tested; three give intervals"
            return f"Train more seeds before choosing: {why}."
        return "Nothing can be chosen yet: the difference from the best one is the same in every pair of trials."
    if advised == study.best:
        return _only_best(study, findings)
    counts = study.variants.set_index("variant")["conv_parameters"]
    share = counts[advised] / counts[study.best]
    saves = f" has {share:.0%} of its convolution parameters ({counts[advised]:,}) and" if share < 1 else ""
    one = compare(study, advised, study.best)
    numbers = f"{one.difference.mean:+.4f}, 95 % interval {one.difference.low:+.4f} to {one.difference.high:+.4f}"
    return (
        f"Take {advised}: it{saves} is not shown to be worse (difference {numbers}); {_decides(study, findings, one)}."
    )


def _only_best(study: Study, findings: Findings) -> str:
    cheaper = _cheaper(study, study.best)
    untested = [one.variant for one in findings.comparisons if one.variant in cheaper and not one.difference.known]
    if untested:
        return (
            f"Take it for now: {', '.join(untested)} would be cheaper, but nothing can be tested with one seed; "
            "train more."
        )
    if cheaper:
        return "Take it: every variant with fewer convolution parameters is shown to be worse."
    return "Take it: no variant has fewer convolution parameters."


def _cheaper(study: Study, variant: str) -> set[str]:
    table = study.variants.set_index("variant")["conv_parameters"]
    return {name for name in study.peers if table[name] < table[variant]}


def _decides(study: Study, findings: Findings, comparison: Comparison) -> str:
    """Say what is shown already, or what more seeds would show."""
    margin = f"{findings.margin:g} {study.unit}"
    if non_inferior(comparison, findings.margin).holds:
        return f"it is shown to be within {margin}"
    differences = study.repeats(comparison.variant).minus(study.repeats(comparison.reference))
    needed = seeds_to_decide(differences, findings.margin)
    repeats = "splits" if len(differences.by_split) > 1 else "seeds"
    if needed is None:
        return f"more {repeats} alone are unlikely to decide whether it is within {margin}: test on more crystals"
    return f"about {needed} {repeats} of each would decide whether it is worse or within {margin}"
