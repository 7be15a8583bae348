"""Tables in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def markdown_table(headings: Sequence[object], rows: Iterable[Iterable[object]]) -> str:
    """Return a table; a bar in a cell does not end it."""
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in [headings, *rows]]
    return "\n".join([lines[0], "|" + " --- |" * len(headings), *lines[1:]]) + "\n"
