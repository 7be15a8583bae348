"""One crystal as the CGCNN graph: every atom with its 12 nearest neighbours within 8 angstrom.

Neighbours are all periodic images, images of the atom itself included. Distances are stored; the 41 Gaussians are
expanded on the device (docs/design.md).

Tie rule. The cut after the 12th neighbour may go through a shell of equal distances. Neighbours whose distances differ
by less than `tie_tolerance_angstrom` form one shell; within a shell the order is by atomic number, then by the
direction of the bond (x, y, z in steps of 0.01 angstrom). None of this depends on the order of the atoms, on the choice
of origin, or on the repetition of the cell. What remains (two neighbours of one element in one direction at one
distance) is two atoms on one place, which is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.data.elements import LARGEST_ATOMIC_NUMBER
from srcgcnn.data.source import RowError

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

GAUSSIAN_STEP_ANGSTROM = 0.2
GAUSSIAN_COUNT = 41  # centres 0, 0.2 .. 8 angstrom
MOST_ATOMS = np.iinfo(np.int16).max  # neighbour indices are int16
SAME_PLACE_ANGSTROM = 0.1  # H2, the shortest bond there is, has 0.74
DIRECTION_STEP_ANGSTROM = 0.01
DIRECTION_SHIFT_ANGSTROM = 0.00317  # keeps the common components 0 and a/2 away from the edge of a step
RADIUS_GROWTH = 1.3
EXPECTED_NEIGHBOURS = 20  # size of the first search sphere, in atoms of mean density (20 beat 30 and 60)
OCCUPANCY_TOLERANCE = 1e-8


@dataclass(frozen=True)
class GraphSettings:
    """What defines a graph; part of the data hash."""

    cutoff_angstrom: float = 8.0
    neighbours: int = 12
    tie_tolerance_angstrom: float = 1e-6
    rule: int = 1  # version of the tie rule above


@dataclass(frozen=True)
class CrystalGraph:
    """Neighbours of every atom of one crystal.

    Attributes:
        atomic_numbers: uint8 [N].
        neighbours: int16 [N, K], atom index within the crystal; 0 where there are fewer than K.
        distances: float32 [N, K] in angstrom, ascending; infinite where there are fewer than K.
    """

    atomic_numbers: np.ndarray
    neighbours: np.ndarray
    distances: np.ndarray


def build_graph(structure: Structure, settings: GraphSettings | None = None) -> CrystalGraph:
    """Build the graph of one crystal.

    Raises:
        RowError: partial occupancy, an element above Z = 100, too many atoms, or two atoms on one place.
    """
    settings = settings or GraphSettings()
    numbers = _atomic_numbers(structure)
    centre, neighbour, distance, vector = _pairs(structure, settings)
    if distance.size and distance.min() < SAME_PLACE_ANGSTROM:
        raise RowError(f"two atoms on one place: {distance.min():.4f} angstrom apart")
    order = _ordered(centre, numbers[neighbour], distance, vector, settings)
    return _first_neighbours(numbers, centre[order], neighbour[order], distance[order], settings.neighbours)


def _atomic_numbers(structure: Structure) -> np.ndarray:
    if not 0 < len(structure) <= MOST_ATOMS:
        raise RowError(f"{len(structure)} atoms: between 1 and {MOST_ATOMS} are possible")
    return np.array([_atomic_number(site.species) for site in structure.sites], dtype=np.uint8)


def _atomic_number(species: Composition) -> int:
    if species.num_atoms > 1 + OCCUPANCY_TOLERANCE:  # a CIF reader merges such sites
        raise RowError(f"two atoms on one place ({species}): occupancies add up to more than 1")
    if len(species) != 1 or species.num_atoms < 1 - OCCUPANCY_TOLERANCE:
        raise RowError(f"partial occupancy ({species}): CGCNN graphs need one element on every site")
    (specie,) = species
    atomic_number = getattr(specie, "Z", 0)
    if not 1 <= atomic_number <= LARGEST_ATOMIC_NUMBER:
        raise RowError(f"{specie} (Z={atomic_number}): features exist for Z=1..{LARGEST_ATOMIC_NUMBER} only")
    return int(atomic_number)


def _pairs(structure: Structure, settings: GraphSettings) -> tuple[np.ndarray, ...]:
    """Search spheres that grow until every atom has its neighbours: no nearer one can be missed then."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice = np.ascontiguousarray(structure.lattice.matrix, dtype=float)
    positions = np.ascontiguousarray(structure.cart_coords, dtype=float)
    periodic = np.array(structure.lattice.pbc, dtype=np.int64)
    radius = _first_radius(abs(np.linalg.det(lattice)) / len(positions), settings.cutoff_angstrom)
    while True:
        centre, neighbour, image, distance = find_points_in_spheres(
            positions, positions, r=radius, pbc=periodic, lattice=lattice, tol=1e-8
        )
        other = ~((centre == neighbour) & (distance <= 1e-8))
        centre, neighbour, image, distance = centre[other], neighbour[other], image[other], distance[other]
        if radius >= settings.cutoff_angstrom or _complete(centre, distance, len(positions), radius, settings):
            break
        radius = min(radius * RADIUS_GROWTH, settings.cutoff_angstrom)
    vector = positions[neighbour] + image @ lattice - positions[centre]
    return centre, neighbour, distance, vector


def _first_radius(volume_per_atom: float, cutoff: float) -> float:
    return min(cutoff, (3 * EXPECTED_NEIGHBOURS * volume_per_atom / (4 * np.pi)) ** (1 / 3))


def _complete(centre: np.ndarray, distance: np.ndarray, atoms: int, radius: float, settings: GraphSettings) -> bool:
    """Whether every atom has all of its neighbours, and the shell of the last one, inside the sphere."""
    inside = distance <= radius - 2 * settings.tie_tolerance_angstrom
    counts = np.bincount(centre[inside], minlength=atoms)
    return bool(counts.min() >= settings.neighbours)


def _ordered(
    centre: np.ndarray, number: np.ndarray, distance: np.ndarray, vector: np.ndarray, settings: GraphSettings
) -> np.ndarray:
    """Return the pairs worth keeping in order: by centre, then shell, then the tie rule."""
    near = np.lexsort((distance, centre))
    near = near[_up_to_last_shell(centre[near], distance[near], settings)]
    # the shell number grows where the distance jumps; it only has to grow within one centre
    jump = np.diff(distance[near], prepend=0.0) > settings.tie_tolerance_angstrom
    shell = np.cumsum(jump | (np.diff(centre[near], prepend=-1) != 0))
    step = np.floor((vector[near] + DIRECTION_SHIFT_ANGSTROM) / DIRECTION_STEP_ANGSTROM)
    return near[np.lexsort((step[:, 2], step[:, 1], step[:, 0], number[near], shell))]


def _up_to_last_shell(centre: np.ndarray, distance: np.ndarray, settings: GraphSettings) -> np.ndarray:
    """Mark the pairs up to the shell that holds the K-th neighbour; pairs are sorted by centre and distance."""
    starts = np.flatnonzero(np.diff(centre, prepend=-1))
    lengths = np.diff(starts, append=len(centre))
    last = distance[starts + np.minimum(lengths, settings.neighbours) - 1]
    # a shell chains pairs that are each within the tolerance of the next: some slack costs nothing here
    return distance <= np.repeat(last, lengths) + 100 * settings.tie_tolerance_angstrom


def _first_neighbours(
    numbers: np.ndarray, centre: np.ndarray, neighbour: np.ndarray, distance: np.ndarray, keep: int
) -> CrystalGraph:
    atoms = len(numbers)
    starts = np.searchsorted(centre, np.arange(atoms))
    rank = np.arange(len(centre)) - starts[centre]
    kept = rank < keep
    neighbours = np.zeros((atoms, keep), dtype=np.int16)
    distances = np.full((atoms, keep), np.inf, dtype=np.float32)
    neighbours[centre[kept], rank[kept]] = neighbour[kept]
    distances[centre[kept], rank[kept]] = distance[kept]
    return CrystalGraph(numbers, neighbours, distances)
