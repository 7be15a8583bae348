"""Crystals from strangers: what would import, hang, fill the memory or leave the folder costs its own row."""

import csv
import gzip
import io
import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from misbehaving_rows import fail_to_start, lost, misbehave
from pymatgen.core import Lattice, Structure

from srcgcnn.cli.main import main
from srcgcnn.data import text_input
from srcgcnn.data.build import build_store
from srcgcnn.data.graph import build_graph
from srcgcnn.data.limits import SourceLimits
from srcgcnn.data.parsing import parse_structure, plain_crystal
from srcgcnn.data.row_workers import RowWorkers, WorkerStartError, time_limit
from srcgcnn.data.source import RowError, Source, SourceError, SourceRow
from srcgcnn.data.sources.registry import open_source
from srcgcnn.data.text_input import csv_records
from srcgcnn.prediction.crystals import read_crystals

SALT = Structure(Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CIF = SALT.to(fmt="cif")
SMALL = SourceLimits(text_mib=0.01)  # 10,485 characters


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported, and a structure that names it."""
    mark = tmp_path / "imported"
    (tmp_path / "a_module_of_a_stranger.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Payload: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    record = SALT.as_dict()
    for site in record["sites"]:
        site["properties"] = {"spin": {"@module": "a_module_of_a_stranger", "@class": "Payload"}}
    yield record
    assert not mark.exists()
    assert "a_module_of_a_stranger" not in sys.modules


def test_properties_of_sites_import_nothing(evil, tmp_path):
    assert parse_structure(SourceRow("x", "dict", evil, {})) == SALT
    (tmp_path / "lines.jsonl").write_text(json.dumps({"id": "x", "structure": evil, "y": 1.0}) + "\n")
    split = {"index": [0], "columns": ["structure", "y"], "data": [[evil, 1.0]]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    for name in ("lines.jsonl", "split.json"):
        (crystal,) = read_crystals([tmp_path / name])
        assert crystal.structure == SALT
        assert (
            main(["data", "export", str(tmp_path / name), "--format", "matbench", "--out", f"{tmp_path / name}.json"])
            == 0
        )
        assert "a_module_of_a_stranger" not in (tmp_path / f"{name}.json").read_text()


def test_what_is_read_of_a_dict_gives_the_same_structure(evil):
    mixed = Structure(Lattice.cubic(4), [{"Fe2+": 0.5, "Mn": 0.25}, "O2-"], [[0, 0, 0], [0.3, 0.4, -1.7]])
    for structure in (SALT, mixed):
        again = parse_structure(SourceRow("x", "dict", structure.as_dict(), {}))
        assert again == structure
        np.testing.assert_array_equal(again.frac_coords, structure.frac_coords)
    with pytest.raises(RowError, match="partial occupancy"):
        build_graph(parse_structure(SourceRow("x", "dict", mixed.as_dict(), {})))


@pytest.mark.parametrize(
    "record",
    [
        {},
        [],
        {"lattice": 5, "sites": 5},
        {"lattice": {"matrix": [[1]]}, "sites": [{}]},
        {"lattice": {"matrix": "abc"}, "sites": [{"species": [{"element": {}, "occu": []}], "abc": "xyz"}]},
        {"lattice": {"a": 1}, "sites": [{"species": "Fe", "abc": [0, 0]}]},
    ],
)
def test_a_dict_that_is_no_crystal_is_a_bad_row(record):
    with pytest.raises(RowError, match="cannot parse the dict"):
        plain_crystal(record)


def cif_with(**changes):
    """Return the CIF of rock salt with other numbers."""
    text = CIF
    for name, value in changes.items():
        lines = [f"_cell_{name}   {value}" if line.startswith(f"_cell_{name} ") else line for line in text.splitlines()]
        text = "\n".join(lines)
    return text


def many_operations(count):
    lines = "\n".join(f"  {k}  'x+{k}/{2 * count}, y, z'" for k in range(count))
    return CIF.replace("  1  'x, y, z'", lines)


def many_atoms(count):
    return CIF + "".join(f"  Na  Na{k}  1  {k % 97 / 97}  {k % 89 / 89}  {k % 83 / 83}  1\n" for k in range(count))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (cif_with(length_a="1e9"), "a cell vector of 1e\\+09 angstrom; the limit is 1000"),
        (cif_with(length_a="nan"), "a cell vector of nan|cannot parse"),
        (cif_with(length_b="inf"), "a cell vector of|cannot parse"),
        (cif_with(length_c="1e-9"), "thickness|two atoms|cannot parse"),
        (many_operations(20_000), "20000 symmetry operations; the limit is 1000"),
        (many_atoms(40_000), "4000[0-9] atoms: between 1 and 32767"),
        ("#" * 17 * 2**20, "a CIF of 17.0 MiB; the limit is 16 MiB"),
    ],
)
def test_hostile_cifs_are_refused_in_time(content, reason):
    with time_limit(20), pytest.raises(RowError, match=reason):
        build_graph(parse_structure(SourceRow("x", "cif", content, {})))


def salt_with(matrix=None, places=None):
    record = SALT.as_dict()
    record["lattice"] = {"matrix": np.diag(matrix).tolist() if matrix else SALT.lattice.matrix.tolist()}
    for site, place in zip(record["sites"], places or [], strict=False):
        site["abc"] = place
    return record


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (salt_with(matrix=[1e9, 5, 5]), "a cell vector of 1e\\+09"),
        (salt_with(matrix=[float("nan"), 5, 5]), "a cell vector of nan"),
        (salt_with(matrix=[float("inf"), 5, 5]), "a cell vector of inf"),
        (salt_with(matrix=[5, 5, 0]), "thickness|cannot parse"),
        (salt_with(matrix=[5, 5, 1e-7]), "thickness"),
        (salt_with(places=[[0, 0, 1e6]]), "fractional coordinate of 1e\\+06; the limit is 100"),
        (salt_with(places=[[float("nan"), 0, 0]]), "fractional coordinate of nan"),
        (
            salt_with(matrix=[1000, 1000, 1000], places=[[-90, -90, -90], [90, 90, 90]]),
            "atoms spread over 1.8e\\+05 angstrom",
        ),
    ],
)
def test_hostile_dicts_are_refused_in_time(record, reason):
    with time_limit(20), pytest.raises(RowError, match=reason):
        build_graph(parse_structure(SourceRow("x", "dict", record, {})))


def rows_of(path, limits=None):
    """Return what each row of a source is: its id with its form or the reason why it is bad."""
    return {
        row.row_id: row.content if row.form == "error" else row.form
        for row in open_source(str(path), limits=limits).rows()
    }


def write_folder(folder, ids):
    folder.mkdir()
    (folder / "id_prop.csv").write_text("".join(f"{row_id},1.0\n" for row_id in ids))
    return folder


def test_ids_of_a_folder_stay_inside_it(tmp_path):
    (tmp_path / "secret.cif").write_text(CIF)
    ids = ["good", "../secret", str(tmp_path / "secret"), "linked", "pipe", "nul\0l", "n" * 5000]
    folder = write_folder(tmp_path / "folder", ids)
    (folder / "good.cif").write_text(CIF)
    (folder / "linked.cif").symlink_to(tmp_path / "secret.cif")
    os.mkfifo(folder / "pipe.cif")
    found = rows_of(folder)
    assert found.pop("good") == "cif"
    assert found.pop("pipe") == "pipe.cif cannot be read: it is not a regular file"
    assert len(found.pop("n" * 5000)) > 0
    assert {row_id: reason.endswith("lies outside of the folder") for row_id, reason in found.items()} == dict.fromkeys(
        found, True
    )


def test_pipes_and_devices_are_no_sources(tmp_path):
    os.mkfifo(tmp_path / "table.csv")
    with pytest.raises(SourceError, match="is not a regular file"):
        open_source(str(tmp_path / "table.csv"))
    os.mkfifo(tmp_path / "one.cif")
    (crystal,) = read_crystals([tmp_path / "one.cif"])
    assert "not a regular file" in crystal.error
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "id_prop.csv")
    with pytest.raises(SourceError, match="a folder without"):
        open_source(str(folder))


def test_a_long_line_of_json_lines_costs_its_row(tmp_path):
    good = json.dumps({"id": "good", "cif": CIF, "y": 1.0})
    (tmp_path / "a.jsonl").write_text("\n".join([good, '{"id": "' + "x" * 50_000, good.replace("good", "last")]))
    assert rows_of(tmp_path / "a.jsonl", SMALL) == {
        "good": "cif",
        "row-1": "line 2 is longer than the limit of 0.01 MiB",
        "last": "cif",
    }


def test_a_line_nested_too_deeply_costs_its_row(tmp_path):
    good = json.dumps({"id": "good", "cif": CIF, "y": 1.0})
    (tmp_path / "a.jsonl").write_text("\n".join([good, "[" * 100_000, good.replace("good", "last")]))
    found = rows_of(tmp_path / "a.jsonl")
    assert found.pop("row-1").startswith("line 2 is not JSON")
    assert found == {"good": "cif", "last": "cif"}


@pytest.mark.full
@pytest.mark.parametrize("item", ['["' + 'x\\"]}' * 500_000 + '", 1.0]', "[" * 100_000 + "]" * 100_000, "[1]", "7"])
def test_an_item_of_a_split_file_costs_its_row(tmp_path, item):
    good = json.dumps([CIF, 1.0])
    text = '{"index": ["a", "b", "c"], "columns": ["cif", "y"], "data": [' + f"{good},{item},{good}" + "]}"
    (tmp_path / "a.json").write_text(text)
    found = rows_of(tmp_path / "a.json", SMALL)
    assert found.pop("b") == "is not a list of 2 values of at most 0.01 MiB"
    assert found == {"a": "cif", "c": "cif"}


def test_a_long_cell_of_a_table_costs_its_row(tmp_path):
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "cif", "y"])
        table.writerows(
            [["good", CIF, 1.0], ["long", 'x,"\n' * 9000, 2.0], ["last", CIF, 3.0], ["many", CIF, 1.0, 2.0]]
        )
    assert rows_of(tmp_path / "a.csv", SMALL) == {
        "good": "cif",
        "row-1": "row 2 is longer than the limit of 0.01 MiB",
        "last": "cif",
        "many": "has 4 cells, the header 3",
    }


def test_a_long_cell_of_json_is_read_where_the_limit_allows_it(tmp_path):
    text = json.dumps(SALT.as_dict() | {"properties": {"note": "x" * 20_000}})
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "structure", "y"], ["one", text, 1.0], ["two", CIF, 2.0]])
    assert "longer than the limit" in rows_of(tmp_path / "a.csv", SMALL)["row-0"]
    assert rows_of(tmp_path / "a.csv", SourceLimits(text_mib=0.1)) == {"one": "dict", "two": "cif"}
    longer = (tmp_path / "a.csv").read_text().replace("x" * 20_000, "x" * 17 * 2**20)
    (tmp_path / "b.csv").write_text(longer)
    assert rows_of(tmp_path / "b.csv", SourceLimits(text_mib=40)) == {"one": "dict", "two": "cif"}


@pytest.mark.parametrize("text", ['id,cif,y\na,"x\ny",1\nb,"x', 'id,cif,y\na,"x,1\nb,x,2\nc,x,3\n'])
def test_a_table_that_ends_inside_a_quoted_cell_is_not_read_as_a_shorter_one(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(SourceError, match=r"a.csv cannot be read.*ends inside a quoted cell of the record that begins"):
        rows_of(tmp_path / "a.csv", SourceLimits())


@pytest.mark.parametrize("name", ["bomb.csv.gz", "bomb.jsonl.gz", "bomb.json.gz"])
def test_what_unpacks_to_too_much_is_not_read_on(tmp_path, name):
    with gzip.open(tmp_path / name, "wb") as stream:
        stream.write(b'id,cif,y\n"' + b"\0" * 50_000_000)
    assert (tmp_path / name).stat().st_size < 100_000
    with pytest.raises(SourceError, match=r"larger than the limit when it is unpacked|layout"):
        list(open_source(str(tmp_path / name), limits=SourceLimits(unpacked_gib=0.01)).rows())


cells = st.text(alphabet='ab," \n\r\t;é\0', max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(cells, min_size=1, max_size=4), max_size=6), st.integers(1, 7), st.sampled_from(",;\t"))
def test_records_are_those_of_the_csv_module(rows, piece, delimiter):
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=delimiter).writerows(rows)
    expected = [row for row in csv.reader(io.StringIO(written.getvalue(), newline=""), delimiter=delimiter) if row]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_input, "PIECE_CHARACTERS", piece)
        found = list(csv_records(io.StringIO(written.getvalue(), newline=""), delimiter, SourceLimits()))
    assert found == expected


@pytest.mark.full
def test_rows_that_hang_kill_or_fill_a_worker_cost_themselves_only():
    limits = SourceLimits(seconds=1.0, memory_gib=2.0)
    tasks = [["a", "kill", "b"], ["c"], ["compiled loop", "d"], ["memory"], ["kill"], *([f"e{k}"] for k in range(40))]
    with RowWorkers(2, misbehave, lost, limits) as workers:
        done = list(workers.map(tasks))
    killed = "kill: ended the process that worked on it (signal 9), twice"
    assert done[:5] == [
        ["A", killed, "B"],
        ["C"],
        ["compiled loop: took more than 1 s of processor time", "D"],
        ["no memory"],
        [killed],
    ]
    assert done[5:] == [[f"E{k}"] for k in range(40)]


def test_workers_that_cannot_start_are_an_error():
    with (
        pytest.raises(WorkerStartError, match="ended at its start"),
        RowWorkers(1, misbehave, lost, SourceLimits(), prepare=fail_to_start),
    ):
        pass


class Slow(Structure):
    """A crystal whose parsing never ends."""

    @property
    def frac_coords(self):
        while True:
            pass


def test_a_row_that_takes_for_ever_is_listed_and_the_build_goes_on(tmp_path):
    slow = Slow(SALT.lattice, SALT.species, SALT.frac_coords)
    rows = [
        SourceRow(name, "structure", content, {"y": 1.0})
        for name, content in (("a", SALT), ("slow", slow), ("b", SALT))
    ]
    source = Source("s", "0" * 64, ("y",), ("",), "made for a test", 3, lambda: iter(rows), SourceLimits(seconds=0.5))
    report = build_store(source, tmp_path / "store", processes=1)
    assert report.store.ids == ["a", "b"]
    assert [(row.row_id, row.reason) for row in report.rejected] == [("slow", "took more than 0.5 s of processor time")]


def test_limits_are_flags_and_part_of_the_key(tmp_path):
    lines = [json.dumps({"id": f"x{k}", "cif": CIF if k else many_atoms(50), "y": 1.0 * k}) for k in range(3)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    common = ["data", "build", str(tmp_path / "a.jsonl"), "--processes", "1", "--out"]
    assert main([*common, str(tmp_path / "one"), "--max-atoms", "20"]) == 0
    assert "52 atoms: between 1 and 20 are possible" in (tmp_path / "one" / "rejected.csv").read_text()
    assert main([*common, str(tmp_path / "one")]) == 2  # another store
    assert main([*common, str(tmp_path / "two"), "--max-atoms", "40000"]) == 2
    source = open_source(str(tmp_path / "a.jsonl"))
    assert replace(source, limits=SourceLimits()) == source


def test_control_characters_of_files_do_not_reach_the_terminal(tmp_path, capsys):
    name = "\x1b]0;owned\x07\x1b[2J\x9b5n\u202egood"
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"id": f"{name}{k}", "cif": "no", name: 1.0}) for k in range(3))
    )
    assert main(["data", "build", str(tmp_path / "a.jsonl"), "--processes", "1", "--out", str(tmp_path / "store")]) == 2
    (tmp_path / "b.jsonl").write_text(json.dumps({"id": name, "cif": CIF, name: 1.0}))
    assert main(["data", "build", str(tmp_path / "b.jsonl"), "--processes", "1", "--out", str(tmp_path / "store")]) == 0
    assert main(["data", "info", str(tmp_path / "store")]) == 0
    output = "".join(capsys.readouterr())
    assert "good" in output
    assert not set("\x1b\x07\x9b\u202e") & set(output)
    assert "\\x1b]0;owned\\x07" in output


def test_numbers_and_ids_that_no_store_can_hold_cost_their_own_row(tmp_path):
    lines = [{"id": f"a{number}", "structure": SALT.as_dict(), "y": number} for number in range(3)]
    lines += [
        {"id": "big", "structure": SALT.as_dict(), "y": 10**400},
        {"id": "python", "structure": SALT.as_dict(), "y": "1_5"},
        {"id": "half \ud800", "structure": SALT.as_dict(), "y": 4},
        {"id": "x\ny", "structure": SALT.as_dict(), "y": 5},
        {"id": "x y", "structure": SALT.as_dict(), "y": 6},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = build_store(open_source(str(tmp_path / "rows.jsonl"), targets=["y"]), tmp_path / "store", processes=1)
    assert [*report.store.ids][:4] == ["a0", "a1", "a2", "half ?"]
    assert len(set(report.store.ids)) == len(report.store.ids)
    refused = {row.row_id: row.reason for row in report.rejected}
    assert "not a number" in refused["big"]
    assert "not a number" in refused["python"]


def test_a_long_text_within_the_limit_is_no_damage_of_its_file(tmp_path):
    texts = [CIF, f"# {'x' * 3 * 2**20}\n{CIF}", CIF]
    rows = {"index": [0, 1, 2], "columns": ["structure", "y"], "data": [[text, 1.0] for text in texts]}
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    contents = [row.content for row in open_source(str(tmp_path / "rows.json"), targets=["y"]).rows()]
    assert contents == texts
