"""From what a user names to crystals: CIF files, folders of them, tables; in Python also structures and data frames."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from srcgcnn.data.columns import ID_KEYS, error_row, find_key, row_identity
from srcgcnn.data.limits import SourceLimits
from srcgcnn.data.parsing import parse_structure
from srcgcnn.data.row_workers import OutOfTimeError, time_limit
from srcgcnn.data.source import RowError, SourceRow
from srcgcnn.data.sources.atoms import row_of_atoms
from srcgcnn.data.sources.folders import CRYSTAL_FORMS, crystal_row, form_of
from srcgcnn.data.sources.registry import READERS, open_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd
    from ase import Atoms
    from pymatgen.core import Structure

    Crystals: TypeAlias = str | Path | Structure | Atoms | pd.DataFrame

FRAME_KEYS = ("structure", "atoms", "cif")  # columns of a data frame that can hold crystals; the first one is taken


@dataclass(frozen=True)
class NamedCrystal:
    """One crystal to predict, or the reason why it cannot be predicted.

    Attributes:
        row_id: id in a table, or the stem of a file's name.
        file: where it came from, "" for a structure in memory.
        structure: None if `error` says why.
    """

    row_id: str
    file: str
    structure: Structure | None
    error: str = ""

    @property
    def formula(self) -> str:
        """Reduced formula, "" if there is no structure."""
        return "" if self.structure is None else self.structure.composition.reduced_formula


def read_crystals(sources: Crystals | Iterable[Crystals]) -> Iterator[NamedCrystal]:
    """Yield all crystals in order; what cannot be read is yielded with its reason.

    Raises:
        ValueError: a data frame has no column with crystals.
        TypeError: neither a path nor a crystal.
    """
    import pandas as pd
    from ase import Atoms
    from pymatgen.core import IStructure

    one = isinstance(sources, str | Path | IStructure | Atoms | pd.DataFrame)
    listed = cast("Iterable[Crystals]", [sources] if one else sources)
    for number, source in enumerate(listed):
        if isinstance(source, str | Path):
            for path in _files(Path(source).expanduser()):
                for row in _rows(path):
                    yield _parsed(row, str(path))
        elif isinstance(source, pd.DataFrame):
            yield from (_parsed(row, "") for row in _frame_rows(source))
        else:
            yield _parsed(_row_in_memory(source, f"structure-{number}"), "")


def _frame_rows(frame: pd.DataFrame) -> Iterator[SourceRow]:
    """Yield the rows of a data frame: crystals as pymatgen has them, as ASE has them, or as the text of a CIF."""
    columns = [str(column) for column in frame.columns]
    crystals, identity = find_key(columns, FRAME_KEYS), find_key(columns, ID_KEYS)
    if crystals is None:
        raise ValueError(
            f"a data frame needs a column {', '.join(FRAME_KEYS[:-1])} or {FRAME_KEYS[-1]}; it has {', '.join(columns)}"
        )
    ids = frame[identity] if identity else frame.index
    for number, (row_id, crystal) in enumerate(zip(ids, frame[crystals], strict=True)):
        name = row_identity(row_id, number)
        if isinstance(crystal, str):
            yield SourceRow(name, "cif", crystal, {})
        elif crystal is None or crystal != crystal:  # noqa: PLR0124 - pandas writes NaN where nothing is
            yield error_row(name, f"column {crystals!r} is empty")
        else:
            yield _row_in_memory(crystal, name)


def _row_in_memory(crystal: Any, row_id: str) -> SourceRow:
    """Return a crystal of pymatgen (itself or its dict) or ASE as a row."""
    from ase import Atoms
    from pymatgen.core import IStructure

    if isinstance(crystal, IStructure):
        return SourceRow(row_id, "structure", crystal, {})
    if isinstance(crystal, dict):
        return SourceRow(row_id, "dict", crystal, {})
    if isinstance(crystal, Atoms):
        return replace(row_of_atoms(crystal, 0), row_id=row_id)
    raise TypeError(
        f"{type(crystal).__name__} is not a crystal; give the path of a file or folder, a pymatgen Structure, ASE "
        "Atoms, or a data frame with a column of them"
    )


def _files(path: Path) -> list[Path]:
    """Return the CIF and POSCAR files of a folder; a folder without any, and every file, as it is."""
    inside = sorted(path.iterdir()) if path.is_dir() else []
    return [file for file in inside if form_of(file)] or [path]


def _rows(path: Path) -> Iterator[SourceRow]:
    if form_of(path):
        yield crystal_row(path.stem, path, SourceLimits())
    else:
        yield from _table(path)


def _table(path: Path) -> Iterator[SourceRow]:
    """Read a table with one crystal per row; a table that breaks off loses the rest of its rows and says so."""
    if path.is_file() and not path.name.lower().endswith(tuple(READERS)):
        yield error_row(path.name, f"unknown kind of file; can read: {', '.join((*CRYSTAL_FORMS, *READERS))}")
        return
    try:
        yield from open_source(str(path), targets=None).rows()
    except (ValueError, OSError) as error:
        yield error_row(path.name, str(error))


def _parsed(row: SourceRow, file: str) -> NamedCrystal:
    try:
        with time_limit(SourceLimits().seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns about rounding in nearly every CIF
            return NamedCrystal(row.row_id, file, parse_structure(row))
    except RowError as error:
        return NamedCrystal(row.row_id, file, None, str(error))
    except OutOfTimeError:
        reason = f"took more than {SourceLimits().seconds:g} s of processor time"
        return NamedCrystal(row.row_id, file, None, reason)
