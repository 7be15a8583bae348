"""What all commands print: console, time spans, errors in one line, and output that no full disk stops.

Text from files is a stranger's: escape sequences could rewrite what stands on the screen, or talk to the terminal.
"""

from __future__ import annotations

import io
import re
import sys
from contextlib import contextmanager, redirect_stdout, suppress
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console

from srcgcnn.files import open_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # harmless, and common in logs
# controls but tab and line feed, the second set of them (0x80-0x9f), and marks that turn the direction of writing
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
LOG_WIDTH = 160  # a file or pipe has no width; tables must not be folded to 80 there


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that colours on a terminal and stays plain and wide in a file."""
    console = _Console(stderr=stderr, highlight=False, markup=False)  # units are in brackets
    if console.is_terminal:
        return console
    return _Console(stderr=stderr, highlight=False, markup=False, width=LOG_WIDTH)


def printable(text: str) -> str:
    """Return text without colours, with other control characters as their escapes; tabs and line feeds stay."""
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), COLOURS.sub("", text))


class _Console(Console):
    """A console that shows control characters instead of sending them."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def _bare_file(self) -> IO[str]:
        # a live display puts a stream of its own on top of ours; Console.file looks through one only
        stream = cast("IO[str]", Console.file.fget(self))  # type: ignore[attr-defined]
        while (inner := getattr(stream, "rich_proxied_file", None)) is not None:
            stream = inner
        return stream

    file = property(_bare_file, Console.file.fset)  # type: ignore[attr-defined]


class _PrintableStream:
    """A stream for `print` that shows control characters; rich's consoles, which send their own, pass it by."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream  # the name that rich looks for

    def write(self, text: str) -> int:
        self.rich_proxied_file.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def printable_output() -> Iterator[None]:
    """Let everything that is printed inside the block show its control characters."""
    with redirect_stdout(_PrintableStream(sys.stdout)):
        yield


def outlive_full_disk() -> None:
    """Let this process lose what it prints and continue while there is no space where its output goes."""
    sys.stdout, sys.stderr = _lossy(sys.stdout), _lossy(sys.stderr)


def _lossy(stream: Any) -> Any:
    if isinstance(stream, _PrintableStream):
        return _PrintableStream(_lossy(stream.rich_proxied_file))
    with suppress(OSError):  # in memory
        if isinstance(stream, io.TextIOWrapper):  # a notebook has streams of its own
            return open_log(stream.fileno(), stream.encoding)
    return stream


def error_line(error: Exception) -> str:
    """Return what a person needs of an error: of those of the operating system the file and the reason, no number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return printable(f"{error.filename}: {error.strerror}")
    return printable(str(error))


def counted(count: int, noun: str) -> str:
    """Write a number of things: `1 trial`, `2 trials`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """Write a time span in readable form."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
