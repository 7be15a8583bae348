"""The top of a sweep's page: the result in words, and the numbers of the best variant of each family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcgcnn.analysis.studies import studies_of
from srcgcnn.analysis.tradeoff import caption_of, rows_of
from srcgcnn.terminal import counted

if TYPE_CHECKING:
    from srcgcnn.analysis.tradeoff import TradeoffRow
    from srcgcnn.run.folder import Run


@dataclass(frozen=True)
class Summary:
    """The result of a sweep so far.

    Attributes:
        words: a few sentences.
        metrics: per family the validation and test error of its best variant, means over seeds.
    """

    words: str
    metrics: dict[str, float]


def summarise(run: Run) -> Summary:
    """Describe a sweep: of each kind of network the variant with the lowest mean validation error, and its test error.

    Where the sweep holds several studies, it is the one that was requested last.
    """
    studies = studies_of(run)
    if not studies:
        return Summary("No trial has finished yet.", {})
    rows = rows_of(studies[0])
    best: dict[str, TradeoffRow] = {}
    for row in rows:
        if row.model not in best or row.val.mean < best[row.model].val.mean:
            best[row.model] = row
    metrics: dict[str, float] = {}
    for model, row in best.items():
        name = model.lower().replace(" + ", "-")
        metrics |= {f"best_val_of_{name}": row.val.mean, f"test_of_best_{name}": row.test.mean}
    trials = len(studies[0].results)
    lines = [f"{counted(trials, 'trial')} of {counted(len(rows), 'variant')} have finished."]
    lines += [f"Another {len(study.results)} are of another study: {study.title}." for study in studies[1:]]
    lines += [_sentence(row) for row in sorted(best.values(), key=lambda row: row.val.mean)]
    caption = caption_of(row.test for row in best.values())
    return Summary("\n".join([*lines, "", f"Best by validation error; {caption}."]), metrics)


def _sentence(row: TradeoffRow) -> str:
    return (
        f"- Best {row.model}: {row.variant}, validation {row.val}, test {row.test} {row.unit}, "
        f"{row.conv_parameters:,} convolution parameters, {counted(row.seeds, 'seed')}."
    )
