"""The answer in words: every sentence comes from a test, and names it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from srcgcnn.analysis import power
from srcgcnn.analysis.comparison import (
    Comparison,
    NonInferiority,
    against,
    check_margin,
    compare,
    non_inferior,
)
from srcgcnn.analysis.paper import paper_test_mae
from srcgcnn.analysis.saturation import Saturation, saturation_of
from srcgcnn.analysis.tradeoff import as_records, rows_of
from srcgcnn.models.registry import TIED

if TYPE_CHECKING:
    from srcgcnn.analysis.study import Study

MARGIN_EV_PER_ATOM = 0.005  # about the difference that the paper argues about (0.0041 eV/atom)
RELATIVE_MARGIN = 0.05


@dataclass(frozen=True)
class Findings:
    """The findings of a study.

    Attributes:
        margin: of non-inferiority, in the unit of the errors.
        comparisons: every variant against the one of lowest validation error, Holm-corrected.
        claims: each network with tied weights against the stacked one of the same block and depth.
        saturations: one per line with two depths.
        power: what the seeds resolve; None if no variant has two.
    """

    margin: float
    comparisons: list[Comparison]
    claims: list[NonInferiority]
    saturations: list[Saturation]
    power: str | None

    def sentences(self, study: Study) -> list[str]:
        """Return the findings as sentences."""
        best = study.variants.set_index("variant").loc[study.best]
        test = study.interval(study.best)
        spread = f" (95 % interval {test.low:.4f} to {test.high:.4f}, over {test.repeats})" if test.known else ""
        lowest = (
            f"Lowest validation error: {study.best}, with a test error of {test.mean:.4f} {study.unit}{spread} and "
            f"{best['conv_parameters']:,} convolution parameters."
        )
        sentences = [lowest]
        same = [one.variant for one in self.comparisons if one.verdict == "not distinguishable"]
        worse = [one.variant for one in self.comparisons if one.verdict == "worse"]
        if same:
            sentences.append(f"Not distinguishable from it (paired, Holm-corrected, 5 %): {', '.join(same)}.")
        better = [one.variant for one in self.comparisons if one.verdict == "better"]
        if better:  # the choice stays with the validation set, but it is not the only result
            sentences.append(f"Significantly better than it on the test set: {', '.join(better)}.")
        if worse:
            sentences.append(f"Significantly worse: {', '.join(worse)}.")
        if any(not one.difference.known for one in self.comparisons):
            untested = "Variants with one seed, or the same difference in all pairs of trials"
            sentences.append(f"{untested}, are listed, not tested: a ranking needs repeats that differ.")
        sentences += [claim.sentence(study.unit) for claim in self.claims]
        sentences += [one.sentence(study.unit) for one in self.saturations]
        sentences += sorted({caution for one in study.results for caution in one.config.cautions})
        return sentences + ([self.power[0].upper() + self.power[1:] + "."] if self.power else [])


def find(study: Study, margin: float | None = None) -> Findings:
    """Run all tests that the study allows."""
    margin = default_margin(study) if margin is None else margin
    check_margin(margin)
    recurrent = [name for name, variant in study.named.items() if variant.model.depth_letter == "T"]
    layered = {name: _layers_of(study, name) for name in recurrent}
    pairs = [(name, layers) for name, layers in layered.items() if layers not in (None, name)]
    found = [saturation_of(study, line, margin) for line in study.lines]
    return Findings(
        margin,
        against(study, study.best),
        [non_inferior(compare(study, *pair), margin) for pair in pairs],
        [one for one in found if one],
        power.power_line(study.results, int(study.variants["seeds"].min())),
    )


def _layers_of(study: Study, variant: str) -> str | None:
    """Return the variant with as many plain layers of the same block, each with weights of its own."""
    family = study.named[variant].model.family
    plain = {"blocks": None, "norm": "step", "alpha": "none", "layer_norm": False}
    return study.like(variant, family=TIED.get(family, family), **plain)


def default_margin(study: Study) -> float:
    """Return 0.005 eV/atom, or for other units 5 % of the best variant's error."""
    if study.unit == "eV/atom":
        return MARGIN_EV_PER_ATOM
    best = study.variants.set_index("variant").loc[study.best, "test_error"]
    return max(float(f"{RELATIVE_MARGIN * best:.2g}"), 1e-6)


def tradeoff_table(study: Study, findings: Findings) -> pd.DataFrame:
    """The trade-off table of a study as a frame, with the paper's numbers and the verdicts against the best."""
    verdicts = {one.variant: one for one in findings.comparisons}
    table = pd.DataFrame(as_records(rows_of(study))).drop(columns=["study"])
    compared = [verdicts.get(name) for name in table["variant"]]
    data = study.results[0].config.data
    return table.assign(
        against_best=["best on validation" if one is None else one.verdict for one in compared],
        p_corrected=[float("nan") if one is None else one.p_corrected for one in compared],
        paper_test_mae=[paper_test_mae(name, data) for name in table["variant"]],
    )
