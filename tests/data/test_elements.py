"""The element features: the published table unchanged, and the physics that its columns stand for."""

import hashlib

import numpy as np
import pytest
from pymatgen.core import Element

from srcgcnn.data.elements import ELEMENT_FEATURES, element_table

# of the values of atom_init.json in txie-93/cgcnn, row 0 zero, uint8, row after row
SHA256 = "3205553ea95176ab09392078b02b0f745120b74bba3c6708ef1b7c8972f4add2"
ELEMENTS = range(1, 101)
COLUMNS = {
    "group": slice(0, 19),
    "period": slice(19, 26),
    "electronegativity": slice(26, 36),
    "radius": slice(36, 46),
    "valence": slice(46, 58),
    "ionisation": slice(58, 68),
    "affinity": slice(68, 78),
    "block": slice(78, 82),
    "volume": slice(82, 92),
}
MISSING = {
    "electronegativity": {2, 10, 18, 36, 61, 63, 65, 70, 86, *range(95, 101)},
    "affinity": {2, 10, 12, 18, 25, 30, 36, 48, 61, 62, 64, 67, 68, 80, 86, *range(90, 101)},
    "volume": {61, 85, 86, 87, 94, *range(97, 101)},
}


def columns(name):
    return element_table()[:, COLUMNS[name]]


def hot(name):
    """Return the place of the one in a block, for every Z."""
    return columns(name).argmax(axis=1)


def in_f_block(atomic_number):
    """Say what the file counts as f block: Lu and Lr are group 3."""
    return 57 <= atomic_number <= 70 or 89 <= atomic_number <= 100


def group_of(atomic_number):
    return 0 if in_f_block(atomic_number) else Element.from_Z(atomic_number).group


def block_of(atomic_number):
    if in_f_block(atomic_number):
        return "f"
    return {2: "s", 71: "d"}.get(atomic_number, Element.from_Z(atomic_number).block)


def valence_of(atomic_number):
    if atomic_number in {2, 46} or in_f_block(atomic_number):
        return {46: 12}.get(atomic_number, 2)  # the file gives Pd 12
    group = group_of(atomic_number)
    return group if group <= 12 else group - 10


def test_table_has_one_row_per_element_and_none_for_zero():
    table = element_table()
    assert table.dtype == np.uint8
    assert table.shape == (101, ELEMENT_FEATURES)
    assert not table[0].any()
    assert table.max() == 1


def test_values_are_the_published_ones():
    assert hashlib.sha256(element_table().tobytes()).hexdigest() == SHA256


def test_the_shared_table_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        element_table()[1, 0] = 1


@pytest.mark.parametrize("name", COLUMNS)
def test_every_block_is_one_hot_or_missing(name):
    missing = {z for z in ELEMENTS if not columns(name)[z].any()}
    assert missing == MISSING.get(name, set())
    assert all(columns(name)[z].sum() == 1 for z in ELEMENTS if z not in missing)


def test_groups_periods_blocks_and_valence_electrons_of_all_elements():
    for z in ELEMENTS:
        assert hot("group")[z] == group_of(z), z
        assert hot("period")[z] == Element.from_Z(z).row - 1, z
        assert "spdf"[hot("block")[z]] == block_of(z), z
        assert hot("valence")[z] == valence_of(z) - 1, z


def test_ionisation_energies_of_all_elements_in_logarithmic_bins():
    for z in ELEMENTS:
        energy = Element.from_Z(z).ionization_energy
        assert hot("ionisation")[z] == np.clip((np.log(energy) - 1.3) // 0.2, 0, 9), z


@pytest.mark.parametrize(
    ("symbol", "group", "period", "block"),
    [("H", 1, 1, "s"), ("Fe", 8, 4, "d"), ("O", 16, 2, "p"), ("U", 0, 7, "f"), ("Lu", 3, 6, "d")],
)
def test_well_known_elements(symbol, group, period, block):
    z = Element(symbol).Z
    assert (hot("group")[z], hot("period")[z] + 1, "spdf"[hot("block")[z]]) == (group, period, block)
