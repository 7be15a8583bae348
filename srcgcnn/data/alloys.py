"""The built-in dataset of the default sweep: ordered and disordered fcc alloys with an electrostatic energy.

Made so that depth must pay. Donors (Cu, Ag) give half an electron to acceptors (Au, Pt), screened as in a metal, and
the energy of these charges is summed exactly. On an fcc lattice the twelve neighbours of a crystal graph are the first
shell and nothing else, so one step of message passing cannot see the second shell on which the energy depends too.
That is planted; how well a network sees it is for the trials to show. A demonstration, not materials data: nothing
here was relaxed, measured or computed by DFT.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator  # noqa: TC003 - part of a dataclass
from functools import partial
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.data.source import Source, SourceError, SourceRow, unit_of
from srcgcnn.records import canonical_json

if TYPE_CHECKING:
    from pymatgen.core import Structure

ALLOYS_VERSION = 1  # raise it with every change that changes a number below
TARGET = "ordering_energy"
PROVENANCE = (
    "demonstration, not materials data: generated fcc alloys of Cu, Ag, Au and Pt with the energy of screened charges; "
    "no licence applies"
)
EDGE_ANGSTROM = {"Cu": 3.61, "Ag": 4.09, "Au": 4.08, "Pt": 3.92}  # cubic cells of the elements; of alloys their mean
DONORS = ("Cu", "Ag")
TRANSFER = 0.5  # electrons that a donor gives
SCREENING_ANGSTROM = 3.0
CUTOFF_ANGSTROM = 8 * SCREENING_ANGSTROM
COULOMB_EV_ANGSTROM = 14.399645  # e^2 / (4 pi eps0)
SITES = (8, 9, 12)  # atoms in a cell
LONGEST = 4  # primitive cells along a vector: long cells would hold slabs of one charge
STRAIN = 0.03  # uniform in +-, of the edge
DECIMALS = 6  # hides the last bits, in which mathematics libraries differ
PRIMITIVE = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])


def alloys_source(count: int = 480, seed: int = 0) -> Source:
    """Return the alloys; the same count and seed give the same rows, and more rows begin with the same ones.

    Raises:
        SourceError: a count below 1 or a seed below 0.
    """
    if count < 1 or seed < 0:
        raise SourceError(f"alloys: count={count} must be at least 1 and seed={seed} at least 0")
    identity = canonical_json(["alloys", ALLOYS_VERSION, count, seed])
    return Source(
        name="alloys",
        content_hash=hashlib.sha256(identity.encode()).hexdigest(),
        targets=(TARGET,),
        units=(unit_of(TARGET),),
        provenance=PROVENANCE,
        count=count,
        rows=partial(_rows, count, seed),
    )


def ordering_energy(structure: Structure) -> float:
    """Return the energy of the screened charges in eV/atom.

    E = sum over pairs of q_i q_j exp(-r/3 angstrom) / r, with q = +-1/2 of donors and acceptors, less their mean: a
    cell is neutral. All images up to 24 angstrom count; beyond, charges of both signs are screened 3,000-fold.
    """
    charges = np.array([TRANSFER if site.specie.symbol in DONORS else -TRANSFER for site in structure])
    charges -= charges.mean()
    centres, neighbours, _, distances = structure.get_neighbor_list(CUTOFF_ANGSTROM)
    pairs = charges[centres] * charges[neighbours] * np.exp(-distances / SCREENING_ANGSTROM) / distances
    return float(COULOMB_EV_ANGSTROM * pairs.sum() / 2 / len(structure))


def _rows(count: int, seed: int) -> Iterator[SourceRow]:
    for number in range(count):
        structure = _alloy(np.random.default_rng([seed, number]))
        row_id = f"alloy-{number + 1:04d}-{structure.composition.reduced_formula}"
        yield SourceRow(row_id, "structure", structure, {TARGET: round(ordering_energy(structure), DECIMALS)})


def _alloy(rng: np.random.Generator) -> Structure:
    """Deal donors and acceptors over the sites of a random fcc supercell, a third to two thirds of each."""
    from pymatgen.core import Lattice, Structure

    sites = int(rng.choice(SITES))
    lattice, places = _supercell(sites, rng)
    donors = int(rng.integers(-(-sites // 3), 2 * sites // 3 + 1))
    species = np.array([str(rng.choice(DONORS)) for _ in range(donors)] + [""] * (sites - donors))
    species[donors:] = rng.choice(["Au", "Pt"], sites - donors)
    species = rng.permutation(species)
    edge = float(np.mean([EDGE_ANGSTROM[symbol] for symbol in species])) * (1 + rng.uniform(-STRAIN, STRAIN))
    matrix = np.round(lattice * edge, DECIMALS)
    return Structure(Lattice(matrix), species.tolist(), np.round(places, DECIMALS))


def _supercell(sites: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors (unit: the cubic edge) and fractional sites of a random cell of so many primitive ones.

    Cells are drawn as Hermite normal forms: upper triangles of whole numbers with the product of the diagonal given.
    """
    diagonals = [shape for shape in product(range(1, LONGEST + 1), repeat=3) if prod(shape) == sites]
    a, b, c = diagonals[rng.integers(len(diagonals))]
    form = np.array([[a, rng.integers(b), rng.integers(c)], [0, b, rng.integers(c)], [0, 0, c]])
    primitive = np.array([[x, y, z] for x in range(a) for y in range(b) for z in range(c)], dtype=float)
    places = primitive @ np.linalg.inv(form)
    return form @ PRIMITIVE, np.round(places - np.floor(places + 1e-9), 12)
