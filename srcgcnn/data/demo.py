"""The built-in dataset: distorted ionic crystals with their electrostatic energy, generated on the spot.

It exists so that every command can be tried without a download, on numbers that are exact physics: the Ewald energy of
point charges in common prototypes, with lattices from Shannon's ionic radii. The energy is long-ranged: more than the
nearest neighbours of an atom count. It is a demonstration, not materials data: nothing here was relaxed, measured or
computed by DFT.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping  # noqa: TC003 - part of the dataclasses
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.data.source import Source, SourceError, SourceRow, unit_of
from srcgcnn.records import canonical_json

if TYPE_CHECKING:
    from pymatgen.core import Structure

DEMO_VERSION = 1  # raise it with every change that changes a number below
TARGET = "electrostatic_energy"
PROVENANCE = (
    "demonstration, not materials data: generated ionic prototypes (Shannon radii, seeded distortions) "
    "with Ewald energies of formal charges; no licence applies"
)

VOLUME_STRAIN = 0.06  # uniform in +-, relative
SHEAR_STRAIN = 0.015  # deviation of each component of the traceless strain
RATTLE_ANGSTROM = 0.06  # deviation of each coordinate: thermal amplitudes at room temperature are 0.05 to 0.1
DECIMALS = 6  # hides the last bits, in which mathematics libraries differ
COORDINATION = {4: "IV", 6: "VI", 8: "VIII", 12: "XII"}  # pymatgen's keys

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Prototype:
    """One structure type as its primitive cell.

    Attributes:
        name: as in the row ids.
        lattice: rows are the lattice vectors, in any unit: the radii of the ions set the scale.
        roles: one letter per site; X is the anion.
        coordinates: fractional coordinates of each site.
        coordination: number of nearest counter-ions, by role.
        ions: groups of ions that balance; a group has one list per role, in the order of `coordination`.
        mixed: cations are dealt at random over the cation sites, so that order within the cell matters.
    """

    name: str
    lattice: tuple[Vector, Vector, Vector]
    roles: str
    coordinates: tuple[Vector, ...]
    coordination: Mapping[str, int]
    ions: tuple[tuple[str, ...], ...]
    mixed: bool = False

    def decorations(self) -> list[dict[str, str]]:
        """Return every choice of ions, as role -> ion."""
        return [
            dict(zip(self.coordination, choice, strict=True))
            for group in self.ions
            for choice in product(*(names.split() for names in group))
        ]


def demo_source(count: int = 480, seed: int = 0) -> Source:
    """Return the demonstration dataset; the same count and seed give the same rows.

    Raises:
        SourceError: a count below 1 or a seed below 0.
    """
    if count < 1 or seed < 0:
        raise SourceError(f"demo: count={count} must be at least 1 and seed={seed} at least 0")
    identity = canonical_json(["demo", DEMO_VERSION, count, seed])
    return Source(
        name="demo",
        content_hash=hashlib.sha256(identity.encode()).hexdigest(),
        targets=(TARGET,),
        units=(unit_of(TARGET),),
        provenance=PROVENANCE,
        count=count,
        rows=partial(_rows, count, seed),
    )


def ideal_structure(prototype: Prototype, ions: Mapping[str, str], roles: str | None = None) -> Structure:
    """Return the undistorted crystal; `roles` replaces the prototype's own assignment of roles to sites."""
    from pymatgen.core import Lattice, Structure

    roles = roles or prototype.roles
    shape = Structure(Lattice(prototype.lattice), [ions[role] for role in roles], prototype.coordinates)
    scale = _scale(shape, roles, {role: shannon_radius(ions[role], prototype.coordination[role]) for role in ions})
    return Structure(Lattice(shape.lattice.matrix * scale), shape.species, shape.frac_coords)


def electrostatic_energy(structure: Structure) -> float:
    """Return the Ewald energy of the formal charges in eV/atom.

    pymatgen's default accuracy is kept: other splittings between the real and the reciprocal sum change the result by
    less than 1e-6 eV/atom, and a row takes milliseconds.
    """
    from pymatgen.analysis.ewald import EwaldSummation

    return float(EwaldSummation(structure).total_energy) / len(structure)


@cache
def shannon_radius(ion: str, coordination: int) -> float:
    """Return Shannon's ionic radius in angstrom, high spin, at the listed coordination nearest to the given one."""
    import warnings

    from pymatgen.core import Species

    species = Species.from_str(ion)
    listed = species.element.data["Shannon radii"][f"{species.oxi_state:.0f}"]
    nearest = min(
        (number for number, key in COORDINATION.items() if key in listed),
        key=lambda number: (abs(number - coordination), number),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where the table knows one spin state, pymatgen takes it with a warning
        return float(species.get_shannon_radius(COORDINATION[nearest], spin="High Spin"))


def _scale(shape: Structure, roles: str, radii: Mapping[str, float]) -> float:
    """Return the factor that makes the cation-anion contacts, on average, the sums of the radii."""
    anions = [site for site, role in enumerate(roles) if role == "X"]
    contacts = shape.distance_matrix[:, anions].min(axis=1)
    factors = [(radii[role] + radii["X"]) / contacts[site] for site, role in enumerate(roles) if role != "X"]
    return float(np.mean(factors))


def _rows(count: int, seed: int) -> Iterator[SourceRow]:
    for number, (prototype, ions) in enumerate(_plan(count, seed)):
        rng = np.random.default_rng([seed, number])
        roles = _dealt(prototype.roles, rng) if prototype.mixed else prototype.roles
        structure = _distorted(ideal_structure(prototype, ions, roles), rng)
        row_id = f"demo-{number + 1:04d}-{structure.composition.reduced_formula}-{prototype.name}"
        energy = round(electrostatic_energy(structure), DECIMALS)
        yield SourceRow(row_id, "structure", structure, {TARGET: energy})


def _plan(count: int, seed: int) -> Iterator[tuple[Prototype, dict[str, str]]]:
    """Take the prototypes in turn, each with its ions in a shuffled order, so that even a short list varies."""
    rng = np.random.default_rng(seed)
    shuffled = [[choices[k] for k in rng.permutation(len(choices))] for choices in _all_decorations()]
    for number in range(count):
        turn, which = divmod(number, len(PROTOTYPES))
        yield PROTOTYPES[which], shuffled[which][turn % len(shuffled[which])]


def _all_decorations() -> list[list[dict[str, str]]]:
    return [prototype.decorations() for prototype in PROTOTYPES]


def _dealt(roles: str, rng: np.random.Generator) -> str:
    cations = [role for role in roles if role != "X"]
    dealt = iter([cations[k] for k in rng.permutation(len(cations))])
    return "".join(role if role == "X" else next(dealt) for role in roles)


def _distorted(ideal: Structure, rng: np.random.Generator) -> Structure:
    """Strain the cell and rattle the atoms, then round: the energy is that of the rounded crystal."""
    from pymatgen.core import Lattice, Structure

    size = (1 + rng.uniform(-VOLUME_STRAIN, VOLUME_STRAIN)) ** (1 / 3)
    shear = rng.normal(0, SHEAR_STRAIN, (3, 3))
    shear = (shear + shear.T) / 2 - np.eye(3) * np.trace(shear) / 3
    matrix = np.round(ideal.lattice.matrix @ (np.eye(3) + shear) * size, DECIMALS)
    rattle = rng.normal(0, RATTLE_ANGSTROM, (len(ideal), 3)) @ np.linalg.inv(matrix)
    return Structure(Lattice(matrix), ideal.species, np.round(ideal.frac_coords + rattle, DECIMALS))


def _hexagonal(c_over_a: float) -> tuple[Vector, Vector, Vector]:
    return (1.0, 0.0, 0.0), (-0.5, sqrt(3) / 2, 0.0), (0.0, 0.0, c_over_a)


def _rhombohedral(c_over_a: float) -> tuple[Vector, Vector, Vector]:
    """Return the primitive cell of a hexagonal R cell."""
    third, height = 1 / (2 * sqrt(3)), c_over_a / 3
    return (0.5, third, height), (-0.5, third, height), (0.0, -2 * third, height)


def _and_inverses(*places: Vector) -> tuple[Vector, ...]:
    """Return the places and their images under inversion in the origin."""
    return tuple((sign * x, sign * y, sign * z) for x, y, z in places for sign in (1.0, -1.0))


def _spinel_sites(u: float) -> tuple[Vector, ...]:
    """Return the primitive cell of Fd-3m, origin choice 2: 2 tetrahedral, 4 octahedral, 8 anion (u, u, u) sites."""
    v = 0.5 - 3 * u
    tetrahedral = _and_inverses((0.125, 0.125, 0.125))
    octahedral = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))
    return (*tetrahedral, *octahedral, *_and_inverses((u, u, u), (u, u, v), (u, v, u), (v, u, u)))


def _corundum_sites(w: float, x: float) -> tuple[Vector, ...]:
    """Return the primitive cell of R-3c on rhombohedral axes: 4 cations (w, w, w), 6 anions (x, 1/2 - x, 1/4)."""
    z = 0.5 - x
    cations = _and_inverses((w, w, w), (0.5 - w, 0.5 - w, 0.5 - w))
    return (*cations, *_and_inverses((x, z, 0.25), (z, 0.25, x), (0.25, x, z)))


def _doubled_rocksalt() -> tuple[Vector, ...]:
    """Return the 8 cation and 8 anion sites of the 2 x 2 x 2 primitive rock salt cell."""
    corners = tuple((x, y, z) for x, y, z in product((0.0, 0.5), repeat=3))
    return corners + tuple((x + 0.25, y + 0.25, z + 0.25) for x, y, z in corners)


CUBE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
FACE_CENTRED = ((0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
ORIGIN, MIDDLE, QUARTER, THREE_QUARTERS = ((x, x, x) for x in (0.0, 0.5, 0.25, 0.75))
IDEAL_C_OVER_A = sqrt(8 / 3)  # of close-packed layers

ALKALI = "Li+ Na+ K+ Rb+"
HALIDES = "F- Cl- Br- I-"
CHALCOGENIDES = "O2- S2- Se2- Te2-"
TRIVALENT = "Al3+ Ga3+ Cr3+ Fe3+ V3+ Ti3+ Sc3+ In3+"
TRANSITION = "Mn2+ Fe2+ Co2+ Ni2+"

# Free coordinates and axial ratios are those of the compound that names the type (TiO2, MgAl2O4, Al2O3), or ideal.
PROTOTYPES: tuple[Prototype, ...] = (
    Prototype(
        "rocksalt",
        FACE_CENTRED,
        "AX",
        (ORIGIN, MIDDLE),
        {"A": 6, "X": 6},
        ((f"{ALKALI} Ag+", HALIDES), (f"Mg2+ Ca2+ Sr2+ Ba2+ Cd2+ {TRANSITION}", CHALCOGENIDES)),
    ),
    Prototype(
        "rocksalt-mixed",
        FACE_CENTRED,
        "AAAABBBBXXXXXXXX",
        _doubled_rocksalt(),
        {"A": 6, "B": 6, "X": 6},
        (("Li+ Na+", TRIVALENT, "O2- S2-"), ("Na+ K+", "Y3+ La3+ Bi3+", "S2- Se2-")),
        mixed=True,
    ),
    Prototype("cscl", CUBE, "AX", (ORIGIN, MIDDLE), {"A": 8, "X": 8}, (("K+ Rb+ Cs+ Tl+", HALIDES),)),
    Prototype(
        "zincblende",
        FACE_CENTRED,
        "AX",
        (ORIGIN, QUARTER),
        {"A": 4, "X": 4},
        (("Be2+ Mg2+ Zn2+ Cd2+ Hg2+ Mn2+", CHALCOGENIDES), ("Cu+ Ag+", HALIDES)),
    ),
    Prototype(
        "wurtzite",
        _hexagonal(IDEAL_C_OVER_A),
        "AAXX",
        ((1 / 3, 2 / 3, 0.0), (2 / 3, 1 / 3, 0.5), (1 / 3, 2 / 3, 3 / 8), (2 / 3, 1 / 3, 7 / 8)),
        {"A": 4, "X": 4},
        (("Be2+ Mg2+ Zn2+ Cd2+ Hg2+ Mn2+", CHALCOGENIDES), ("Cu+ Ag+", HALIDES)),
    ),
    Prototype(
        "fluorite",
        FACE_CENTRED,
        "AXX",
        (ORIGIN, QUARTER, THREE_QUARTERS),
        {"A": 8, "X": 4},
        (("Ca2+ Sr2+ Ba2+ Cd2+ Pb2+ Hg2+", "F- Cl-"), ("Zr4+ Hf4+ Ce4+ Th4+ U4+ Pu4+", "O2-")),
    ),
    Prototype(
        "antifluorite",
        FACE_CENTRED,
        "AAX",
        (QUARTER, THREE_QUARTERS, ORIGIN),
        {"A": 4, "X": 8},
        ((ALKALI, CHALCOGENIDES),),
    ),
    Prototype(
        "perovskite",
        CUBE,
        "ABXXX",
        (ORIGIN, MIDDLE, (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)),
        {"A": 12, "B": 6, "X": 6},
        (
            ("Ca2+ Sr2+ Ba2+ Pb2+", "Ti4+ Zr4+ Hf4+ Sn4+", "O2-"),
            ("Na+ K+", "Nb5+ Ta5+", "O2-"),
            ("La3+ Nd3+ Gd3+", "Al3+ Ga3+ Cr3+ Fe3+", "O2-"),
            ("K+ Rb+ Cs+", f"Mg2+ Zn2+ {TRANSITION}", "F-"),
            ("Rb+ Cs+", "Ca2+ Cd2+ Pb2+", "Cl- Br-"),
        ),
    ),
    Prototype(
        "rutile",
        ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.644)),
        "AAXXXX",
        (ORIGIN, MIDDLE, (0.305, 0.305, 0.0), (0.695, 0.695, 0.0), (0.805, 0.195, 0.5), (0.195, 0.805, 0.5)),
        {"A": 6, "X": 3},
        (("Ti4+ Sn4+ Mn4+ Ge4+ V4+ Pb4+ Ru4+ Ir4+", "O2-"), (f"Mg2+ Zn2+ {TRANSITION}", "F-")),
    ),
    Prototype(
        "cdi2",
        _hexagonal(IDEAL_C_OVER_A),
        "AXX",
        (ORIGIN, (1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75)),
        {"A": 6, "X": 3},
        ((f"Mg2+ Ca2+ Cd2+ Pb2+ {TRANSITION}", "Cl- Br- I-"), ("Ti4+ Zr4+ Hf4+ Sn4+", "S2- Se2-")),
    ),
    Prototype(
        "corundum",
        _rhombohedral(2.73),
        "AAAAXXXXXX",
        _corundum_sites(0.352, 0.556),
        {"A": 6, "X": 4},
        ((TRIVALENT, "O2- S2-"), ("Rh3+ Mn3+ Y3+ Lu3+", "O2-")),
    ),
    Prototype(
        "spinel",
        FACE_CENTRED,
        "AABBBBXXXXXXXX",
        _spinel_sites(0.2625),
        {"A": 4, "B": 6, "X": 4},
        ((f"Mg2+ Zn2+ Cd2+ {TRANSITION}", "Al3+ Ga3+ Cr3+ Fe3+ V3+ In3+", "O2- S2-"),),
    ),
)
