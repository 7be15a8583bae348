"""From what a user names on the command line to crystals: CIF files, folders of them, tables, or structures at hand."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.data.columns import error_row
from srcgcnn.data.source import RowError, SourceRow, parse_structure
from srcgcnn.data.sources.registry import READERS, open_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pymatgen.core import Structure

CIF_SUFFIXES = (".cif", ".mcif")


@dataclass(frozen=True)
class NamedCrystal:
    """One crystal to predict, or the reason why there is none.

    Attributes:
        row_id: id in a table, or the stem of a file's name.
        file: where it came from, "" for a structure in memory.
        structure: None where `error` says why.
    """

    row_id: str
    file: str
    structure: Structure | None
    error: str = ""

    @property
    def formula(self) -> str:
        """Reduced formula, "" where there is no structure."""
        return "" if self.structure is None else self.structure.composition.reduced_formula


def read_crystals(sources: Iterable[str | Path | Structure]) -> Iterator[NamedCrystal]:
    """Yield all crystals in order; what cannot be read is yielded with its reason."""
    for number, source in enumerate(sources):
        if isinstance(source, str | Path):
            for path in _files(Path(source).expanduser()):
                for row in _rows(path):
                    yield _parsed(row, str(path))
        else:
            yield NamedCrystal(f"structure-{number}", "", source)


def _files(path: Path) -> list[Path]:
    """Return the CIF files of a folder; a folder without any, and every file, as it is."""
    inside = sorted(path.iterdir()) if path.is_dir() else []
    return [file for file in inside if file.suffix.lower() in CIF_SUFFIXES] or [path]


def _rows(path: Path) -> Iterator[SourceRow]:
    if path.suffix.lower() in CIF_SUFFIXES:
        yield _cif(path)
    else:
        yield from _table(path)


def _cif(path: Path) -> SourceRow:
    try:
        return SourceRow(path.stem, "cif", path.read_text(encoding="utf-8", errors="replace"), {})
    except OSError as error:
        return error_row(path.stem, f"cannot be read: {error.strerror}")


def _table(path: Path) -> Iterator[SourceRow]:
    """Read a table with one crystal per row; a table that breaks off loses the rest of its rows and says so."""
    if path.is_file() and not path.name.lower().endswith(tuple(READERS)):
        yield error_row(path.name, f"unknown kind of file; read are {', '.join((*CIF_SUFFIXES, *READERS))}")
        return
    try:
        yield from open_source(str(path), targets=None).rows()
    except (ValueError, OSError) as error:
        yield error_row(path.name, str(error))


def _parsed(row: SourceRow, file: str) -> NamedCrystal:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns about rounding in nearly every CIF
            return NamedCrystal(row.row_id, file, parse_structure(row))
    except RowError as error:
        return NamedCrystal(row.row_id, file, None, str(error))
