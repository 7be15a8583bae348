"""What all commands print to the terminal: console, time spans, and errors in one line."""

from __future__ import annotations

from rich.console import Console

LOG_WIDTH = 160  # a file or pipe has no width; tables must not be folded to 80 there


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that colours on a terminal and stays plain and wide in a file."""
    console = Console(stderr=stderr, highlight=False, markup=False)  # units stand in brackets
    if console.is_terminal:
        return console
    return Console(stderr=stderr, highlight=False, markup=False, width=LOG_WIDTH)


def error_line(error: Exception) -> str:
    """Return what a person needs of an error: of those of the operating system the file and the reason, no number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def duration(seconds: float) -> str:
    """Write a time span for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
