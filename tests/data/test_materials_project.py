"""Fetching with the real mp-api client from a small server that answers, and fails, as the real one does."""

import gzip
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from mp_fetch import COUNT, ENDPOINT, fetch, ids
from mp_server import KEY

from srcgcnn.cli.building import ShownBuilder
from srcgcnn.cli.main import main
from srcgcnn.data.build import build_store
from srcgcnn.data.materials_project import client as mp_client
from srcgcnn.data.materials_project.client import MpError
from srcgcnn.data.materials_project.query import MpFilter, MpQuery, QueryError
from srcgcnn.data.materials_project.snapshot import default_snapshot, open_snapshot, read_snapshot
from srcgcnn.data.source import SourceError
from srcgcnn.data.sources.registry import open_source
from srcgcnn.sweep.prepare import find_data
from srcgcnn.sweep.spec import DataSpec, read_spec

pytestmark = pytest.mark.full

ROOT = Path(__file__).resolve().parents[2]


def arrived(materials):
    return [one for page in materials.answered for one in page]


def test_all_pages_arrive_once_with_the_needed_fields_only(materials, made, tmp_path):
    snapshot = fetch(tmp_path / "s")
    expected = sorted(document["material_id"] for document in made if not document["batch_id"])
    assert ids(tmp_path / "s") == expected
    assert snapshot.expected == COUNT - 1
    assert snapshot.database_version == "2025.09.25"
    assert [len(page) for page in materials.answered] == [5, 5, 5, 5, 2]
    for query in materials.asked:
        assert query["_fields"] == "material_id,structure,formation_energy_per_atom"
        assert query["has_props"] == "thermo"
    page = json.loads(gzip.decompress((tmp_path / "s/page-00001.json.gz").read_bytes()))
    assert page["database_version"] == "2025.09.25"
    assert page["query"]["targets"] == ["formation_energy"]
    assert "description" not in page["documents"][0]
    source = open_source(str(tmp_path / "s"))
    assert source.units == ("eV/atom",)
    assert "2025.09.25" in source.provenance
    assert "APL Materials" in source.provenance


def test_a_second_fetch_and_reading_need_neither_key_nor_server(materials, tmp_path, monkeypatch):
    first = fetch(tmp_path / "s")
    asked = len(materials.asked)
    monkeypatch.delenv("MP_API_KEY")
    assert fetch(tmp_path / "s") == first
    assert len(materials.asked) == asked
    with pytest.raises(SourceError, match="another query"):
        fetch(tmp_path / "s", MpQuery(("band_gap",)))


@pytest.mark.parametrize("fault", [429, 500, 503, "cut"])
def test_passing_failures_cost_no_page_and_no_document(fault, materials, tmp_path):
    materials.faults = [None, fault, None, fault]
    fetch(tmp_path / "s")
    assert arrived(materials) == ids(tmp_path / "s")
    assert len(set(ids(tmp_path / "s"))) == COUNT - 1


def test_a_fetch_that_broke_goes_on_with_the_missing_page(materials, tmp_path):
    materials.faults = [None, None] + ["cut"] * 20
    with pytest.raises(MpError, match="continues where it stopped"):
        fetch(tmp_path / "s")
    with pytest.raises(SourceError, match="is not finished"):
        open_source(str(tmp_path / "s"))
    materials.faults = []
    fetch(tmp_path / "s")
    assert arrived(materials) == ids(tmp_path / "s")  # nothing twice, nothing lost


@pytest.mark.parametrize("interrupted", [False, True])
def test_another_database_version_is_no_part_of_the_snapshot(interrupted, materials, tmp_path):
    def change():
        materials.database_version = "2026.01.01"

    materials.faults = [None, None, *(["cut"] * 20 if interrupted else [change])]
    with pytest.raises(MpError):
        fetch(tmp_path / "s")
    change()
    materials.faults = []
    with pytest.raises(MpError, match=r"from database 2025.09.25 to 2026.01.01.*delete"):
        fetch(tmp_path / "s")
    assert len(list((tmp_path / "s").glob("page-*"))) == 2


def test_limits_take_the_first_ids_and_hardly_more_travels(materials, tmp_path):
    fetch(tmp_path / "s", MpQuery(("formation_energy",), MpFilter(limit=11, gnome=True)))
    assert ids(tmp_path / "s") == sorted(f"mp-{number + 1}" for number in range(COUNT))[:11]
    assert len(arrived(materials)) == 12  # three pages of four


@pytest.mark.parametrize(
    ("chosen", "holds"),
    [
        (MpFilter(stable_only=True), lambda one: one["is_stable"]),
        (MpFilter(theoretical=False), lambda one: not one["theoretical"]),
        (MpFilter(min_band_gap_ev=0.1), lambda one: one["band_gap"] >= 0.1),
        (MpFilter(max_above_hull_ev=0.02), lambda one: one["energy_above_hull"] <= 0.02),
        (MpFilter(max_formation_energy_ev=-0.9), lambda one: one["formation_energy_per_atom"] <= -0.9),
        (MpFilter(min_sites=3, max_sites=8), lambda one: 3 <= one["nsites"] <= 8),
        (MpFilter(elements=("O",)), lambda one: "O" in one["elements"]),
        (MpFilter(exclude_elements=("O", "F")), lambda one: not {"O", "F"} & set(one["elements"])),
    ],
)
def test_filters_reach_the_server(chosen, holds, materials, made, tmp_path):
    fetch(tmp_path / "s", MpQuery(("bulk_modulus", "band_gap"), chosen))
    wanted = [one for one in made if holds(one) and not one["batch_id"]]
    assert 0 < len(wanted) < COUNT - 1
    assert set(ids(tmp_path / "s")) == {one["material_id"] for one in wanted}
    row = next(open_snapshot(tmp_path / "s", ["bulk_modulus"]).rows())
    assert row.targets["bulk_modulus"] >= 100.0


def test_malformed_documents_are_rejected_with_id_and_reason(materials, tmp_path):
    del materials.documents[0]["structure"]
    materials.documents[1]["structure"] = {"lattice": "none"}
    materials.documents[2]["formation_energy_per_atom"] = None
    materials.documents[3] = "not an object"
    fetch(tmp_path / "s")
    report = build_store(open_snapshot(tmp_path / "s"), tmp_path / "store", processes=1)
    reasons = {row.row_id: row.reason for row in report.rejected}
    assert len(reasons) == 4
    assert "no structure" in reasons["mp-1"]
    assert "cannot parse" in reasons["mp-2"]
    assert "missing target 'formation_energy'" in reasons["mp-3"]
    assert any("not an object but str" in reason for reason in reasons.values())
    assert len(report.store) == COUNT - 5


def test_errors_are_one_line_that_says_what_to_do(materials, tmp_path, monkeypatch, capsys):
    def failing(*arguments, out="s"):
        assert main(["data", "fetch", "mp", "--out", str(tmp_path / out), *arguments]) == 2
        return capsys.readouterr().err

    assert "one of: formation_energy [eV/atom]" in failing()
    assert "no target 'gap'" in failing("--target", "gap")
    nothing = failing("--target", "band_gap", "--min-band-gap", "99", "--elements", "Xe")
    assert "no material matches (elements = Xe, min_band_gap_ev = 99.0" in nothing
    materials.faults = [404]
    assert "refuses the query" in failing("--target", "band_gap")
    monkeypatch.setenv("MP_API_KEY", "z" * 32)
    wrong = failing("--target", "band_gap")
    assert "refuses the key (status 401)" in wrong
    assert "z" * 32 not in wrong
    monkeypatch.setenv("MP_API_KEY", "short")
    assert "32 characters" in failing("--target", "band_gap")
    monkeypatch.delenv("MP_API_KEY")
    assert "no key" in (none := failing("--target", "band_gap"))
    assert mp_client.KEY_PAGE in none


def test_no_network_is_said(materials, tmp_path, monkeypatch):
    monkeypatch.setattr(ENDPOINT, "http://127.0.0.1:9/")  # nothing listens there
    with pytest.raises(MpError, match="check the network"):
        fetch(tmp_path / "s")


def test_queries_that_nothing_fits_are_refused():
    with pytest.raises(QueryError, match="min_sites=9 is above max_sites=3"):
        MpFilter(min_sites=9, max_sites=3)
    with pytest.raises(QueryError, match="limit=0"):
        MpFilter(limit=0)
    with pytest.raises(QueryError, match="both name O"):
        MpFilter(elements=("O",), exclude_elements=("O",))


SWEEP = """
[data]
source = "mp"
target = "formation_energy"
[data.mp]
limit = 20
theoretical = false
[data.published]
source = "a paper"
target = "formation_energy"
crystals = 5
mean = 1.5
std = 1.0
minimum = 0.0
maximum = 2.0
[axes]
depths = [1, 2]
"""


def test_a_sweep_asks_once_for_its_materials_and_a_plan_asks_nobody(materials, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(SWEEP)
    spec = read_spec(Path("mine.toml"), {})
    plan = partial(main, ["sweep", "--sweep", "mine.toml", "--dry-run"])
    assert plan() == 0
    assert "formation_energy [eV/atom]; graphs are not built" in capsys.readouterr().out
    assert not materials.asked
    found = find_data(spec.data, Path("stores"), ShownBuilder(), strict=True)
    assert found.manifest.crystals == 10
    asked = len(materials.asked)
    assert plan() == 0
    shown = capsys.readouterr().out
    assert f"10 crystals, formation_energy [eV/atom], store {found.folder}" in shown
    assert "a paper: 5 crystals, mean 1.500, deviation 1.000, range 0.000 .. 2.000 eV/atom" in shown
    assert find_data(spec.data, Path("stores"), ShownBuilder(), strict=True) == found
    assert len(materials.asked) == asked
    assert spec.data.mp == MpFilter(limit=20, theoretical=False)
    assert read_snapshot(default_snapshot(MpQuery(("formation_energy",), spec.data.mp))).expected == 10
    with pytest.raises(ValueError, match=r"\[data.mp\] belongs to source = 'mp'"):
        DataSpec(source="demo", mp=MpFilter())


def test_the_key_stands_in_nothing_that_is_written_or_said(materials, tmp_path):
    """In a process of its own, with every logger at its most talkative, through success and failure."""
    from mp_api.client.core.settings import MAPI_CLIENT_SETTINGS

    code = (
        "import logging, sys\nlogging.basicConfig(level=logging.DEBUG)\n"
        "from srcgcnn.data.materials_project import client as mp_client\nmp_client.BACKOFF_S = 0.01\n"
        "from srcgcnn.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    )
    environment = {
        **os.environ,
        "MP_API_ENDPOINT": MAPI_CLIENT_SETTINGS.ENDPOINT,
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
    }

    def run(out, key=KEY):
        command = [sys.executable, "-c", code, "data", "fetch", "mp", "--target", "band_gap", "--out", out]
        return subprocess.run(
            command, env={**environment, "MP_API_KEY": key}, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    materials.faults = [429, "cut"]
    good, bad = run("good"), run("bad", "wrong" + KEY[5:])
    assert (good.returncode, bad.returncode) == (0, 2), good.stderr + bad.stderr
    assert "band_gap [eV]: 22 values" in good.stdout
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(path.name == "snapshot.json" for path in written)
    unpacked = [gzip.decompress(content) for path, content in written.items() if path.suffix == ".gz"]
    said = [text.encode() for text in (good.stdout, good.stderr, bad.stdout, bad.stderr)]
    for content in [*written.values(), *unpacked, *said]:
        assert KEY[5:].encode() not in content


def test_a_page_that_has_changed_since_it_was_fetched_is_refused(materials, tmp_path):
    folder = tmp_path / "s"
    fetch(folder)
    path = folder / "page-00001.json.gz"
    page = json.loads(gzip.decompress(path.read_bytes()))
    for changed in (page["documents"][1:], [{**page["documents"][0], "formation_energy_per_atom": 9.0}]):
        path.write_bytes(gzip.compress(json.dumps({**page, "documents": changed}).encode()))
        with pytest.raises(SourceError, match=r"page-00001\.json\.gz has changed since it was fetched"):
            list(open_snapshot(folder).rows())
