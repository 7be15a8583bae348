"""Write the tables of keys into the documents: `python -m docs.keys`, from the repository's root.

Names and defaults are those of the dataclasses that read the files, meanings those of their docstrings. A test fails
where a page differs from what this writes, or where a key has no meaning.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from srcgcnn.launch.site import LocalSite, RaySite
from srcgcnn.launch.slurm_site import HeadRequest, SlurmSite, WorkerRequest
from srcgcnn.sweep.search_spec import Range
from srcgcnn.sweep.spec import SweepSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
TABLES = {"slurm site": SlurmSite, "local site": LocalSite, "ray site": RaySite, "sweep": SweepSpec}
PAGES = ("slurm.md", "sweeps.md")
START, END = "<!-- keys of a {}, written by `python -m docs.keys` -->\n", "<!-- end of keys -->\n"
LISTED_ELSEWHERE = {  # tables that may be there several times, or not at all, with the keys of another one
    "more_workers": WorkerRequest,
    "build": HeadRequest,
    "search.ranges.weight_decay": Range,
}
PROGRAM_ONLY = {
    "training.start",
    "axes.more",
    "networks",
}  # a file says `[start]` and writes axes by their dotted names


def table_of(kind: Any) -> str:
    """Return the table of all keys of a file as Markdown."""
    lines = ["| key | default | meaning |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in rows_of(kind)]
    return "\n".join(lines) + "\n"


def rows_of(kind: Any, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield name, default and meaning of every key, those of inner tables after their own."""
    meanings, hints = meanings_of(kind), get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = prefix + field.name
        if name in PROGRAM_ONLY:
            continue
        inner = _table(hints[field.name])
        yield name, "" if inner else _default(field), meanings[field.name]
        if inner and LISTED_ELSEWHERE.get(name) is not inner:
            yield from rows_of(inner, f"{name}.")


def meanings_of(kind: Any) -> dict[str, str]:
    """Return what the docstring of a dataclass says of each field.

    Raises:
        KeyError: a field is missing there.
    """
    _, _, attributes = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    entries = re.findall(r"^ {4}([\w, ]+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
    found = {name: " ".join(text.split()).replace("|", "\\|") for names, text in entries for name in names.split(", ")}
    if missing := [field.name for field in dataclasses.fields(kind) if field.name not in found]:
        raise KeyError(f"the docstring of {kind.__name__} says nothing of {', '.join(missing)}")
    return found


def _table(hint: Any) -> Any:
    """Return the dataclass that a key holds, alone, or in a list, or as one of several types; None for plain values."""
    return next((kind for kind in (hint, *get_args(hint)) if dataclasses.is_dataclass(kind)), None)


def _default(field: dataclasses.Field[Any]) -> str:
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if value is dataclasses.MISSING:
        return "the file's name" if field.name == "name" else "must be given"
    if value is None:
        return "none"
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`"


def with_tables(page: str) -> str:
    """Return a page with its tables written anew."""
    for name, kind in TABLES.items():
        start = START.format(name)
        if start in page:
            before, _, rest = page.partition(start)
            page = f"{before}{start}{table_of(kind)}{END}{rest.partition(END)[2]}"
    return page


def main() -> None:
    """Write the pages."""
    for name in PAGES:
        path = HERE / name
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
