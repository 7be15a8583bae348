"""Fetching exactly the listed materials: lost and renamed ones are told."""

import pytest
from mp_fetch import fetch, ids

from srcgcnn.cli.building import ShownBuilder
from srcgcnn.cli.main import main
from srcgcnn.data.materials_project.client import MpError
from srcgcnn.data.materials_project.query import MpFilter, MpQuery, QueryError
from srcgcnn.data.materials_project.snapshot import open_snapshot
from srcgcnn.sweep.prepare import find_data
from srcgcnn.sweep.spec import DataSpec

pytestmark = pytest.mark.full


@pytest.fixture
def listed(materials):
    """Ids of a publication: one is of GNoME, two are called otherwise now (one material), one is lost."""
    for document in materials.documents:
        document["task_ids"] = [document["material_id"]]
    materials.documents[4]["task_ids"] = ["mp-5", "mp-900", "mp-901"]
    return ("mp-3", "mp-8", "mp-900", "mp-11", "mp-999", "mp-901", "mp-2")


def test_exactly_the_listed_ids_arrive_and_lost_and_renamed_ones_are_listed(materials, listed, tmp_path):
    snapshot = fetch(tmp_path / "s", MpQuery(("formation_energy",), ids=listed))
    assert ids(tmp_path / "s") == ["mp-11", "mp-2", "mp-3", "mp-8", "mp-5"]
    assert snapshot.renamed == (("mp-900", "mp-5"), ("mp-901", "mp-5"))
    assert snapshot.lost == ("mp-999",)
    assert (tmp_path / "s" / "ids.csv").read_text().splitlines() == [
        "id,present_id,fate",
        "mp-3,mp-3,found",
        "mp-8,mp-8,found",
        "mp-900,mp-5,renamed",
        "mp-11,mp-11,found",
        "mp-999,,lost",
        "mp-901,mp-5,renamed",
        "mp-2,mp-2,found",
    ]
    assert "7 listed ids" in open_snapshot(tmp_path / "s").provenance
    assert not any("has_props" in query for query in materials.asked)
    asked = len(materials.asked)
    assert fetch(tmp_path / "s", MpQuery(("formation_energy",), ids=listed)) == snapshot
    assert len(materials.asked) == asked


def test_a_long_list_goes_in_pieces_and_an_interrupted_one_is_resumed(materials, listed, tmp_path, monkeypatch):
    from srcgcnn.data.materials_project import snapshot as snapshots

    monkeypatch.setattr(snapshots, "IDS_PER_PAGE", 2)
    query = MpQuery(("formation_energy",), ids=listed)
    whole = fetch(tmp_path / "whole", query)
    assert [len(query["material_ids"].split(",")) for query in materials.asked[:4]] == [2, 2, 2, 1]
    materials.faults = [lambda: None, 500, 500, 500]
    with pytest.raises(MpError, match="no complete answer"):
        fetch(tmp_path / "resumed", query)
    materials.answered.clear()
    resumed = fetch(tmp_path / "resumed", query)
    assert (resumed.pages, resumed.renamed, resumed.lost) == (whole.pages, whole.renamed, whole.lost)
    assert ["mp-3", "mp-8"] not in materials.answered  # the first piece came once
    assert open_snapshot(tmp_path / "resumed").content_hash == open_snapshot(tmp_path / "whole").content_hash


def test_ids_and_filters_exclude_each_other_and_old_snapshots_keep_their_names(materials, tmp_path, capsys):
    with pytest.raises(QueryError, match="the ids already select the materials; leave out limit = 3"):
        MpQuery(("band_gap",), MpFilter(limit=3), ("mp-1",))
    with pytest.raises(QueryError, match="'mp 1' is not an id of the Materials Project"):
        MpQuery(("band_gap",), ids=("mp 1",))
    assert MpQuery(("band_gap",)).key == "691869cbbf20ab0b"
    with pytest.raises(MpError, match="none of the 1 listed ids"):
        fetch(tmp_path / "s", MpQuery(("formation_energy",), ids=("mp-777",)))


def test_the_command_and_a_sweep_take_a_file_of_ids(materials, listed, tmp_path, capsys):
    file = tmp_path / "ids.csv"
    file.write_text("material_id,anything\n" + "".join(f"{one},x\n" for one in listed))
    folder = tmp_path / "s"
    arguments = ["data", "fetch", "mp", "--target", "formation_energy", "--ids", str(file), "--out", str(folder)]
    assert main(arguments) == 0
    assert "7, of which 1 are lost and 2 renamed" in capsys.readouterr().out
    spec = DataSpec("mp", "formation_energy", ids=str(file))
    found = find_data(spec, tmp_path / "stores", ShownBuilder(), strict=False)
    assert found.manifest.crystals == 5
