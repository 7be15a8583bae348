"""Exported files are sources again with the same graphs; published datasets are read from their packages' caches."""

import gzip
import json
import shutil
import zipfile

import numpy as np
import pytest

from srcgcnn.cli.main import main
from srcgcnn.data.build import build_store
from srcgcnn.data.demo import demo_source
from srcgcnn.data.export import export_source
from srcgcnn.data.source import SourceError
from srcgcnn.data.sources.registry import open_source

COUNT = 12
TARGET = "electrostatic_energy"


@pytest.fixture(scope="module")
def crystals():
    """Return (id, structure without oxidation states, energy)."""
    return [
        (row.row_id, row.content.remove_oxidation_states(), row.targets[TARGET]) for row in demo_source(COUNT).rows()
    ]


@pytest.fixture
def lines(crystals, tmp_path):
    """A source of pymatgen dicts, as a snapshot has them, with one bad row."""
    path = tmp_path / "lines.jsonl"
    records = [{"id": row_id, "structure": crystal.as_dict(), TARGET: y} for row_id, crystal, y in crystals]
    records.insert(1, {"id": "broken", "structure": {}, TARGET: 0.0})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return open_source(str(path))


def store_of(source, folder):
    return build_store(source, folder, processes=1).store


NAMES = {"csv": ["out.csv", "out.csv.gz"], "cgcnn": ["out"], "matbench": ["out.json", "out.json.gz"]}


@pytest.mark.parametrize(("form", "name"), [(form, name) for form, names in NAMES.items() for name in names])
def test_an_export_is_a_source_with_the_same_graphs(form, name, lines, tmp_path):
    report = export_source(lines, form, tmp_path / name)
    assert report.crystals == COUNT
    assert [line.split(":")[0] for line in report.left_out] == ["broken"]
    again = store_of(open_source(str(tmp_path / name), [TARGET]), tmp_path / "again")
    store = store_of(lines, tmp_path / "store")
    assert again.ids == store.ids
    assert again.formulas == store.formulas
    np.testing.assert_array_equal(again.target(TARGET), store.target(TARGET))
    for row in range(COUNT):  # a CIF lists the atoms by element: compare what no order changes
        one, two = store.graph(row), again.graph(row)
        np.testing.assert_allclose(np.sort(one.distances, axis=None), np.sort(two.distances, axis=None), rtol=1e-6)
    if form == "matbench":
        assert again.manifest.data_hash == store.manifest.data_hash
    citation = tmp_path / "out/CITATION.txt" if form == "cgcnn" else tmp_path / f"{name}.CITATION.txt"
    assert f"{TARGET} [eV/atom]" in citation.read_text()


@pytest.mark.parametrize("form", NAMES)
def test_of_rows_with_one_id_the_first_is_exported_as_it_is_built(form, lines, crystals, tmp_path):
    path = tmp_path / "twice.jsonl"
    (one_id, one, y), (_, other, _) = crystals[:2]
    records = [
        {"id": one_id, "structure": crystal.as_dict(), TARGET: value} for crystal, value in ((one, y), (other, 9))
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    name = tmp_path / NAMES[form][0]
    report = export_source(open_source(str(path)), form, name)
    assert (report.crystals, report.left_out) == (1, (f"{one_id}: an earlier row has this id",))
    store = store_of(open_source(str(name), [TARGET]), tmp_path / "store")
    assert store.formulas[0] == one.reduced_formula
    assert store.target(TARGET)[0] == pytest.approx(y)


def test_cif_texts_are_exported_as_they_are(lines, tmp_path):
    export_source(lines, "csv", tmp_path / "one.csv")
    table = open_source(str(tmp_path / "one.csv"))
    export_source(table, "cgcnn", tmp_path / "two")
    folder = open_source(str(tmp_path / "two"), [TARGET])
    one, two = store_of(table, tmp_path / "s1"), store_of(folder, tmp_path / "s2")
    assert one.manifest.data_hash == two.manifest.data_hash


@pytest.mark.full
def test_the_command_and_its_mistakes(tmp_path, capsys):
    out = tmp_path / "demo.csv.gz"
    assert main(["data", "export", "demo", "--format", "csv", "--out", str(tmp_path / "x.json")]) == 2
    assert "ends with .csv or .csv.gz" in capsys.readouterr().err
    (tmp_path / "there").mkdir()
    assert main(["data", "export", "demo", "--format", "cgcnn", "--out", str(tmp_path / "there")]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["data", "export", "demo", "--format", "csv", "--out", str(out)]) == 0
    assert "480 crystals" in capsys.readouterr().out


def test_a_store_is_named_as_one(demo_store, tmp_path, capsys):
    for command in (["build"], ["export", "--format", "csv"]):
        assert main(["data", *command, str(demo_store.folder), "--out", str(tmp_path / "x.csv")]) == 2
        assert "is a graph store already" in capsys.readouterr().err


JARVIS_FILE = "jdft_3d-9-24-2025.json"


@pytest.fixture
def jarvis(crystals, tmp_path, monkeypatch):
    """A cache as jarvis-tools keeps it, with one record without a number and one that is broken."""
    from jarvis.core.atoms import Atoms
    from jarvis.db.figshare import get_db_info

    records = []
    for number, (_, crystal, energy) in enumerate(crystals):
        atoms = Atoms(
            lattice_mat=crystal.lattice.matrix.tolist(),
            coords=crystal.frac_coords.tolist(),
            elements=[site.specie.symbol for site in crystal],
        )
        records.append({"jid": f"JVASP-{number}", "atoms": atoms.to_dict(), "formation_energy_peratom": energy})
        records[-1] |= {"optb88vdw_bandgap": 0.5, "dimensionality": "3D-bulk"}
    records[0]["formation_energy_peratom"] = "na"
    records[1]["atoms"] = {"elements": []}
    monkeypatch.setenv("ATOMGPTLAB_CACHE", str(tmp_path))
    (tmp_path / "jarvis_data").mkdir()
    member = get_db_info()["dft_3d"][1]
    with zipfile.ZipFile(tmp_path / f"jarvis_data/{member}.zip", "w") as archive:
        archive.writestr(member, json.dumps(records))


def test_jarvis_is_read_from_its_cache(jarvis, crystals, tmp_path):
    with pytest.raises(SourceError, match=r"formation_energy_peratom, optb88vdw_bandgap$"):
        open_source("jarvis:dft_3d")
    source = open_source("jarvis:dft_3d", ["formation_energy_peratom"])
    assert source.units == ("eV/atom",)
    assert "doi:" in source.provenance
    report = build_store(source, tmp_path / "store", processes=1)
    assert {row.row_id for row in report.rejected} == {"JVASP-0", "JVASP-1"}
    energies = [energy for _, _, energy in crystals[2:]]
    np.testing.assert_array_equal(report.store.target("formation_energy_peratom"), energies)
    direct = store_of(demo_source(COUNT), tmp_path / "direct")
    np.testing.assert_allclose(report.store.graph(0).distances, direct.graph(2).distances, rtol=1e-6)


def test_jarvis_without_cache_or_network_is_said(tmp_path, monkeypatch):
    import requests

    def away(*arguments, **options):
        raise requests.ConnectionError("no route to host")

    monkeypatch.setenv("ATOMGPTLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(requests, "get", away)
    with pytest.raises(SourceError, match=r"not in the cache \(.*jarvis_data.*copy that file"):
        open_source("jarvis:dft_3d")
    with pytest.raises(SourceError, match=r"no such dataset in jarvis-tools; available: .*dft_3d"):
        open_source("jarvis:dft_4d")


def test_matbench_is_read_where_matminer_keeps_it(crystals, tmp_path, monkeypatch):
    monkeypatch.setenv("MATMINER_DATA", str(tmp_path))
    table = {
        "index": list(range(COUNT)),
        "columns": ["structure", "e_form"],
        "data": [[crystal.as_dict(), energy] for _, crystal, energy in crystals],
    }
    with gzip.open(tmp_path / "matbench_mp_e_form.json.gz", "wt") as stream:
        json.dump(table, stream)
    source = open_source("matbench:matbench_mp_e_form")
    assert (source.name, source.targets, source.units) == ("matbench_mp_e_form", ("e_form",), ("eV/atom",))
    assert source.count == COUNT
    assert "doi:" in source.provenance
    shutil.copy(tmp_path / "matbench_mp_e_form.json.gz", tmp_path / "matbench_perovskites.json.gz")
    assert open_source("matbench:matbench_perovskites").units == ("eV/unit cell",)
    with pytest.raises(SourceError, match=r"matbench:other .*other\.json\.gz"):
        open_source("matbench:other")
