"""A source with a second target, for networks that predict both."""

from collections.abc import Callable
from dataclasses import replace

from srcgcnn.data.source import Source

VOLUME = "volume"


def with_volumes(source: Source, gap: Callable[[int], str | None] = lambda _: None) -> Source:
    """Give the crystals of a source a second target, their volume per atom.

    `gap` says which target the row of a number lacks; None for neither.
    """

    def rows():
        for number, row in enumerate(source.rows()):
            targets = {**row.targets, VOLUME: row.content.volume / len(row.content)}
            yield replace(row, targets={**targets, gap(number): None})

    names, units = (source.targets[0], VOLUME), (source.units[0], "angstrom3")
    return replace(source, content_hash=f"{source.content_hash}-volumes", targets=names, units=units, rows=rows)
