"""A source as files for other programs: a table with CIFs, a CGCNN folder, matbench's JSON; with how to cite it."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from srcgcnn.data.parsing import parse_structure, plain_crystal
from srcgcnn.data.source import RowError, Source, SourceError, with_unit
from srcgcnn.data.sources.folders import ID_PROP_FILE
from srcgcnn.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pymatgen.core import Structure

    from srcgcnn.data.source import SourceRow

Format = Literal["csv", "cgcnn", "matbench"]
CITATION_FILE = "CITATION.txt"
CIF_DIGITS = 12  # a round trip changes no distance by more than float32 does; the usual 8 digits do


@dataclass(frozen=True)
class ExportReport:
    """What an export did: crystals written, and rows left out, each as `id: reason`."""

    crystals: int
    left_out: tuple[str, ...]


def export_source(source: Source, form: Format, out: Path) -> ExportReport:
    """Write all crystals of a source that can be read; a CIF text is kept as it is.

    Args:
        source: what to write.
        form: `csv` (OUT ends with .csv or .csv.gz), `cgcnn` (OUT is a new folder) or `matbench` (.json or .json.gz).
        out: file or folder; it must not exist.

    Raises:
        SourceError: OUT exists or has another ending, or no row can be read.
    """
    endings = {"csv": (".csv", ".csv.gz"), "cgcnn": ("",), "matbench": (".json", ".json.gz")}[form]
    if out.exists():
        raise SourceError(f"{out} exists; choose another --out")
    if not out.name.endswith(endings):
        raise SourceError(f"--out {out}: format {form} needs a name that ends with {' or '.join(endings)}")
    left_out: list[str] = []
    write: Callable[[Source, Path, list[str]], int] = {"csv": _csv, "cgcnn": _cgcnn, "matbench": _matbench}[form]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns about rounding, and about elements without a property
        crystals = write(source, out, left_out)
    citation = out / CITATION_FILE if out.is_dir() else out.with_name(f"{out.name}.{CITATION_FILE}")
    units = ", ".join(with_unit(name, unit) for name, unit in zip(source.targets, source.units, strict=True))
    write_text(citation, f"{source.provenance}\ntargets: {units}\n")
    return ExportReport(crystals, tuple(left_out))


def _readable(source: Source, left_out: list[str]) -> Iterator[tuple[SourceRow, Structure]]:
    """Yield the rows that are crystals; of several with one id the first, as a build does."""
    found: set[str] = set()
    for row in source.rows():
        if row.row_id in found:
            left_out.append(f"{row.row_id}: an earlier row has this id")
            continue
        try:
            structure = parse_structure(row, source.limits)
        except RowError as error:
            left_out.append(f"{row.row_id}: {error}")
            continue
        found.add(row.row_id)
        yield row, structure
    if not found:
        raise SourceError(
            f"{source.name}: no row can be read; the first: {left_out[0] if left_out else 'there is none'}"
        )


def _cif(row: SourceRow, structure: Structure) -> str:
    from pymatgen.io.cif import CifWriter

    return row.content if row.form == "cif" else str(CifWriter(structure, significant_figures=CIF_DIGITS))


def _values(row: SourceRow, source: Source) -> list[Any]:
    return [row.targets.get(name) for name in source.targets]


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    """Open a new text file, compressed if its name says so, that appears when it is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(temporary, "wt", encoding="utf-8", newline="") as stream:
            yield cast("IO[str]", stream)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _csv(source: Source, out: Path, left_out: list[str]) -> int:
    crystals = 0
    with _text(out) as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["material_id", "formula", "cif", *source.targets])
        for row, structure in _readable(source, left_out):
            table.writerow([row.row_id, structure.reduced_formula, _cif(row, structure), *_values(row, source)])
            crystals += 1
    return crystals


def _cgcnn(source: Source, out: Path, left_out: list[str]) -> int:
    lines = []
    out.mkdir(parents=True)
    for row, structure in _readable(source, left_out):
        if "/" in row.row_id or row.row_id.startswith("."):
            left_out.append(f"{row.row_id}: the id cannot be used as a file name")
            continue
        (out / f"{row.row_id}.cif").write_text(_cif(row, structure), encoding="utf-8")
        lines.append([row.row_id, *_values(row, source)])
    with _text(out / ID_PROP_FILE) as stream:  # last: CGCNN reads the folder only when it is complete
        csv.writer(stream, lineterminator="\n").writerows(lines)
    return len(lines)


def _matbench(source: Source, out: Path, left_out: list[str]) -> int:
    """Write {"index", "columns", "data"}; the rows wait in a file, since all ids come before them."""
    from monty.json import MontyEncoder

    ids: list[str] = []
    with TemporaryFile("w+", encoding="utf-8") as rows:
        for row, structure in _readable(source, left_out):
            crystal = plain_crystal(row.content) if row.form == "dict" else structure.as_dict()
            rows.write(",\n" if ids else "")
            rows.write(json.dumps([crystal, *_values(row, source)], cls=MontyEncoder))
            ids.append(row.row_id)
        rows.seek(0)
        with _text(out) as stream:
            header = json.dumps({"index": ids, "columns": ["structure", *source.targets]})
            stream.write(header.removesuffix("}") + ', "data": [\n')
            shutil.copyfileobj(rows, stream)
            stream.write("\n]}\n")
    return len(ids)
