"""Every kind of source gives the same crystals; every mistake gives a message that helps."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Structure

from srcgcnn.data.demo import demo_source
from srcgcnn.data.parsing import parse_structure
from srcgcnn.data.source import RowError, SourceError, unit_of
from srcgcnn.data.sources.registry import open_source

COUNT = 5
TARGET = "electrostatic_energy"


@pytest.fixture(scope="module")
def crystals():
    """Return (id, structure, energy) of a few crystals, without oxidation states as files have them."""
    return [(row.row_id, plain(row.content), row.targets[TARGET]) for row in demo_source(COUNT).rows()]


def plain(crystal):
    symbols = [site.specie.symbol for site in crystal]
    return Structure(crystal.lattice, symbols, crystal.frac_coords)


def distances(crystal):
    """Return all distances in order of size: reading a CIF groups the sites by element."""
    return np.sort(crystal.distance_matrix, axis=None)


def table_of(crystals, **columns):
    records = [{"material_id": row_id, "CIF": crystal.to(fmt="cif"), TARGET: y} for row_id, crystal, y in crystals]
    return pd.DataFrame(records).assign(**columns)


def write_folder(path, crystals):
    path.mkdir()
    for row_id, crystal, _ in crystals:
        crystal.to(filename=str(path / f"{row_id}.cif"), fmt="cif")
    lines = [f"{row_id},{energy!r}\n" for row_id, _, energy in crystals]
    (path / "id_prop.csv").write_text("".join(lines))
    return path


def write_csv(path, crystals):
    table_of(crystals, formula="text").to_csv(path, index=False)
    return path


def write_parquet(path, crystals):
    table_of(crystals, formula="text").to_parquet(path)
    return path


def write_split(path, crystals):
    table = pd.DataFrame(
        [{"structure": crystal.as_dict(), TARGET: energy} for _, crystal, energy in crystals],
        index=[row_id for row_id, _, _ in crystals],
    )
    table.to_json(path, orient="split", double_precision=15)
    return path


def write_lines(path, crystals):
    records = [{"id": row_id, "structure": crystal.as_dict(), TARGET: energy} for row_id, crystal, energy in crystals]
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def write_atoms(path, crystals):
    from ase.io import write

    frames = [crystal.to_ase_atoms() for _, crystal, _ in crystals]
    for atoms, (row_id, _, energy) in zip(frames, crystals, strict=True):
        atoms.info = {"name": row_id, TARGET: energy}
    write(path, frames)
    return path


def write_database(path, crystals):
    from ase.db import connect

    with connect(path) as database:
        for row_id, crystal, energy in crystals:
            database.write(crystal.to_ase_atoms(), name=row_id, **{TARGET: energy})
    return path


WRITERS = {
    "folder": write_folder,
    "table.csv": write_csv,
    "table.csv.gz": write_csv,
    "table.parquet": write_parquet,
    "matbench.json": write_split,
    "matbench.json.gz": write_split,
    "rows.jsonl": write_lines,
    "rows.jsonl.gz": write_lines,
    "frames.extxyz": write_atoms,
    "frames.traj": write_atoms,
    "frames.db": write_database,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_crystals(name, crystals, tmp_path):
    source = open_source(str(WRITERS[name](tmp_path / name, crystals)))
    rows = list(source.rows())
    assert source.count in {None, COUNT}
    assert source.name == name.split(".")[0]
    assert source.targets == (("target",) if name == "folder" else (TARGET,))
    assert source.units == (("",) if name == "folder" else ("eV/atom",))
    assert str(tmp_path) not in source.provenance
    assert [row.row_id for row in rows] == [row_id for row_id, _, _ in crystals]
    for row, (_, crystal, energy) in zip(rows, crystals, strict=True):
        assert float(row.targets[source.targets[0]]) == pytest.approx(energy, abs=1e-9)
        read = parse_structure(row)
        assert read.composition == crystal.composition
        assert read.volume == pytest.approx(crystal.volume, rel=1e-5)
        assert distances(read) == pytest.approx(distances(crystal), abs=1e-4)


@pytest.mark.parametrize("name", WRITERS)
def test_hash_follows_the_content(name, crystals, tmp_path):
    whole, part = tmp_path / name, tmp_path / f"part-{name}"
    opened = open_source(str(WRITERS[name](whole, crystals)))
    assert open_source(str(whole)).content_hash == opened.content_hash
    assert open_source(str(WRITERS[name](part, crystals[:-1]))).content_hash != opened.content_hash


def test_hash_of_a_folder_covers_its_cif_files(crystals, tmp_path):
    path = write_folder(tmp_path / "f", crystals)
    before = open_source(str(path)).content_hash
    with (path / f"{crystals[-1][0]}.cif").open("a") as stream:
        stream.write("# a comment\n")
    assert open_source(str(path)).content_hash != before


def test_demo_is_a_source():
    assert open_source("demo").content_hash == demo_source().content_hash
    with pytest.raises(SourceError, match=f"no target 'gap'.*{TARGET}"):
        open_source("demo", ["gap"])


def test_unit_overrides_the_guess(crystals, tmp_path):
    path = str(write_csv(tmp_path / "t.csv", crystals))
    assert open_source(path, unit="meV/atom").units == ("meV/atom",)
    with pytest.raises(SourceError, match="2 parts for 1 targets"):
        open_source(path, unit="eV,eV")


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("formation_energy_per_atom", "eV/atom"),
        ("band_gap", "eV"),
        ("formation_energy_kJ_mol", ""),
        ("band_gap_meV", ""),
        ("log10_bulk_modulus", ""),
        ("bulk_modulus [kbar]", "kbar"),
    ],
)
def test_a_unit_is_guessed_unless_the_name_speaks_against_it(name, unit):
    assert unit_of(name) == unit


def test_text_is_not_offered_as_a_target(crystals, tmp_path):
    path = tmp_path / "t.csv"
    table_of(crystals, formula="text").to_csv(path, index=False)
    with pytest.raises(SourceError, match=rf"no target 'gap'; columns that can be one: {TARGET}$"):
        open_source(str(path), ["gap"])
    table_of(crystals, formula="text").drop(columns=TARGET).to_csv(path, index=False)
    with pytest.raises(SourceError, match="no numeric column"):
        open_source(str(path))


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "json", "jsonl", "folder"])
def test_a_target_without_any_number_is_refused_before_a_build(kind, crystals, tmp_path):
    words = ["", "P6_3/mmc", "Fm-3m", "n/a", "R-3m"]
    path, table = tmp_path / f"table.{kind}", table_of(crystals, group=words)
    if kind == "folder":
        write_folder(path, crystals)
        ids = table["material_id"]
        (path / "id_prop.csv").write_text("".join(f"{one},{word}\n" for one, word in zip(ids, words, strict=True)))
    elif kind == "parquet":
        table.to_parquet(path)
    elif kind.startswith("json"):
        layout = {"orient": "records", "lines": True} if kind == "jsonl" else {"orient": "split"}
        table.to_json(path, **layout)
    else:
        table.to_csv(path, index=False)
    with pytest.raises(SourceError, match="target 'group' is not numeric: 'P6_3/mmc' in row 2, no number found"):
        open_source(str(path), ["group"])
    if kind == "csv":
        arguments = ["--dry-run", "--data", str(path), "--target", "group", "--out", str(tmp_path / "out")]
        command = [sys.executable, "sweeps/depth_sweep.py", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
        assert "in row 2" in ended.stderr


def test_words_among_numbers_and_flags_are_no_reason_to_refuse(crystals, tmp_path):
    table_of(crystals, mixed=["bad", "1.5", "", "x", "2"]).to_csv(tmp_path / "t.csv", index=False)
    assert open_source(str(tmp_path / "t.csv"), ["mixed"]).targets == ("mixed",)
    table_of(crystals, metal=[True, False] * 2 + [True]).to_parquet(tmp_path / "t.parquet")
    assert open_source(str(tmp_path / "t.parquet"), ["metal"]).targets == ("metal",)


def test_two_numeric_columns_need_a_choice(crystals, tmp_path):
    path = tmp_path / "t.csv"
    table_of(crystals, band_gap=["1", "", "nan", "2", "3"]).to_csv(path, index=False)
    with pytest.raises(SourceError, match=f"2 numeric columns.*{TARGET}, band_gap"):
        open_source(str(path))
    rows = list(open_source(str(path), ["band_gap"]).rows())
    assert [row.targets["band_gap"] for row in rows] == ["1", "", "nan", "2", "3"]
    assert open_source(str(path), ["band_gap", TARGET], unit="eV,eV/atom").units == ("eV", "eV/atom")


@pytest.mark.parametrize("name", ["table.csv", "table.parquet", "matbench.json", "rows.jsonl", "frames.extxyz"])
def test_unknown_target_names_the_closest_first(name, crystals, tmp_path):
    path = str(WRITERS[name](tmp_path / name, crystals))
    with pytest.raises(SourceError, match=f"no target 'electrostatic'; columns that can be one: {TARGET}"):
        open_source(path, ["electrostatic"])


def test_rows_without_an_id_column_are_numbered(crystals, tmp_path):
    path = tmp_path / "t.csv"
    table_of(crystals).drop(columns="material_id").to_csv(path, index=False)
    assert [row.row_id for row in open_source(str(path)).rows()][:2] == ["row-0", "row-1"]


def test_the_first_id_column_is_taken_as_text(crystals, tmp_path):
    path = tmp_path / "t.csv"
    table_of(crystals, name="x", id=[f"00{k}" for k in range(COUNT)]).to_csv(path, index=False)
    assert next(open_source(str(path)).rows()).row_id == "000"


def test_empty_cif_is_a_bad_row(crystals, tmp_path):
    path = tmp_path / "t.parquet"
    table = table_of(crystals)
    table.loc[1, "CIF"] = None
    table.to_parquet(path)
    rows = list(open_source(str(path)).rows())
    with pytest.raises(RowError, match="column 'CIF' is empty"):
        parse_structure(rows[1])
    parse_structure(rows[2])


def test_missing_and_broken_cif_files_are_bad_rows(crystals, tmp_path):
    path = write_folder(tmp_path / "f", crystals)
    gone, broken = (row_id for row_id, _, _ in crystals[:2])
    (path / f"{gone}.cif").unlink()
    (path / f"{broken}.cif").write_text("not a cif")
    rows = list(open_source(str(path)).rows())
    assert len(rows) == COUNT
    with pytest.raises(RowError, match=f"{gone}.cif cannot be read: No such file"):
        parse_structure(rows[0])
    with pytest.raises(RowError, match="cannot parse the cif"):
        parse_structure(rows[1])


def test_folder_with_two_values(crystals, tmp_path):
    path = write_folder(tmp_path / "f", crystals)
    ids = [row_id for row_id, _, _ in crystals]
    (path / "id_prop.csv").write_text("".join(f"{row_id}, 1.5, 2\n" for row_id in ids[:-1]) + f"{ids[-1]},3\n\n")
    assert open_source(str(path)).targets == ("target_1", "target_2")
    rows = list(open_source(str(path), ["gap", "bulk_modulus"]).rows())
    assert rows[0].targets == {"gap": "1.5", "bulk_modulus": "2"}
    assert rows[-1].targets == {"gap": "3"}
    with pytest.raises(SourceError, match="2 value columns"):
        open_source(str(path), ["gap"])


def test_malformed_lines_are_bad_rows(crystals, tmp_path):
    path = write_lines(tmp_path / "r.jsonl", crystals)
    path.write_text(path.read_text() + '{"id": "cut", "struc\n[1]\n\n{"id": "bare", "electrostatic_energy": 1}\n')
    rows = list(open_source(str(path)).rows())
    assert [row.row_id for row in rows[COUNT:]] == ["row-5", "row-6", "bare"]
    reasons = ["line 6 is not JSON", "line 7 is not a JSON object", "no 'structure'"]
    for row, reason in zip(rows[COUNT:], reasons, strict=True):
        with pytest.raises(RowError, match=reason):
            parse_structure(row)


def test_lines_may_hold_cif_text_and_missing_values(crystals, tmp_path):
    path = tmp_path / "r.jsonl"
    text = crystals[0][1].to(fmt="cif")
    lines = [{"cif": text, "gap": gap} for gap in (None, 1, 2.5)]
    path.write_text("\n".join(map(json.dumps, lines)))
    source = open_source(str(path))
    assert [row.targets["gap"] for row in source.rows()] == [None, 1, 2.5]
    assert parse_structure(next(source.rows())).composition == crystals[0][1].composition


def test_large_matbench_files_are_read_in_blocks(crystals, tmp_path, monkeypatch):
    import srcgcnn.data.sources.structures_json as module

    path = write_split(tmp_path / "m.json", crystals)
    whole = [row.content for row in open_source(str(path)).rows()]
    monkeypatch.setattr(module, "BLOCK_CHARACTERS", 700)
    assert [row.content for row in open_source(str(path)).rows()] == whole


@pytest.mark.parametrize(
    "name", ["matbench.json", "matbench.json.gz", "table.csv.gz", "rows.jsonl.gz", "table.parquet"]
)
def test_cut_files_are_reported(name, crystals, tmp_path):
    path = WRITERS[name](tmp_path / name, crystals)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SourceError, match=f"{name} cannot be read.*complete"):
        list(open_source(str(path)).rows())


def test_molecules_are_bad_rows(tmp_path):
    from ase.build import bulk, molecule
    from ase.io import write

    frames = [molecule("H2O"), bulk("NaCl", "rocksalt", a=5.64)]
    for number, atoms in enumerate(frames):
        atoms.info["gap"] = float(number)
    write(tmp_path / "x.extxyz", frames)
    water, salt = open_source(str(tmp_path / "x.extxyz")).rows()
    with pytest.raises(RowError, match="no three cell vectors"):
        parse_structure(water)
    assert (salt.row_id, len(parse_structure(salt))) == ("row-1", 2)


@pytest.mark.parametrize("name", ["nothing.csv", "text.txt", "."])
def test_what_cannot_be_a_source_lists_what_can(name, tmp_path):
    (tmp_path / "text.txt").touch()
    with pytest.raises(SourceError, match=r"supported: demo .*id_prop.csv.*parquet.*jsonl.*extxyz") as error:
        open_source(str(tmp_path / name))
    assert str(tmp_path) in str(error.value)


def test_files_without_crystals_say_what_they_have(tmp_path):
    (tmp_path / "t.csv").write_text("id,energy\na,1\n")
    (tmp_path / "r.jsonl").write_text('{"id": "a", "energy": 1}\n')
    (tmp_path / "m.json").write_text('[{"id": "a"}]')
    for name, message in [("t.csv", "no column 'cif'.*id, energy"), ("r.jsonl", "no 'structure'.*id, energy")]:
        with pytest.raises(SourceError, match=message):
            open_source(str(tmp_path / name))
    with pytest.raises(SourceError, match="orient="):
        open_source(str(tmp_path / "m.json"))


def test_materials_project_is_fetched_first():
    with pytest.raises(SourceError, match="srcgcnn data fetch mp --target"):
        open_source("mp")


def test_importing_the_dispatcher_imports_nothing_large():
    heavy = "{'torch', 'pandas', 'pymatgen', 'ase'}"
    code = f"import sys, srcgcnn.data.sources.registry; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_columns_of_one_name_are_told_apart_from_each_other_and_from_all_others(tmp_path):
    (tmp_path / "t.csv").write_text("id,cif,a,a,a.1\nx,unread,1,2,3\n")
    source = open_source(str(tmp_path / "t.csv"), targets=["a", "a.2", "a.1"])
    (row,) = source.rows()
    assert [row.targets[name] for name in source.targets] == ["1", "2", "3"]
