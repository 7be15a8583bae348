"""What readers of files share: which column is the id, which are targets, the hash of a file, damaged files."""

from __future__ import annotations

import hashlib
import math
import re
from contextlib import contextmanager
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from srcgcnn.data.source import Source, SourceError, SourceRow, unit_of, without_unit
from srcgcnn.data.tensor_file import is_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

ID_KEYS = ("id", "material_id", "mp_id", "task_id", "name")  # the first one present is taken
MISSING = ("", "nan", "na", "n/a", "none", "null")  # text of a missing value
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
WORDS = {"true": 1.0, "false": 0.0}
LOOK_AHEAD_ROWS = 100  # read to find which values are numbers, if there is no header and some are missing


def find_key(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """Return the column that has the first of these names, in upper or lower case; None if no column has one."""
    by_lower_case = {column.lower(): column for column in reversed(list(columns))}
    return next((by_lower_case[name] for name in names if name in by_lower_case), None)


def row_identity(value: Any, number: int) -> str:
    """Return a row's id as text; a row without one is named by its number, counted from 0."""
    missing = value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()
    if missing:
        return f"row-{number}"
    return str(value).replace("\n", " ").strip().encode(errors="replace").decode()


def error_row(row_id: str, reason: str, targets: Mapping[str, Any] | None = None) -> SourceRow:
    """Return a row that the build rejects for this reason."""
    return SourceRow(row_id, "error", reason, targets or {})


def is_number(value: Any) -> bool:
    """Whether a JSON value can be a target."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def numeric_keys(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values are all numbers or missing, with at least one number, in order of appearance."""
    numbers: dict[str, bool] = {}
    for record in records:
        for key, value in record.items():
            if value is not None:
                numbers[key] = numbers.get(key, True) and is_number(value)
    return [key for key, all_numbers in numbers.items() if all_numbers]


def choose_targets(
    where: str, requested: Sequence[str] | None, available: Sequence[str], numeric: Sequence[str]
) -> tuple[str, ...]:
    """Return the targets to read: the requested ones, or the only numeric column; none if `requested` is None.

    Raises:
        SourceError: a requested column does not exist, or none is requested and the choice is ambiguous.
    """
    if requested is None:
        return ()
    requested = [_full_name(name, available) for name in requested]
    for name in requested:
        if name not in available:
            listing = ", ".join(_closest_first(name, numeric)) or "none"
            raise SourceError(f"{where}: no target {name!r}; columns that can be one: {listing}")
    if requested:
        return tuple(dict.fromkeys(requested))
    if len(numeric) != 1:
        found = f"{len(numeric)} numeric columns; name the target, one of: {', '.join(numeric)}"
        raise SourceError(f"{where}: {found if numeric else 'no numeric column that could be a target'}")
    return (numeric[0],)


def refuse_words(where: str, column: str, values: Iterable[Any]) -> None:
    """Refuse a target that has no number at all; single words among numbers are bad rows, which the build lists.

    Raises:
        SourceError: naming the first value with its row, counted from 1.
    """
    filled = ((row, value) for row, value in enumerate(values, 1) if not is_missing(value))
    first = next(filled, None)
    if first is None or _reads_as_number(first[1]) or any(_reads_as_number(value) for _, value in filled):
        return
    row, value = first
    hint = "; write decimals with a point" if DECIMAL_COMMA.fullmatch(str(value).strip()) else ""
    raise SourceError(
        f"{where}: target {column!r} is not numeric: {str(value)[:60]!r} in row {row}, no number found{hint}"
    )


def is_missing(value: Any) -> bool:
    """Whether a cell marks a missing value."""
    return value is None or (isinstance(value, str) and value.strip().lower() in MISSING)


def number_of(value: Any) -> float:
    """Return a target as a number; true and false, in any case, are 1 and 0.

    Raises:
        ValueError: it is not a number.
    """
    if isinstance(value, str) and value.strip().lower() in WORDS:
        return WORDS[value.strip().lower()]
    try:
        number = float(value)
    except (TypeError, OverflowError):
        raise ValueError(f"{value!r:.60} is not a number") from None
    if isinstance(value, str) and "_" in value:  # Python's own way to write numbers, and nobody else's
        raise ValueError(f"{value!r:.60} is not a number")
    return number


def _reads_as_number(value: Any) -> bool:
    try:
        number_of(value)
    except ValueError:
        return False
    return True


def all_numbers(values: Iterable[Any]) -> bool:
    """Whether all values that are not missing are numbers, and there is at least one."""
    filled = [value for value in values if not is_missing(value)]
    return bool(filled) and all(_reads_as_number(value) for value in filled)


def _full_name(name: str, available: Sequence[str]) -> str:
    """Return the column with this name, or with this name and a unit: `gap` finds `gap [eV]`."""
    with_unit = [column for column in available if without_unit(column) == name]
    return with_unit[0] if name not in available and len(with_unit) == 1 else name


def _closest_first(name: str, available: Sequence[str]) -> list[str]:
    def likeness(other: str) -> float:
        return SequenceMatcher(None, name.lower(), other.lower()).ratio()

    return sorted(available, key=likeness, reverse=True)


def hash_files(kind: str, paths: Iterable[Path]) -> str:
    """Return the sha256 of the bytes of some files, one after the other; a missing file counts as such."""
    total = hashlib.sha256(kind.encode())
    for path in paths:
        total.update(_file_digest(path) if is_regular(path) else b"missing")
    return total.hexdigest()


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def file_source(
    kind: str,
    path: Path,
    targets: tuple[str, ...],
    *,
    count: int | None,
    rows: Callable[[], Iterator[SourceRow]],
    content_hash: str | None = None,
) -> Source:
    """Return the source that a file (or folder) is, with what every kind has in common."""
    return Source(
        name=path.name.split(".")[0] or path.name,
        content_hash=content_hash or hash_files(kind, [path]),
        targets=targets,
        units=tuple(unit_of(target) for target in targets),
        provenance=f"{kind} {path.name}; it does not state origin and licence",
        count=count,
        rows=rows,
    )


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a reader raises into a message that names the file."""
    try:
        yield
    except SourceError:
        raise
    except Exception as error:  # gzip, pandas, pyarrow and ASE raise their own kinds
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise SourceError(f"{path} cannot be read as {kind} ({reason}); check that the file is complete") from error
