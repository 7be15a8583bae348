"""Frozen dataclasses as JSON: one canonical form, one hash, one strict reader.

Everything that crosses a border of this project (configurations, results, manifests) is a frozen dataclass. This module
turns them into text and back. Reading user text validates with pydantic, which is imported only then: a bare GPU node
that trains does not need it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast, dataclass_transform, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from pydantic import TypeAdapter

Record = TypeVar("Record")

DIGEST_CHARACTERS = 16  # 64 bits: two of a million trials collide with probability 3e-8


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record(kind: type[Record]) -> type[Record]:
    """Make a frozen dataclass whose reader refuses unknown keys: the form of everything that is read from a file."""
    kind.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True)(kind)


class RecordError(ValueError):
    """A file or an argument does not describe a valid record; the message names the value and what is allowed."""


class UnknownKeyError(RecordError):
    """All is well but for keys that this version does not know."""


UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")  # types of pydantic's errors


def as_dict(record: Any) -> dict[str, Any]:
    """Return the record as plain dicts and lists, as JSON has them."""
    return json.loads(json.dumps(dataclasses.asdict(record)))


def canonical_json(value: Any) -> str:
    """Return the one JSON text that stands for this value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: Any) -> str:
    """Return a short stable hash of a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:DIGEST_CHARACTERS]


def identity_of(value: Any, first_fields: Mapping[str, Collection[str]]) -> Any:
    """Return what of a record goes into a hash that must outlive new versions.

    Fields of the first version are always in it, later ones only if they differ from their default: a new field
    with a default changes no hash. The default of a later field must therefore never change.

    Args:
        value: a record, or a tuple or other value inside of one.
        first_fields: by name of the record, the fields that it had in the first version.
    """
    if isinstance(value, tuple):
        return [identity_of(each, first_fields) for each in value]
    if not dataclasses.is_dataclass(value):
        return value
    first = first_fields.get(type(value).__name__, ())
    return {
        field.name: identity_of(content, first_fields)
        for field in dataclasses.fields(value)
        for content in [getattr(value, field.name)]
        if field.name in first or content != _default_of(field)
    }


def _default_of(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def parse(kind: type[Record], data: Any, where: str) -> Record:
    """Build a record from JSON-like data.

    Raises:
        RecordError: an unknown key (the known ones are listed), a wrong type or a value out of range; `where` names
            the file or flag it came from.
    """
    from pydantic import ValidationError

    try:
        return cast("Record", _adapter(kind).validate_python(data))  # type: ignore[arg-type]
    except ValidationError as error:
        only_unknown = all(fault["type"] in UNKNOWN_KEY for fault in error.errors())
        raise (UnknownKeyError if only_unknown else RecordError)(describe(error, kind, where)) from None


def read_record_file(kind: type[Record], path: Path) -> Record:
    """Read one record from its JSON file.

    Raises:
        FileNotFoundError: there is none.
        RecordError: the file, named, cannot be read, is not JSON in UTF-8, or holds something else.
    """
    return parse(kind, read_json(path), str(path))


def read_json(path: Path) -> Any:
    """Read a JSON file: the one way in which this project reads its own.

    Raises:
        FileNotFoundError: there is none.
        RecordError: the file, named, cannot be read, or is not JSON in UTF-8.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or not JSON
        raise RecordError(f"{path}: not readable ({error})") from None


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a TOML file that a person has written.

    Args:
        path: the file.
        what: what it should be, for the error.

    Raises:
        RecordError: it is missing (others of its folder are listed), cannot be read, or is not TOML.
    """
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(file.name for file in path.parent.glob("*.toml"))) or "none"
        raise RecordError(f"no {what} {path}; there: {known}") from None
    except tomllib.TOMLDecodeError as error:
        raise RecordError(f"{path}: not valid TOML: {error}") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        raise RecordError(f"{path}: not readable ({error})") from None


def read_if_whole(kind: type[Record], path: Path) -> Record | None:
    """Read one record; None if there is none, or it is damaged, which is reported once per damage.

    For files that their writer rewrites: readers continue without them.
    """
    try:
        record = read_record_file(kind, path)
    except FileNotFoundError:
        return None
    except RecordError as error:
        if _REPORTED.get(str(path)) != str(error):
            _REPORTED[str(path)] = str(error)
            print(f"damaged, and left out: {error}", file=sys.stderr, flush=True)
        return None
    _REPORTED.pop(str(path), None)
    return record


_REPORTED: dict[str, str] = {}  # path -> what was last reported about it


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    """Return the validator of a type; making one takes milliseconds, and a sweep reads thousands of results."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a string",
    "tuple": "a list",
    "dataclass": "a table",
}


def describe(error: Any, kind: type, where: str) -> str:
    """Turn a pydantic error into one phrase per place: what is allowed, and what was found."""
    phrases: list[str] = []
    allowed: dict[str, list[str]] = {}  # the alternatives of a union are faults at one place
    found: dict[str, str] = {}
    for fault in error.errors():
        place, inner = _follow(kind, fault["loc"])
        if fault["type"] in UNKNOWN_KEY:
            name = ".".join(str(part) for part in fault["loc"])
            phrases.append(f"unknown key {name!r}; known keys: {', '.join(_fields(inner))}")
        elif fault["type"] in ("missing", "missing_argument"):
            phrases.append(f"{place} is missing")
        elif fault["type"] == "value_error":
            phrases.append(f"{place}: {fault['ctx']['error']}")  # our own check, which names the value
        else:
            allowed.setdefault(place, []).append(_allowed(fault))
            found[place] = f"{fault['input']!r:.60}"
    phrases += [f"{place}: must be {' or '.join(ways)} (got {found[place]})" for place, ways in allowed.items()]
    return f"{where}: " + "; ".join(phrases)


def _allowed(fault: Any) -> str:
    """Say what is allowed in the words of a file, not of pydantic."""
    if fault["type"] == "literal_error":
        return str(fault["ctx"]["expected"])
    return EXPECTED.get(fault["type"].split("_")[0], fault["msg"].removeprefix("Input should be "))


def _follow(kind: Any, path: tuple[Any, ...]) -> tuple[str, Any]:
    """Return the place that a pydantic location names, without branches of unions, and the type at that place."""
    place = []
    for part in path:
        if dataclasses.is_dataclass(kind):
            hints = get_type_hints(kind)
            if part not in hints:
                break  # an unknown key
            kind = _of_optional(hints[part])
        elif isinstance(part, int) or get_origin(kind) is dict:
            inner = get_args(kind) or (Any,)
            kind = _of_optional(inner[-1] if get_origin(kind) is dict else inner[0])
        else:
            continue  # the name of a branch
        place.append(str(part))
    return ".".join(place) or getattr(kind, "__name__", str(kind)), kind


def _of_optional(kind: Any) -> Any:
    records = [branch for branch in get_args(kind) if dataclasses.is_dataclass(branch)]
    return records[0] if type(None) in get_args(kind) and records else kind


def _fields(kind: Any) -> list[str]:
    return sorted(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else []
