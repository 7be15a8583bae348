"""Data as people have them: other delimiters and encodings, units in headers, folders with a table, POSCAR files."""

import codecs

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar

from srcgcnn.cli.main import main
from srcgcnn.data.build import build_store
from srcgcnn.data.demo import demo_source
from srcgcnn.data.source import SourceError
from srcgcnn.data.sources.registry import open_source
from srcgcnn.prediction.crystals import read_crystals

CRYSTALS = [row.content for row in demo_source(4).rows()]
CIFS = [crystal.to(fmt="cif") for crystal in CRYSTALS]


def table_text(delimiter, header=("id", "cif", "gap [eV]"), values=(0.5, 1.5, 2.5, 3.5)):
    rows = [
        delimiter.join((f"x{k}", f'"{cif}"', str(value)))
        for k, (cif, value) in enumerate(zip(CIFS, values, strict=True))
    ]
    return "\n".join([delimiter.join(header), *rows]) + "\n"


def store_of(source, tmp_path):
    return build_store(source, tmp_path / "store", processes=1).store


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t")])
def test_delimiters_and_encodings_are_found_out(tmp_path, name, delimiter, encoding):
    text = table_text(delimiter).encode(encoding)
    (tmp_path / name).write_bytes(codecs.BOM_UTF16_BE + text if encoding == "utf-16-be" else text)
    store = store_of(open_source(str(tmp_path / name)), tmp_path)
    assert store.ids == ["x0", "x1", "x2", "x3"]
    assert store.target("gap [eV]").tolist() == [0.5, 1.5, 2.5, 3.5]
    assert store.manifest.rejected == 0


def test_a_unit_in_the_header_is_the_unit(tmp_path):
    (tmp_path / "a.csv").write_text(table_text(","))
    source = open_source(str(tmp_path / "a.csv"), ["gap"])
    assert (source.targets, source.units) == (("gap [eV]",), ("eV",))
    assert open_source(str(tmp_path / "a.csv"), ["gap [eV]"], unit="meV").units == ("meV",)


def test_a_unit_is_written_once(tmp_path, capsys):
    (tmp_path / "a.csv").write_text(table_text(","))
    assert main(["data", "build", str(tmp_path / "a.csv"), "--out", str(tmp_path / "store")]) == 0
    assert "target       gap [eV]: mean" in capsys.readouterr().out
    assert main(["sweep", "--data", str(tmp_path / "a.csv"), "--dry-run", "--out", str(tmp_path / "out")]) == 0
    assert "data: a, gap [eV]; graphs" in capsys.readouterr().out


def test_decimal_commas_are_named(tmp_path):
    (tmp_path / "a.csv").write_text(table_text(";", ("id", "cif", "gap"), ("0,5", "1,5", "2,5", "3,5")))
    with pytest.raises(SourceError, match="'0,5' in row 1, no number found; write decimals with a point"):
        open_source(str(tmp_path / "a.csv"), ["gap"])


def test_true_and_false_are_one_and_zero(tmp_path):
    (tmp_path / "a.csv").write_text(table_text(",", ("id", "cif", "metal"), ("True", "false", "TRUE", "False")))
    assert store_of(open_source(str(tmp_path / "a.csv")), tmp_path).target("metal").tolist() == [1.0, 0.0, 1.0, 0.0]


@pytest.fixture
def folder(tmp_path):
    """A folder of CIF and POSCAR files without a table."""
    inside = tmp_path / "crystals"
    inside.mkdir()
    for number, (crystal, cif) in enumerate(zip(CRYSTALS[:3], CIFS, strict=False)):
        (inside / f"x{number}.cif").write_text(cif)
        Poscar(crystal).write_file(inside / f"p{number}.vasp")
    Poscar(CRYSTALS[3]).write_file(inside / "POSCAR_last")
    return inside


def test_a_folder_with_a_table_beside_the_files(folder, tmp_path):
    rows = ["material_id;gap [eV]", "x0;1.0", "p1;2.0", "x2.cif;3.0", "last;4.0", "gone;5.0", "../x;6.0"]
    (folder / "targets.csv").write_text("\n".join(rows))
    report = build_store(open_source(str(folder)), tmp_path / "store", processes=1)
    assert report.store.ids == ["x0", "p1", "x2.cif", "last"]
    assert report.store.target("gap [eV]").tolist() == [1.0, 2.0, 3.0, 4.0]
    assert report.store.formulas[3] == CRYSTALS[3].composition.reduced_formula
    assert [row.row_id for row in report.rejected] == ["gone", "../x"]
    assert "names no file in the folder (endings: .cif" in report.rejected[0].reason


def test_a_decimal_comma_between_commas_is_not_read_as_a_whole_number(folder, tmp_path):
    (folder / "targets.csv").write_text("id,gap\nx0,1,5\np1,2\n")
    report = build_store(open_source(str(folder)), tmp_path / "store", processes=1)
    assert report.store.target("gap").tolist() == [2.0]
    assert [(row.row_id, row.reason) for row in report.rejected] == [("x0", "has 3 cells, the header 2")]


def test_a_column_of_file_names_beside_ids(folder, tmp_path):
    (folder / "targets.tsv").write_text("id\tfile\ty\nfirst\tx0.cif\t1\nsecond\tPOSCAR_last\t2\n")
    store = store_of(open_source(str(folder)), tmp_path)
    assert store.ids == ["first", "second"]
    assert store.target("y").tolist() == [1.0, 2.0]


def test_a_changed_file_of_a_folder_is_another_source(folder):
    (folder / "targets.csv").write_text("id,y\nx0,1\n")
    before = open_source(str(folder)).content_hash
    (folder / "x0.cif").write_text(CIFS[1])
    assert open_source(str(folder)).content_hash != before


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "a folder without a table of targets; put one into it, .*supported: demo"),
        ({"a.csv": "id,y\n", "b.csv": "id,y\n"}, r"needs one table with a header \(found: a.csv, b.csv\)"),
        ({"a.csv": "structure,y\nx0,1\n"}, "no column file or filename .* that names the files; columns: structure, y"),
    ],
)
def test_a_folder_that_does_not_say_what_belongs_together(folder, files, message):
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(SourceError, match=message):
        open_source(str(folder))


def test_a_table_outside_of_the_folder_of_its_crystals_is_told_where_to_go(folder):
    (folder.parent / "beside.csv").write_text("id,y\nx0,1\n")
    with pytest.raises(
        SourceError, match="If crystals are files, put this table into their folder and name the folder"
    ):
        open_source(str(folder.parent / "beside.csv"))


def test_one_crystal_is_no_data_but_can_be_predicted(folder, capsys):
    for name in ("x0.cif", "p0.vasp", "POSCAR_last"):
        assert main(["data", "build", str(folder / name), "--out", str(folder / "store")]) == 2
        assert "one crystal without a target" in capsys.readouterr().err
        (crystal,) = read_crystals([folder / name])
        assert crystal.structure is not None, crystal.error
    assert len(list(read_crystals([folder]))) == 7


def test_a_poscar_gives_its_structure(folder):
    (crystal,) = read_crystals([folder / "p0.vasp"])
    assert crystal.structure.matches(CRYSTALS[0])


def test_a_poscar_without_symbols_is_a_bad_row(tmp_path):
    (tmp_path / "old.vasp").write_text("salt\n1.0\n3 0 0\n0 3 0\n0 0 3\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n")
    (crystal,) = read_crystals([tmp_path / "old.vasp"])
    assert crystal.error == "a POSCAR without element symbols: add them as its sixth line"


def test_a_hostile_poscar_is_a_bad_row(tmp_path):
    crystal = Structure(Lattice.cubic(1e9), ["Na"], [[0, 0, 0]])
    Poscar(crystal).write_file(tmp_path / "big.vasp")
    (found,) = read_crystals([tmp_path / "big.vasp"])
    assert "a cell vector of 1e+09 angstrom" in found.error
