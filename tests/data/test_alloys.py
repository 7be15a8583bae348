"""The built-in alloys: their energy against a plain sum, their reproducibility, and that one step cannot see it."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from srcgcnn.data.alloys import CUTOFF_ANGSTROM, DONORS, TARGET, alloys_source, ordering_energy
from srcgcnn.data.graph import build_graph
from srcgcnn.data.source import SourceError

GOLDEN = [
    ("alloy-0001-Cu3AgPt8", -0.405363),
    ("alloy-0002-Cu2Ag3Au4", 0.000508),
    ("alloy-0003-Cu5Ag2PtAu4", -0.454398),
]


@pytest.fixture(scope="module")
def rows():
    return list(alloys_source(48).rows())


def test_the_energy_is_the_sum_over_pairs():
    edge = 4.0
    crystal = Structure(Lattice.cubic(edge), ["Cu", "Cu", "Au", "Au"], FACE_CENTRES)
    charges = {"Cu": 0.5, "Au": -0.5}
    reach = range(-7, 8)
    shifts = np.array([[x, y, z] for x in reach for y in reach for z in reach])
    energy = 0.0
    for one in crystal:
        for other in crystal:
            distances = np.linalg.norm((other.frac_coords - one.frac_coords + shifts) * edge, axis=1)
            counted = distances[(distances > 1e-6) & (distances <= CUTOFF_ANGSTROM)]
            pair = charges[one.specie.symbol] * charges[other.specie.symbol]
            energy += 14.399645 * pair * float(np.sum(np.exp(-counted / 3.0) / counted)) / 2
    assert ordering_energy(crystal) == pytest.approx(energy / 4, rel=1e-9)
    assert ordering_energy(crystal) < 0  # layers of both charges: L1_0 binds


FACE_CENTRES = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


def test_twelve_neighbours_are_the_first_shell_and_nothing_else(rows):
    for row in rows:
        graph = build_graph(row.content)
        nearest = graph.distances.min()
        assert graph.distances.max() == pytest.approx(nearest, rel=1e-4), row.row_id  # the second shell is at 1.41


@pytest.mark.full
def test_crystals_whose_atoms_see_the_same_first_shells_differ_in_their_energy():
    """What one step sees is the same, what two steps see is not: L1_1 and its like share first shells."""
    found = {}
    for row in alloys_source(300).rows():
        crystal = row.content
        centres, neighbours, _, distances = crystal.get_neighbor_list(3.3)
        shells = {site: [] for site in range(len(crystal))}
        for centre, neighbour, distance in zip(centres, neighbours, distances, strict=True):
            if distance < 1.2 * distances.min():
                shells[centre].append(crystal[neighbour].specie.symbol in DONORS)
        seen = sorted((crystal[site].specie.symbol in DONORS, sum(shell)) for site, shell in shells.items())
        found.setdefault(tuple(seen), []).append(row.targets[TARGET])
    spreads = [max(energies) - min(energies) for energies in found.values() if len(energies) > 1]
    assert max(spreads) > 0.05  # eV/atom: more than twice the error of three steps in the default sweep


def test_same_rows_every_time_and_more_rows_begin_with_the_same(rows):
    again = list(alloys_source(48).rows())
    assert [(row.row_id, row.targets) for row in again] == [(row.row_id, row.targets) for row in rows]
    assert [row.targets for row in alloys_source(5).rows()] == [row.targets for row in rows[:5]]
    assert all(one.content == other.content for one, other in zip(rows, again, strict=True))


def test_first_rows_keep_their_values(rows):
    # golden: a change here changes every trial's key, so raise ALLOYS_VERSION with it
    assert [(row.row_id, row.targets[TARGET]) for row in rows[:3]] == GOLDEN


def test_rows_are_usable(rows):
    assert len({row.row_id for row in rows}) == len({row.targets[TARGET] for row in rows}) == 48
    assert {len(row.content) for row in rows} == {8, 9, 12}
    for row in rows:
        donors = sum(site.specie.symbol in DONORS for site in row.content) / len(row.content)
        assert 0.3 < donors < 0.7
    assert alloys_source().units == ("eV/atom",)
    assert "not materials data" in alloys_source().provenance


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (5, -1)])
def test_impossible_settings_are_refused(count, seed):
    with pytest.raises(SourceError, match=f"count={count}.*seed={seed}"):
        alloys_source(count, seed)
