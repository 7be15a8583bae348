"""Frozen dataclasses as JSON: one canonical form, one hash, one strict reader.

Everything that crosses a border of this project (configurations, results, manifests) is a frozen dataclass. This module
turns them into text and back. Reading user text validates with pydantic, which is imported only then: a bare GPU node
that trains does not need it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_type_hints

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Record = TypeVar("Record")

DIGEST_CHARACTERS = 16  # 64 bits: two of a million trials collide with probability 3e-8


class RecordError(ValueError):
    """A file or an argument does not describe a valid record; the message names the value and what is allowed."""


def as_dict(record: Any) -> dict[str, Any]:
    """Return the record as plain dicts and lists, as JSON has them."""
    return json.loads(json.dumps(dataclasses.asdict(record)))


def canonical_json(value: Any) -> str:
    """Return the one JSON text that stands for this value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: Any) -> str:
    """Return a short stable hash of a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:DIGEST_CHARACTERS]


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
        raise RecordError(describe(error, kind, where)) from None


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    """Return the validator of a type; making one takes milliseconds, and a sweep reads thousands of results."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def describe(error: Any, kind: type, where: str) -> str:
    """Turn a pydantic error into one line per fault, with the known keys where a key is unknown."""
    lines = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            lines.append(f"unknown key {place!r}; known keys: {', '.join(_known_keys(kind, fault['loc'][:-1]))}")
        else:
            lines.append(f"{place or kind.__name__}: {fault['msg']} (got {fault.get('input')!r})")
    return f"{where}: " + "; ".join(lines)


def _known_keys(kind: Any, path: tuple[Any, ...]) -> list[str]:
    """Return the field names of the dataclass that a pydantic location leads to."""
    for part in path:
        kind = get_args(kind)[0] if isinstance(part, int) else get_type_hints(kind).get(part, kind)
    return sorted(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else []
