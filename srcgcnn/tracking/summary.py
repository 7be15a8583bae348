"""What the page of a sweep says first: the result in words, and the numbers of the best variant of each family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcgcnn.analysis.tradeoff import tradeoff

if TYPE_CHECKING:
    from collections.abc import Iterable

    from srcgcnn.analysis.tradeoff import TradeoffRow
    from srcgcnn.run.trial import TrialResult


@dataclass(frozen=True)
class Summary:
    """The result of a sweep so far.

    Attributes:
        words: a few sentences.
        metrics: per family the validation and test error of its best variant, means over seeds.
    """

    words: str
    metrics: dict[str, float]


def summarise(results: Iterable[TrialResult]) -> Summary:
    """Describe results: of each family the variant with the lowest mean validation error; its test error is told."""
    results = list(results)
    best: dict[str, TradeoffRow] = {}
    rows = tradeoff(results)
    for row in rows:
        if row.model not in best or row.val.mean < best[row.model].val.mean:
            best[row.model] = row
    metrics: dict[str, float] = {}
    for model, row in best.items():
        name = model.lower().replace(" + ", "-")
        metrics |= {f"best_val_of_{name}": row.val.mean, f"test_of_best_{name}": row.test.mean}
    if not rows:
        return Summary("No trial has finished yet.", metrics)
    lines = [f"{len(results)} trials of {len(rows)} variants have finished."]
    lines += [_sentence(row) for row in sorted(best.values(), key=lambda row: row.val.mean)]
    closing = "Best means by validation error; ± is half of the 95 % interval over seeds."
    return Summary("\n".join([*lines, "", closing]), metrics)


def _sentence(row: TradeoffRow) -> str:
    depth = f"T = {row.depth}" if row.model.startswith("SR") else f"{row.depth} layers"
    damping = "" if row.alpha in ("none", "-") else f", alpha {row.alpha}"
    norm = "" if row.norm == "-" else f", norm per {row.norm}" if row.norm == "step" else ", shared norm"
    what = f"{row.model} with {depth}{norm}{damping}"
    return (
        f"- Best {what}: validation {row.val}, test {row.test} {row.unit}, "
        f"{row.conv_parameters:,} convolution parameters, {row.seeds} seeds."
    )
