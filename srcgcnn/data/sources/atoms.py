"""Files of atoms that ASE reads: extended xyz, ASE trajectories and databases."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from srcgcnn.data.columns import (
    ID_KEYS,
    LOOK_AHEAD_ROWS,
    choose_targets,
    error_row,
    file_source,
    find_key,
    numeric_keys,
    reading,
    row_identity,
)
from srcgcnn.data.source import Source, SourceError, SourceRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ase import Atoms

    from srcgcnn.data.limits import SourceLimits

ATOMS = "ASE file"
ASE_FORMATS = {".extxyz": "extxyz", ".xyz": "extxyz", ".traj": "traj"}  # not what the contents claim to be


def open_atoms(path: Path, targets: Sequence[str] | None, _: SourceLimits) -> Source:
    """Open a file that ASE reads; targets are numbers in `info` or results of a calculator.

    Values are taken as found: the `energy` of a calculator is that of the whole cell, in eV.
    """
    with reading(path, ATOMS):
        first = [_atoms_values(atoms) for atoms in islice(_frames(path), LOOK_AHEAD_ROWS)]
    if not first:
        raise SourceError(f"{path} has no frames")
    keys = list(dict.fromkeys(key for values in first for key in values))
    numeric = [key for key in numeric_keys(first) if key != find_key(keys, ID_KEYS)]
    chosen = choose_targets(str(path), targets, numeric, numeric)
    return file_source(ATOMS, path, chosen, count=None, rows=partial(_atoms_rows, path, chosen))


def _frames(path: Path) -> Iterator[Atoms]:
    import ase.db
    from ase.io import iread

    if path.suffix.lower() != ".db":
        yield from iread(path, index=":", format=ASE_FORMATS[path.suffix.lower()])
        return
    with ase.db.connect(path) as database:  # iread leaves the key-value pairs of a database behind
        for row in database.select():
            yield row.toatoms(add_additional_information=True)


def _atoms_rows(path: Path, targets: Sequence[str]) -> Iterator[SourceRow]:
    with reading(path, ATOMS):
        for number, atoms in enumerate(_frames(path)):
            yield row_of_atoms(atoms, number, targets)


def row_of_atoms(atoms: Atoms, number: int, targets: Sequence[str] = ()) -> SourceRow:
    """Return one crystal of ASE; `number` names it if its `info` has no id."""
    from pymatgen.io.ase import AseAtomsAdaptor

    found = _atoms_values(atoms)
    key = find_key(found, ID_KEYS)
    row_id = row_identity(found[key] if key else None, number)
    values = {target: found.get(target) for target in targets}
    if atoms.cell.rank < 3:
        return error_row(row_id, "no three cell vectors: only crystals have a graph here", values)
    try:
        structure = AseAtomsAdaptor.get_structure(_bare(atoms))
    except Exception as error:  # noqa: BLE001 - one odd frame must not end the file
        return error_row(row_id, f"not a crystal: {type(error).__name__}: {error}", values)
    return SourceRow(row_id, "structure", structure, values)


def _bare(atoms: Atoms) -> Atoms:
    """Return the crystal alone: forces and magnetic moments would travel to every worker."""
    from ase import Atoms

    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def _atoms_values(atoms: Atoms) -> dict[str, Any]:
    """Return single values from `info`, from a database's key-value pairs and from the calculator."""
    results = atoms.calc.results if atoms.calc is not None else {}
    found = {**results, **atoms.info, **atoms.info.get("key_value_pairs", {})}
    return {str(key): _plain(value) for key, value in found.items() if isinstance(_plain(value), str | int | float)}


def _plain(value: Any) -> Any:
    """Return numpy's numbers as Python's."""
    return value.item() if getattr(value, "size", None) == 1 else value
