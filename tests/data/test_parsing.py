"""CIFs whose symmetry is written in other ways, or not understood."""

import pytest

from srcgcnn.data.parsing import parse_structure
from srcgcnn.data.source import RowError, SourceRow

SALT_CELL = """data_salt
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
{group}
loop_
 _atom_site_label
 _atom_site_fract_x
 _atom_site_fract_y
 _atom_site_fract_z
 Na 0 0 0
 Cl 0.5 0.5 0.5
"""


def salt_atoms(group):
    return len(parse_structure(SourceRow("x", "cif", SALT_CELL.format(group=group), {})))


@pytest.mark.parametrize(
    ("group", "atoms"),
    [
        ("_symmetry_space_group_name_H-M 'F m -3 m'", 8),
        ("_symmetry_Int_Tables_number 225", 8),
        ("", 2),
        ("_symmetry_space_group_name_H-M 'P 1'", 2),
        ("_space_group_IT_number 1", 2),
        ("_symmetry_space_group_name_H-M ?", 2),
    ],
)
def test_a_cif_without_operations_has_those_of_its_group(group, atoms):
    assert salt_atoms(group) == atoms


@pytest.mark.parametrize(
    "group",
    [
        "_symmetry_space_group_name_H-M 'F 4/m -3 2/m'",
        "_space_group_name_H-M_alt 'F m 3 m'",
        "_space_group_name_Hall '-F 4 2 3'",
        "_space_group.IT_number 225",
        "_space_group_name_H-M_ref 'F m -3 m'",
    ],
)
def test_a_group_that_is_not_understood_is_not_read_as_one_without_symmetry(group):
    with pytest.raises(RowError, match=r"its space group, .* is not understood: add its operations"):
        salt_atoms(group)


def test_of_a_cif_with_two_crystals_none_is_dropped_silently():
    two = SALT_CELL.format(group="") + SALT_CELL.format(group="").replace("data_salt", "data_other")
    with pytest.raises(RowError, match="a CIF of 2 crystals: give each a file of its own"):
        parse_structure(SourceRow("x", "cif", two, {}))


def test_a_block_of_a_journal_without_a_crystal_is_passed_over():
    article = "data_global\n_publ_contact_author_name 'A. Author'\n\n" + SALT_CELL.format(group="")
    assert len(parse_structure(SourceRow("x", "cif", article, {}))) == 2
    with pytest.raises(RowError):
        parse_structure(SourceRow("x", "cif", article.partition("data_salt")[0], {}))
