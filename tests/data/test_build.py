"""Building a store: bad rows are listed, builds agree, and neither a kill nor a second builder leaves half a store."""

import csv
import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from srcgcnn.cli.building import build_with_progress
from srcgcnn.data.build import BuildError, build_key, build_store, default_store
from srcgcnn.data.demo import demo_source
from srcgcnn.data.graph import GraphSettings
from srcgcnn.data.manifest import StoreError
from srcgcnn.data.outliers import far_outside
from srcgcnn.data.sources.registry import open_source
from srcgcnn.data.store import GraphStore


def cif(species="Na", second=(0.5, 0.5, 0.5), length=4.0):
    return Structure(Lattice.cubic(length), [species, "Cl"], [[0, 0, 0], second]).to(fmt="cif")


GOOD = [(f"good-{k}", cif(length=4 + k / 100), str(k / 10)) for k in range(4)]
BAD = [  # (id, cif, target, reason)
    ("text", "this is not a crystal", "1", "cannot parse the cif"),
    ("empty", "", "1", "column 'cif' is empty"),
    ("cut short", cif()[:150], "1", "cannot parse the cif"),
    ("half", cif({"Na": 0.5}), "1", "partial occupancy (Na0.5)"),
    ("no target", cif(), "", "missing target 'y'"),
    ("nan", cif(), "nan", "target 'y' is nan"),
    ("inf", cif(), "-inf", "target 'y' is -inf"),
    ("word", cif(), "n.a.", "target 'y' is not a number: 'n.a.'"),
    ("mendelevium", cif("Md"), "1", "Md (Z=101)"),
    ("good-0", cif(length=5), "1", "duplicate id"),
    ("one place", cif(second=(0, 0, 0)), "1", "two atoms in one place"),
    ("nearly one place", cif(second=(0, 0, 0.01)), "1", "two atoms in one place: 0.04"),
]


def write_table(path, rows):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", "cif", "y"), *(row[:3] for row in rows)])
    return open_source(str(path), ["y"])


@pytest.fixture
def mixed(tmp_path):
    """Good and bad rows in turn; the ids of the good ones come first."""
    return write_table(tmp_path / "mixed.csv", [*GOOD[:2], *BAD[:6], GOOD[2], *BAD[6:], GOOD[3]])


@pytest.fixture
def good(tmp_path):
    return write_table(tmp_path / "good.csv", GOOD)


def listed(path):
    with path.open(newline="") as stream:
        return [(row["id"], row["reason"]) for row in csv.DictReader(stream)]


def files(folder):
    """Return the bytes of all files, without the time at which the manifest was written."""
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(contents.pop("manifest.json"))
    manifest.pop("built_at")
    return contents, manifest


def beside(out):
    """Return what lies next to a store, without its lock and the sources."""
    return sorted(path.name for path in out.parent.iterdir() if path.suffix not in {".lock", ".csv"} and path != out)


def test_bad_rows_are_listed_and_good_ones_kept(mixed, tmp_path):
    out = tmp_path / "store"
    report = build_store(mixed, out, processes=1)
    assert report.store.ids == [row[0] for row in GOOD]
    assert report.store.target("y").tolist() == [0.0, 0.1, 0.2, 0.3]
    found = listed(out / "rejected.csv")
    assert found == [(row.row_id, row.reason) for row in report.rejected]
    assert [row_id for row_id, _ in found] == [row[0] for row in BAD]
    for (_, reason), (*_, expected) in zip(found, BAD, strict=True):
        assert expected in reason
    assert report.store.manifest.rejected == len(BAD)


GAPS = [  # (y, z, what becomes of the row)
    ("1.0", "2.0", (1.0, 2.0)),
    ("1.5", "", (1.5, None)),
    ("", "2.5", (None, 2.5)),
    ("nan", "3.0", (None, 3.0)),
    ("", "n/a", "has none of the targets 'y', 'z'"),
    ("word", "1.0", "target 'y' is not a number: 'word'"),
    ("1.0", "inf", "target 'z' is inf"),
]


def test_of_several_targets_some_may_be_missing_but_not_all(tmp_path, capsys):
    path = tmp_path / "gaps.csv"
    with path.open("w", newline="") as stream:
        rows = [(f"row-{number}", cif(length=4 + number / 100), y, z) for number, (y, z, _) in enumerate(GAPS)]
        csv.writer(stream).writerows([("id", "cif", "y", "z"), *rows])
    report = build_with_progress(open_source(str(path), ["y", "z"]), tmp_path / "store")
    kept = [becomes for *_, becomes in GAPS if not isinstance(becomes, str)]
    values = report.store.targets(["y", "z"])
    assert [tuple(None if np.isnan(one) else one for one in row) for row in values] == kept
    assert [one.reason for one in report.rejected] == [becomes for *_, becomes in GAPS if isinstance(becomes, str)]
    y, z = report.store.manifest.targets
    assert (y.missing, y.mean, y.maximum) == (2, 1.25, 1.5)
    assert (z.missing, z.mean, z.minimum) == (1, 2.5, 2.0)
    assert "y is missing in 2 of 4 crystals" in capsys.readouterr().err
    GraphStore(tmp_path / "store", check_hashes=True)
    with pytest.raises(StoreError, match="2 of 4 crystals, such as row-2, have no value of y"):
        report.store.targets(["y"])
    alone = build_store(open_source(str(path), ["y"]), tmp_path / "alone", processes=1)
    assert [one.row_id for one in alone.rejected] == ["row-2", "row-3", "row-4", "row-5"]  # the rule of one target


def test_a_target_that_no_crystal_has_is_an_error(tmp_path):
    path = tmp_path / "empty.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", "cif", "y", "z"), ("a", cif(), "1", "")])
    with pytest.raises(BuildError, match="no usable row has a value of 'z'"):
        build_store(open_source(str(path), ["y", "z"]), tmp_path / "store", processes=1)


def test_crystals_that_come_twice_under_other_ids_are_told(tmp_path, capsys):
    rows = [("a", cif(), "1"), ("b", cif(), "2"), ("c", cif(length=4.2), "3")]
    source = write_table(tmp_path / "t.csv", rows)
    for _ in ("built", "found"):
        report = build_with_progress(source, tmp_path / "store", processes=1)
        assert report.store.manifest.repeated == 1
        assert "have the same graph as an earlier row" in capsys.readouterr().err


def test_targets_far_outside_are_named_and_stay_in(tmp_path, capsys):
    values = [*np.random.default_rng(0).normal(size=20).tolist(), -999.0, 57.0]
    rows = [(f"id-{number}", cif(length=4 + number / 100), repr(y)) for number, y in enumerate(values)]
    for _ in ("built", "found"):
        report = build_with_progress(write_table(tmp_path / "t.csv", rows), tmp_path / "store", processes=1)
        assert report.store.target("y").tolist() == values
        assert "2 of 22 values of y lie far outside" in (told := capsys.readouterr().err)
        assert "id-20: -999, id-21: 57; they stay in" in told
    build_with_progress(write_table(tmp_path / "clean.csv", rows[:20]), tmp_path / "clean", processes=1)
    assert "far outside" not in capsys.readouterr().err


@pytest.mark.parametrize("values", [[0.0] * 95 + [1.0] * 5, [2.0] * 9, [1.0]])
def test_classes_and_constants_have_no_outliers(values):
    assert far_outside(np.array(values)).tolist() == []


@given(st.lists(st.floats(-1, 1), min_size=20, unique=True), st.floats(0.01, 100), st.floats(-100, 100))
def test_a_planted_placeholder_is_the_first_outlier_in_any_unit(values, unit, shift):
    planted = unit * np.array([*values, -999.0]) + shift
    assert far_outside(planted)[0] == len(values)


def test_of_two_rows_with_one_id_the_first_usable_one_is_kept(tmp_path):
    rows = [("a", "no crystal", "1"), ("a", cif(), "2"), ("a", cif(), "3")]
    report = build_store(write_table(tmp_path / "t.csv", rows), tmp_path / "store", processes=1)
    assert report.store.target("y").tolist() == [2.0]
    assert [row.reason.split(":")[0] for row in report.rejected] == ["cannot parse the cif", "duplicate id"]


def test_same_source_same_store(good, tmp_path):
    one = build_store(good, tmp_path / "one", processes=1)
    two = build_store(good, tmp_path / "two", processes=1)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert one.store.manifest.data_hash == two.store.manifest.data_hash
    assert not one.found


def test_a_second_build_finds_the_first(good, tmp_path):
    out = tmp_path / "store"
    build_store(good, out, processes=1)
    written = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    again = build_store(good, out, processes=1)
    assert again.found
    assert written == {path.name: path.stat().st_mtime_ns for path in out.iterdir()}


def test_settings_and_targets_make_another_store(good, tmp_path):
    narrow = GraphSettings(cutoff_angstrom=5.0, neighbours=6)
    renamed = replace(good, targets=("z",))
    assert len({build_key(good, GraphSettings()), build_key(good, narrow), build_key(renamed, GraphSettings())}) == 3
    one = build_store(good, default_store(tmp_path, good), processes=1).store
    two = build_store(good, default_store(tmp_path, good, narrow), settings=narrow, processes=1).store
    assert one.manifest.data_hash != two.manifest.data_hash
    assert two.graph(0).distances.shape == (2, 6)


@pytest.mark.full
def test_number_of_processes_does_not_matter(tmp_path):
    rows = [(f"row-{k}", cif(length=4 + k / 100), str(k)) for k in range(150)]  # three tasks
    rows[70:70] = BAD
    source = write_table(tmp_path / "many.csv", rows)
    finished = []
    build_store(source, tmp_path / "one", processes=1)
    build_store(source, tmp_path / "two", processes=2, on_rows=finished.append)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert sum(finished) == len(rows)


def test_strict_leaves_no_store_and_lists_the_rows_beside_it(mixed, tmp_path):
    out = tmp_path / "store"
    with pytest.raises(BuildError, match=rf"--strict: {len(BAD)} bad rows.*text: cannot parse.*store\.rejected\.csv"):
        build_store(mixed, out, processes=1, strict=True)
    assert [row_id for row_id, _ in listed(tmp_path / "store.rejected.csv")] == [row[0] for row in BAD]
    assert not out.exists()
    assert beside(out) == []


def test_strict_builds_where_all_rows_are_good(good, tmp_path):
    assert len(build_store(good, tmp_path / "store", processes=1, strict=True).store) == len(GOOD)


@pytest.mark.parametrize(
    ("rows", "said"), [(BAD[:3], "3 bad rows"), ([], "It has no rows")], ids=["only bad rows", "no rows"]
)
def test_no_usable_row_is_an_error(rows, said, tmp_path):
    source = write_table(tmp_path / "bad.csv", rows)
    with pytest.raises(BuildError, match=f"bad: no usable row. {said}"):
        build_store(source, tmp_path / "store", processes=1)
    assert beside(tmp_path / "store") == []


def test_a_source_that_breaks_leaves_nothing(good, tmp_path):
    def rows():
        yield from good.rows()
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        build_store(replace(good, rows=rows), tmp_path / "store", processes=1)
    assert not (tmp_path / "store").exists()
    assert beside(tmp_path / "store") == []


def test_a_folder_with_something_else_is_refused_and_untouched(good, tmp_path):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("precious")
    with pytest.raises(StoreError, match="thesis exists and is not a graph store"):
        build_store(good, out, processes=1)
    assert [path.name for path in out.iterdir()] == ["chapter1.tex"]
    assert (out / "chapter1.tex").read_text() == "precious"


def test_a_file_in_the_place_of_the_store_is_refused(good, tmp_path):
    out = tmp_path / "notes"
    out.write_text("precious")
    with pytest.raises(StoreError, match="notes exists and is not a graph store"):
        build_store(good, out, processes=1)
    assert out.read_text() == "precious"


def test_another_store_is_refused_and_untouched(good, tmp_path):
    out = tmp_path / "store"
    build_store(good, out, processes=1)
    before = files(out)
    with pytest.raises(StoreError, match="holds another store"):
        build_store(good, out, settings=GraphSettings(cutoff_angstrom=6.0), processes=1)
    assert files(out) == before


def test_an_empty_folder_is_taken(good, tmp_path):
    (tmp_path / "store").mkdir()
    assert len(build_store(good, tmp_path / "store", processes=1).store) == len(GOOD)


def test_only_leftovers_of_this_very_store_are_removed(good, tmp_path):
    names = [".store.123.building", ".store.v2.123.building", ".store2.123.building", ".store.123.building.tar"]
    for name in names:
        (tmp_path / name).mkdir()
    build_store(good, tmp_path / "store", processes=1)
    assert beside(tmp_path / "store") == sorted(names[1:])


# A build of the demonstration dataset in a process of its own, with rows that arrive slowly or never end
SCRIPT = """
import sys, time
from dataclasses import replace
from pathlib import Path
from srcgcnn.data.build import build_store
from srcgcnn.data.demo import demo_source

kind, out, ready = sys.argv[1], Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
source = demo_source(70)

def slow_rows():
    for row in source.rows():
        time.sleep(0.01)
        yield row

def endless_rows():
    yield from source.rows()
    print("waiting", flush=True)
    time.sleep(600)

if kind == "slow":
    ready[0].touch()
    while not ready[1].exists():
        time.sleep(0.01)
rows = slow_rows if kind == "slow" else endless_rows
report = build_store(replace(source, rows=rows), out, processes=1, shard_bytes=10_000)
print("found" if report.found else "built", len(report.store), flush=True)
"""


def start(*arguments):
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.full
def test_two_builders_at_once_make_one_whole_store(tmp_path):
    out, flags = tmp_path / "store", [tmp_path / "a.csv", tmp_path / "b.csv"]
    builders = [start("slow", out, *flags), start("slow", out, *flags[::-1])]
    outputs = [builder.communicate(timeout=120) for builder in builders]
    assert sorted(output for output, _ in outputs) == ["built 70\n", "found 70\n"], outputs
    assert beside(out) == []
    alone = build_store(demo_source(70), tmp_path / "alone", processes=1, shard_bytes=10_000)
    assert len(GraphStore(out, check_hashes=True)) == 70
    assert files(out) == files(alone.store.folder)


def wait_for_shards(folder, process):
    """Wait until a builder has written at least one shard."""
    assert process.stdout.readline() == "waiting\n", process.stderr.read()
    for _ in range(1000):
        building = list(folder.glob(".*.building"))
        if building and list(building[0].glob("shard-*")):
            return building[0]
        time.sleep(0.01)
    raise AssertionError("no shard was written")


@pytest.mark.full
def test_a_killed_build_leaves_nothing_that_opens(tmp_path):
    out = tmp_path / "store"
    builder = start("endless", out)
    try:
        leftover = wait_for_shards(tmp_path, builder)
    finally:
        builder.kill()
        builder.communicate(timeout=60)
    assert not out.exists()
    for folder in (out, leftover):
        with pytest.raises(StoreError, match="is not a graph store"):
            GraphStore(folder)
    report = build_store(demo_source(70), out, processes=1)
    assert not report.found
    assert len(report.store) == 70
    assert beside(out) == []
