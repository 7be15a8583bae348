"""One crystal as the CGCNN graph: every atom with its 12 nearest neighbours within 8 angstrom.

Neighbours are all periodic images, images of the atom itself included. Distances are stored; the 41 Gaussians are
expanded on the device (docs/design.md).

Tie rule. The cut after the 12th neighbour may go through a shell of equal distances. Neighbours whose distances differ
by less than `tie_tolerance_angstrom` form one shell; within a shell the order is by atomic number, then by the
direction of the bond (x, y, z in steps of 0.01 angstrom). None of this depends on the order of the atoms, on the choice
of origin, or on the repetition of the cell. What remains (two neighbours of one element in one direction at one
distance) is two atoms in one place, which is refused.

Rule 0 is the original code's: whatever order pymatgen's search returns equal distances in. Imported models use it:
which of several neighbours is kept does change what they predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from srcgcnn.data.elements import LARGEST_ATOMIC_NUMBER
from srcgcnn.data.images import MOST_CELLS_AWAY
from srcgcnn.data.limits import MOST_ATOMS
from srcgcnn.data.source import RowError
from srcgcnn.records import identity_of, record

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

GAUSSIAN_STEP_ANGSTROM = 0.2
GAUSSIAN_COUNT = 41  # centres 0, 0.2 .. 8 angstrom
MOST_SEARCH_CUBES = 10**7  # the search keeps a list for every cube of its radius between the outermost atoms: 80 MB
SAME_PLACE_ANGSTROM = 0.1  # H2, the shortest bond there is, has 0.74
DIRECTION_STEP_ANGSTROM = 0.01
DIRECTION_SHIFT_ANGSTROM = 0.00317  # keeps the common components 0 and a/2 away from the edge of a step
RADIUS_GROWTH = 1.3
EXPECTED_NEIGHBOURS = 20  # size of the first search sphere, in atoms of mean density (20 beat 30 and 60)
OCCUPANCY_TOLERANCE = 1e-8
SHELL_TOLERANCES = 100  # a whole shell in tolerances: relaxed coordinates differ by 1e-4 angstrom
MOST_NEIGHBOURS = 1000
MOST_CUTOFF_ANGSTROM = 20.0
FIRST_SETTINGS = ("cutoff_angstrom", "neighbours", "tie_tolerance_angstrom", "rule")  # of stores of format 1
ORIGINAL_RULE = 0

Neighbours = int | Literal["all"]


@record
class GraphSettings:
    """What defines a graph; part of the data hash. The default is CGCNN's graph.

    Attributes:
        cutoff_angstrom: farthest neighbour.
        neighbours: K, the nearest that are kept; `all` keeps all within the cutoff.
        tie_tolerance_angstrom: neighbours that differ by less form one shell.
        rule: version of the tie rule above; 0 is the original code's order.
        whole_shells: keep the whole shell (100 tolerances) of the K-th neighbour, as ALIGNN does.
    """

    cutoff_angstrom: float = 8.0
    neighbours: Neighbours = 12
    tie_tolerance_angstrom: float = 1e-6
    rule: int = 1
    whole_shells: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that define no graph; 8 and 8.0 are the same graph."""
        for name in ("cutoff_angstrom", "tie_tolerance_angstrom"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not 0 < self.cutoff_angstrom <= MOST_CUTOFF_ANGSTROM:
            raise ValueError(f"cutoff_angstrom={self.cutoff_angstrom} must lie in (0, {MOST_CUTOFF_ANGSTROM:g}]")
        if self.neighbours != "all" and not 1 <= self.neighbours <= MOST_NEIGHBOURS:
            raise ValueError(f"neighbours={self.neighbours!r} must be all, or lie in 1..{MOST_NEIGHBOURS}")
        if self.whole_shells and self.neighbours == "all":
            raise ValueError("whole_shells goes with a number of neighbours: neighbours='all' has no last shell")
        if self.rule == ORIGINAL_RULE and self.degree is None:
            raise ValueError("rule 0, the original code's order, keeps a fixed number of neighbours")

    @property
    def farthest_angstrom(self) -> float:
        """The longest distance of a neighbour: a shell at the cutoff is whole."""
        return self.cutoff_angstrom + self.tie_tolerance_angstrom

    @property
    def degree(self) -> int | None:
        """Slots of every atom, None if degrees differ."""
        return None if self.neighbours == "all" or self.whole_shells else self.neighbours

    @property
    def fixed_degree(self) -> bool:
        """Whether every atom has the same number of slots."""
        return self.degree is not None

    @property
    def identity(self) -> dict[str, Any]:
        """What of the settings goes into a hash: later fields only off their defaults, so that old hashes stay."""
        return identity_of(self, {"GraphSettings": FIRST_SETTINGS})


@dataclass(frozen=True)
class CrystalGraph:
    """Neighbours of every atom of one crystal.

    With the images, the vector to a neighbour is `(places[neighbour] + image - places[atom]) @ lattice`.

    Attributes:
        atomic_numbers: uint8 [N].
        neighbours: int16 [N, K], atom index within the crystal; 0 where there are fewer than K.
        distances: float32 [N, K] in angstrom, ascending; infinite where there are fewer than K.
        images: int16 [N, K, 3], cell of the neighbour; 0 where there are fewer than K.
        places: float32 [N, 3], fractional coordinates in [0, 1).
        lattice: float32 [3, 3], cell vectors as rows, in angstrom.
    """

    atomic_numbers: np.ndarray
    neighbours: np.ndarray
    distances: np.ndarray
    images: np.ndarray | None = None
    places: np.ndarray | None = None
    lattice: np.ndarray | None = None

    @property
    def vectors(self) -> np.ndarray:
        """Vectors from every atom to its neighbours in angstrom, float32 [N, K, 3]; 0 where there is no neighbour.

        Raises:
            ValueError: the graph has no images.
        """
        if self.images is None or self.places is None or self.lattice is None:
            raise ValueError("this graph has no images of its neighbours, so no vectors")
        steps = self.places[self.neighbours] + self.images - self.places[:, None]
        return np.where(np.isfinite(self.distances)[..., None], steps @ self.lattice, np.float32(0.0))


def build_graph(structure: Structure, settings: GraphSettings | None = None) -> CrystalGraph:
    """Build the graph of one crystal.

    Raises:
        RowError: partial occupancy, an element above Z = 100, too many atoms, or two atoms in one place.
    """
    settings = settings or GraphSettings()
    original = settings.rule == ORIGINAL_RULE
    if original:
        structure = structure.get_sorted_structure()  # as pymatgen's CIF reader leaves it, which the original code uses
    numbers = _atomic_numbers(structure)
    pairs = _search(structure, settings.cutoff_angstrom) if original else _find_pairs(structure, settings)
    if pairs.distance.size and pairs.distance.min() < SAME_PLACE_ANGSTROM:
        raise RowError(f"two atoms in one place: {pairs.distance.min():.4f} angstrom apart")
    pairs = pairs.take(np.lexsort((pairs.distance, pairs.centre)))
    if not original:
        pairs = _up_to_last_shell(pairs, settings)
        pairs = _without_ties(pairs, numbers, structure, settings)
    return _kept_neighbours(numbers, pairs, structure, settings)


def _atomic_numbers(structure: Structure) -> np.ndarray:
    if not 0 < len(structure) <= MOST_ATOMS:
        raise RowError(f"{len(structure)} atoms: between 1 and {MOST_ATOMS} are possible")
    return np.array([_atomic_number(site.species) for site in structure.sites], dtype=np.uint8)


def _atomic_number(species: Composition) -> int:
    if species.num_atoms > 1 + OCCUPANCY_TOLERANCE:  # a CIF reader merges such sites
        raise RowError(f"two atoms in one place ({species}): occupancies add up to more than 1")
    if len(species) != 1 or species.num_atoms < 1 - OCCUPANCY_TOLERANCE:
        raise RowError(f"partial occupancy ({species}): CGCNN graphs need one element on every site")
    (specie,) = species
    atomic_number = getattr(specie, "Z", 0)
    if not 1 <= atomic_number <= LARGEST_ATOMIC_NUMBER:
        raise RowError(f"{specie} (Z={atomic_number}): features exist for Z=1..{LARGEST_ATOMIC_NUMBER} only")
    return int(atomic_number)


class _Pairs(NamedTuple):
    """Atoms and their neighbours: index of the centre, index, cell and distance of the neighbour."""

    centre: np.ndarray
    neighbour: np.ndarray
    image: np.ndarray
    distance: np.ndarray

    def take(self, rows: np.ndarray) -> _Pairs:
        """Return some of the pairs, or all in another order."""
        return _Pairs(*(values[rows] for values in self))


def _find_pairs(structure: Structure, settings: GraphSettings) -> _Pairs:
    """Search spheres that grow until every atom has its neighbours: no nearer one can be missed then."""
    if settings.neighbours == "all":
        return _search(structure, settings.cutoff_angstrom + 2 * settings.tie_tolerance_angstrom)
    radius = _first_radius(structure.volume / len(structure), settings.cutoff_angstrom)
    margin = (SHELL_TOLERANCES + 2 if settings.whole_shells else 2) * settings.tie_tolerance_angstrom
    while True:
        pairs = _search(structure, radius)
        inside = pairs.distance <= radius - margin  # the shell of the last neighbour is inside the sphere
        counts = np.bincount(pairs.centre[inside], minlength=len(structure))
        if radius >= settings.cutoff_angstrom or counts.min() >= settings.neighbours:
            return pairs
        radius = min(radius * RADIUS_GROWTH, settings.cutoff_angstrom)


def _search(structure: Structure, radius: float) -> _Pairs:
    """Return all pairs within a radius, in the order of pymatgen's search."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice = np.ascontiguousarray(structure.lattice.matrix, dtype=float)
    positions = np.ascontiguousarray(structure.cart_coords, dtype=float)
    cubes = np.prod(np.ptp(positions, axis=0) / radius + 1)
    if not cubes <= MOST_SEARCH_CUBES:
        raise RowError(f"atoms spread over {np.ptp(positions, axis=0).max():.4g} angstrom: move them into the cell")
    periodic = np.array(structure.lattice.pbc, dtype=np.int64)
    pairs = _Pairs(*find_points_in_spheres(positions, positions, r=radius, pbc=periodic, lattice=lattice, tol=1e-8))
    return pairs.take((pairs.centre != pairs.neighbour) | (pairs.distance > 1e-8))


def _first_radius(volume_per_atom: float, cutoff: float) -> float:
    return min(cutoff, (3 * EXPECTED_NEIGHBOURS * volume_per_atom / (4 * np.pi)) ** (1 / 3))


def _up_to_last_shell(pairs: _Pairs, settings: GraphSettings) -> _Pairs:
    """Keep the pairs up to the shell that holds the K-th neighbour; they are sorted by centre and distance."""
    if settings.neighbours == "all":
        return pairs.take(pairs.distance <= settings.cutoff_angstrom + settings.tie_tolerance_angstrom)
    starts = np.flatnonzero(_differs(pairs.centre, 0))
    lengths = np.diff(np.append(starts, len(pairs.centre)))
    last = pairs.distance[starts + np.minimum(lengths, settings.neighbours) - 1]
    # a shell chains pairs that are each within the tolerance of the next: some slack costs nothing here
    return pairs.take(pairs.distance <= np.repeat(last, lengths) + SHELL_TOLERANCES * settings.tie_tolerance_angstrom)


def _without_ties(pairs: _Pairs, numbers: np.ndarray, structure: Structure, settings: GraphSettings) -> _Pairs:
    """Order the pairs of each shell by the tie rule; pairs are sorted by centre and distance."""
    new_shell = _differs(pairs.distance, settings.tie_tolerance_angstrom) | _differs(pairs.centre, 0)
    if new_shell.all():
        return pairs
    positions = structure.cart_coords
    vector = positions[pairs.neighbour] + pairs.image @ structure.lattice.matrix - positions[pairs.centre]
    step = np.floor((vector + DIRECTION_SHIFT_ANGSTROM) / DIRECTION_STEP_ANGSTROM)
    keys = (step[:, 2], step[:, 1], step[:, 0], numbers[pairs.neighbour], np.cumsum(new_shell))
    return pairs.take(np.lexsort(keys))


def _differs(values: np.ndarray, tolerance: float) -> np.ndarray:
    """Mark the values that differ from the one before; the first does."""
    marks = np.ones(len(values), dtype=bool)
    marks[1:] = np.abs(values[1:] - values[:-1]) > tolerance
    return marks


def _kept_neighbours(numbers: np.ndarray, pairs: _Pairs, structure: Structure, settings: GraphSettings) -> CrystalGraph:
    """Lay the pairs that are kept into slots; they are sorted by centre, shell and the tie rule."""
    atoms = len(numbers)
    starts = np.searchsorted(pairs.centre, np.arange(atoms))
    rank = np.arange(len(pairs.centre)) - starts[pairs.centre]
    width = settings.degree or int(rank.max(initial=0)) + 1  # without a degree all that is here belongs to the graph
    kept = rank < width
    slots = pairs.centre[kept], rank[kept]
    if width > MOST_NEIGHBOURS:
        raise RowError(
            f"an atom has {width} neighbours within {settings.cutoff_angstrom:g} angstrom; choose a smaller cutoff"
        )
    neighbours = np.zeros((atoms, width), dtype=np.int16)
    distances = np.full((atoms, width), np.inf, dtype=np.float32)
    images = np.zeros((atoms, width, 3), dtype=np.int16)
    neighbours[slots], distances[slots] = pairs.neighbour[kept], pairs.distance[kept]
    cells = np.floor(structure.frac_coords)  # images are of places within the cell, which are the exacter numbers
    away = pairs.image[kept] + cells[pairs.neighbour[kept]] - cells[pairs.centre[kept]]
    if np.abs(away).max(initial=0) > MOST_CELLS_AWAY:
        raise RowError(f"a neighbour is {np.abs(away).max():g} cells away; {MOST_CELLS_AWAY} are possible")
    images[slots] = away
    places = (structure.frac_coords - cells).astype(np.float32)
    return CrystalGraph(numbers, neighbours, distances, images, places, structure.lattice.matrix.astype(np.float32))
