"""Text files from strangers, piece by piece: never a pipe, never more than a limit in memory or unpacked."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import stat
from typing import IO, TYPE_CHECKING

from srcgcnn.data.source import RowError, SourceError
from srcgcnn.data.tensor_file import is_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from srcgcnn.data.limits import SourceLimits

PIECE_CHARACTERS = 1 << 20


class _Unpacked(io.RawIOBase):
    """A gzip file that refuses to become larger than a limit."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path, self._stream, self._left = path, gzip.open(path, "rb"), most_bytes  # noqa: SIM115 - closed below

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise SourceError(f"{self._path} becomes larger than the limit when it is unpacked; see --max-unpacked-gib")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def open_text(path: Path, limits: SourceLimits, *, newline: str | None = None) -> IO[str]:
    """Open a text file, compressed or not, UTF-16 or UTF-8; bytes that are neither become replacement characters.

    Raises:
        SourceError: it is a pipe, a device or missing; while reading, if it unpacks to more than the limit.
    """
    if not is_regular(path):
        raise SourceError(f"{path} is not a regular file")
    raw = _Unpacked(path, limits.unpacked_bytes) if path.suffix.lower() == ".gz" else path.open("rb", buffering=0)
    buffered = io.BufferedReader(raw, PIECE_CHARACTERS)
    encoding = "utf-16" if buffered.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    return io.TextIOWrapper(buffered, encoding=encoding, errors="replace", newline=newline)


def read_small(path: Path, limits: SourceLimits) -> str:
    """Return the text of a file that holds one crystal.

    Raises:
        RowError: not a regular file, too large, or not readable.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise RowError(f"{path.name} cannot be read: it is not a regular file")
        if found.st_size > limits.text_characters:
            raise RowError(f"{path.name} has {found.st_size / 2**20:.1f} MiB; the limit is {limits.text_mib:g} MiB")
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise RowError(f"{path.name} cannot be read: {error.strerror}") from error


def lines_of(stream: IO[str], limits: SourceLimits) -> Iterator[str | None]:
    """Yield the lines of a text, None for one beyond the limit."""
    while line := stream.readline(limits.text_characters):
        if len(line) < limits.text_characters or line.endswith("\n"):
            yield line
            continue
        while (rest := stream.readline(PIECE_CHARACTERS)) and not rest.endswith("\n"):
            pass
        yield None


def csv_records(stream: IO[str], delimiter: str, limits: SourceLimits) -> Iterator[list[str] | None]:
    """Yield the cells of every record of a csv text that was opened with newline=""; None for one beyond the limit.

    A quoted cell may hold line breaks, delimiters and doubled quotes. Empty lines are left out.

    Raises:
        ValueError: the text ends inside a quoted cell.
    """
    csv.field_size_limit(max(csv.field_size_limit(), limits.text_characters))
    scanner = _Quotes(delimiter)
    parts: list[str] = []
    size, line, first = 0, 1, 1
    while piece := stream.readline(PIECE_CHARACTERS):
        size, line = size + len(piece), line + piece.endswith("\n")
        if size <= limits.text_characters:
            parts.append(piece)
        if not scanner.ends_record(piece):
            continue
        if size > limits.text_characters:
            yield None
        elif text := "".join(parts).strip("\r\n"):
            yield next(csv.reader([text], delimiter=delimiter))
        parts, size, first = [], 0, line
    if scanner.quoted:
        raise ValueError(f"it ends inside a quoted cell of the record that begins in line {first}")
    if size:  # the file ends without a line break
        yield None if size > limits.text_characters else next(csv.reader(["".join(parts)], delimiter=delimiter))


class _Quotes:
    """Whether a position lies inside a quoted cell, for text that comes in pieces."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self.quoted = False
        self._opens = True  # a quote here would open a cell: the start of one, or right after a closing quote

    def ends_record(self, piece: str) -> bool:
        """Whether a record ends with this piece of a line."""
        position = 0
        while (found := piece.find('"', position)) >= 0:
            if self.quoted:
                self.quoted, self._opens = False, True  # or the first of two, and the next one opens it again
            else:
                before = piece[found - 1] if found > position else None
                self.quoted = self._opens if before is None else before in (self._delimiter, "\r", "\n")
                self._opens = False
            position = found + 1
        if position < len(piece) and not self.quoted:
            self._opens = piece[-1] in (self._delimiter, "\r", "\n")
        return not self.quoted and piece[-1] in "\r\n"
