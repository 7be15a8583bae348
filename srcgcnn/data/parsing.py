"""From what a source holds of a crystal to a structure: CIF text, pymatgen's dict, or a structure.

The text is untrusted. pymatgen's own way back from a dict hands the `properties` of every site to a decoder that
imports any module named there; so a dict is first reduced to lattice, species and coordinates. Sizes are checked before
the slow part, and cells and coordinates before a neighbour search that would never end.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from srcgcnn.data.limits import SourceLimits
from srcgcnn.data.source import RowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pymatgen.core import Structure
    from pymatgen.io.cif import CifBlock

    from srcgcnn.data.source import SourceRow

CELL_PARAMETERS = ("a", "b", "c", "alpha", "beta", "gamma")
MOST_CELLS_AWAY = 100  # of a coordinate: the neighbour search looks at every cell between two atoms
THINNEST_CELL_ANGSTROM = 0.01  # distance of opposite faces; the search takes as many images as fit into its radius
SYMMETRY_KEYS = (
    "_symmetry_equiv_pos_as_xyz",
    "_space_group_symop_operation_xyz",
    "_space_group_symop_magn_operation.xyz",
    "_space_group_symop_magn_centering.xyz",
)
P1_ASSUMED = "Defaulting to P1"  # pymatgen's warning
ATOM_KEY = re.compile(r"_atom_site[._]", re.IGNORECASE)
SPACE_GROUP_KEY = re.compile(
    r"_(symmetry|space_group)[._](space_group_)?(name|int_tables_number|it_number)", re.IGNORECASE
)
NO_SYMMETRY = ("P1", "1", "?", ".", "None", "")
MESSAGE_CHARACTERS = 200


def parse_structure(row: SourceRow, limits: SourceLimits | None = None) -> Structure:
    """Return the crystal of a row.

    Raises:
        RowError: the text or dict does not describe one periodic structure, or is beyond a limit.
    """
    limits = limits or SourceLimits()
    if row.form == "error":
        raise RowError(row.content)
    try:
        if row.form == "cif":
            structure = _from_cif(row.content, limits)
        elif row.form == "poscar":
            structure = _from_poscar(row.content, limits)
        elif row.form == "dict":
            structure = _from_dict(row.content, limits)
        else:
            structure = row.content
        check_cell(structure, limits)
    except RowError:
        raise
    except Exception as error:  # parsers raise anything; the row is reported, the build continues
        reason = " ".join(str(error).split())[:MESSAGE_CHARACTERS]  # some parsers' messages have several lines
        raise RowError(f"cannot parse the {row.form}: {type(error).__name__}: {reason}") from error
    return structure


def check_cell(structure: Structure, limits: SourceLimits) -> None:
    """Refuse cells and coordinates that no crystal has: a neighbour search in them would take all time or memory.

    Raises:
        RowError: naming the value and the limit.
    """
    _check_atoms(len(structure), limits)
    matrix, places = np.asarray(structure.lattice.matrix), np.asarray(structure.frac_coords)
    lengths = np.linalg.norm(matrix, axis=1)
    if not np.isfinite(matrix).all() or lengths.max() > limits.cell_angstrom:
        raise RowError(f"a cell vector of {lengths.max():.4g} angstrom; the limit is {limits.cell_angstrom:g}")
    areas = np.linalg.norm(np.cross(matrix[[1, 2, 0]], matrix[[2, 0, 1]]), axis=1)
    thickness = structure.volume / areas.max() if areas.max() > 0 else 0.0
    if not thickness >= THINNEST_CELL_ANGSTROM:
        raise RowError(f"a cell of {thickness:.4g} angstrom thickness; at least {THINNEST_CELL_ANGSTROM} is needed")
    if not (np.abs(places) <= MOST_CELLS_AWAY).all():
        worst = places.flat[int(np.argmax(~(np.abs(places) <= MOST_CELLS_AWAY)))]
        raise RowError(f"a fractional coordinate of {worst:.4g}; the limit is {MOST_CELLS_AWAY} cells away")


def plain_crystal(record: Any, limits: SourceLimits | None = None) -> dict[str, Any]:
    """Reduce a structure dict of pymatgen to lattice, species with occupancy, and coordinates: numbers and symbols.

    Raises:
        RowError: the dict has no such contents, or more atoms than the limit.
    """
    try:
        lattice, sites = record["lattice"], record["sites"]
        _check_atoms(len(sites), limits or SourceLimits())
        return {"lattice": _plain_lattice(lattice), "sites": [_plain_site(site) for site in sites]}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:MESSAGE_CHARACTERS]
        raise RowError(f"cannot parse the dict: {type(error).__name__}: {reason}") from None


def _check_atoms(atoms: int, limits: SourceLimits) -> None:
    if not 0 < atoms <= limits.atoms:
        raise RowError(f"{atoms} atoms: between 1 and {limits.atoms} are possible")


def _plain_lattice(lattice: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {"pbc": [bool(value) for value in lattice.get("pbc", (True, True, True))]}
    if "matrix" in lattice:
        return {**plain, "matrix": [_numbers(vector) for vector in lattice["matrix"]]}
    return {**plain, **{name: float(lattice[name]) for name in CELL_PARAMETERS}}


def _plain_site(site: Mapping[str, Any]) -> dict[str, Any]:
    return {"species": [_plain_species(species) for species in site["species"]], "abc": _numbers(site["abc"])}


def _plain_species(species: Mapping[str, Any]) -> dict[str, Any]:
    plain = {"element": str(species["element"]), "occu": float(species["occu"])}
    if "oxidation_state" not in species:
        return plain
    state = species["oxidation_state"]
    return {**plain, "oxidation_state": None if state is None else float(state)}


def _numbers(values: Any) -> list[float]:
    x, y, z = values
    return [float(x), float(y), float(z)]


def _from_dict(record: Any, limits: SourceLimits) -> Structure:
    from pymatgen.core import Structure

    return Structure.from_dict(plain_crystal(record, limits))


def _from_cif(text: str, limits: SourceLimits) -> Structure:
    """Read a CIF as CGCNN does, without primitive reduction; it must hold one crystal, with a known symmetry."""
    from pymatgen.io.cif import CifParser

    if len(text) > limits.text_characters:
        raise RowError(f"a CIF of {len(text) / 2**20:.1f} MiB; the limit is {limits.text_mib:g} MiB")
    parser = CifParser.from_str(text)
    for block in parser._cif.data.values():  # type: ignore[attr-defined] # sizes, before symmetry multiplies them
        operations = max((_items(block.data.get(key)) for key in SYMMETRY_KEYS), default=0)
        if operations > limits.symmetry_operations:
            raise RowError(f"{operations} symmetry operations; the limit is {limits.symmetry_operations}")
        _check_atoms(max(1, _items(block.data.get("_atom_site_fract_x"))), limits)
    blocks = parser._cif.data  # type: ignore[attr-defined]
    for name in [name for name, block in blocks.items() if not any(ATOM_KEY.match(key) for key in block.data)]:
        del blocks[name]  # journals put title and authors into a block of their own, without a crystal
    # check_occu=False keeps the message about partial occupancy for our own check of the row
    found = parser.parse_structures(primitive=False, check_occu=False, on_error="raise")
    if len(found) > 1:
        raise RowError(f"a CIF of {len(found)} crystals: give each a file of its own")
    if any(P1_ASSUMED in warning for warning in parser.warnings):  # type: ignore[attr-defined]
        _refuse_other_groups(blocks.values())
    return found[0]


def _refuse_other_groups(blocks: Iterable[CifBlock]) -> None:
    """Refuse a CIF that names a space group other than P 1 and was read as P 1: most of its atoms would be missing."""
    for block in blocks:
        for key, value in block.data.items():
            if SPACE_GROUP_KEY.match(key) and re.sub(r"[\s_'\"]", "", str(value)) not in NO_SYMMETRY:
                raise RowError(
                    f"its space group, {value!s:.40} ({key}), is not understood: add its operations "
                    "(_space_group_symop_operation_xyz), or write out the whole cell in P 1"
                )


def _from_poscar(text: str, limits: SourceLimits) -> Structure:
    """Read a POSCAR; one without element symbols, as VASP 4 wrote them, cannot be interpreted."""
    from pymatgen.io.vasp import Poscar

    if len(text) > limits.text_characters:
        raise RowError(f"a POSCAR of {len(text) / 2**20:.1f} MiB; the limit is {limits.text_mib:g} MiB")
    poscar = Poscar.from_str(text, read_velocities=False)
    if not poscar.true_names:
        raise RowError("a POSCAR without element symbols: add them as its sixth line")
    return poscar.structure


def _items(values: Any) -> int:
    """Return the length of a column; a single value is not a list there."""
    return len(values) if isinstance(values, list) else int(values is not None)
