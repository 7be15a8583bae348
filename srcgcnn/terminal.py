"""The console that all commands print to."""

from __future__ import annotations

from rich.console import Console

LOG_WIDTH = 160  # a file or pipe has no width; tables must not be folded to 80 there


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that colours on a terminal and stays plain and wide in a file."""
    console = Console(stderr=stderr, highlight=False, markup=False)  # units stand in brackets
    if console.is_terminal:
        return console
    return Console(stderr=stderr, highlight=False, markup=False, width=LOG_WIDTH)
