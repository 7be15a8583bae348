"""A sweep as a folder to publish: small, complete, readable like the sweep itself, and silent about the machine."""

import json
import shutil
import socket
from dataclasses import replace

import pandas as pd
import pytest

from srcgcnn.cli.main import main
from srcgcnn.driver.worker import run_group
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import TrialGroup
from srcgcnn.sweep.record import SweepRecord, read_record, write_record
from srcgcnn.sweep.spec import DataSpec, StartSpec, SweepSpec


@pytest.fixture
def sweep(demo_store, trial_of, tmp_path):
    """Two trained trials; the store can be removed."""
    store = tmp_path / "store"
    shutil.copytree(demo_store.folder, store)
    paths = RunPaths(tmp_path / "sweep")
    trials = [trial_of(ModelConfig("srcgcnn", 2), seed) for seed in (0, 1)]
    ids, model = str(tmp_path / "ids.txt"), str(tmp_path / "model.safetensors")
    spec = SweepSpec("tiny", data=DataSpec(str(tmp_path / "crystals.csv"), ids=ids), start=StartSpec(model))
    write_record(paths, SweepRecord(spec, trials[0].data, str(store), f"python {tmp_path}/sweep.py"))
    for trial in trials:
        run_group(TrialGroup((trial,)), store, paths, checkpoint_interval_s=60)
    return paths


@pytest.mark.full
def test_an_archive_answers_as_the_sweep_does_without_store_and_weights(sweep, tmp_path, capsys):
    folder = tmp_path / "study"
    assert main(["results", str(sweep.out), "--format", "csv"]) == 0
    answer = capsys.readouterr().out
    assert main(["archive", str(sweep.out), str(folder)]) == 0
    assert "2 results added, 0 were there" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "store")
    shutil.rmtree(sweep.out)
    again = tmp_path / "again"
    assert main(["archive", str(folder), str(again)]) == 0
    capsys.readouterr()
    for archived in (folder, again):
        assert main(["results", str(archived), "--format", "csv"]) == 0
        assert capsys.readouterr().out == answer
    assert main(["report", str(folder)]) == 0
    assert (folder / "report" / "index.html").exists()
    assert not list(folder.rglob("*.safetensors"))


def test_an_archive_names_its_crystals_and_neither_host_nor_folders(sweep, demo_store, tmp_path):
    folder = tmp_path / "study"
    assert main(["archive", str(sweep.out), str(folder)]) == 0
    assert (folder / "ids.txt").read_text().split() == list(demo_store.ids)
    assert json.loads((folder / "store.json").read_text())["data_hash"] == demo_store.manifest.data_hash
    for path in folder.rglob("*.json"):
        text = path.read_text()
        assert str(tmp_path) not in text
        assert f'"hostname": "{socket.gethostname()}"' not in text


def test_an_archive_leaves_a_damaged_result_out_names_it_and_mends_one_of_its_own(sweep, tmp_path, capsys):
    folder = tmp_path / "study"
    first, second = sorted((sweep.out / "results").glob("*.json"))
    second.write_text(second.read_text().replace("0.", "7.", 1))
    assert main(["archive", str(sweep.out), str(folder)]) == 0
    said = capsys.readouterr()
    assert "1 results added" in said.out
    assert f"{second.name}: its digest" in said.err
    archived = folder / "results" / first.name
    content = archived.read_bytes()
    archived.write_bytes(content.replace(b"0.", b"7.", 1))
    assert main(["archive", str(sweep.out), str(folder)]) == 0
    assert archived.read_bytes() == content


def test_an_archive_keeps_every_prediction_in_less_space_and_shrinks_those_of_older_versions(sweep, tmp_path):
    folder = tmp_path / "study"
    whole = {path.name: pd.read_parquet(path) for path in (sweep.out / "predictions").glob("*.parquet")}
    old = next(iter(whole))
    (folder / "predictions").mkdir(parents=True)
    shutil.copy(sweep.out / "predictions" / old, folder / "predictions" / old)
    assert main(["archive", str(sweep.out), str(folder)]) == 0
    run = open_run(folder)
    for name, table in whole.items():
        kept = run.predictions(name.removesuffix(".parquet"))
        pd.testing.assert_frame_equal(kept[list(table)], table, check_dtype=False, check_exact=True)
        before = sweep.out / "predictions" / name
        assert (folder / "predictions" / name).stat().st_size < 0.6 * before.stat().st_size


def test_an_archive_grows_and_refuses_another_result_of_the_same_trial(sweep, tmp_path, capsys):
    folder = tmp_path / "study"
    first, second = sorted((sweep.out / "results").glob("*.json"))
    aside = second.rename(tmp_path / "aside.json")
    assert main(["archive", str(sweep.out), str(folder)]) == 0
    aside.rename(second)
    assert main(["archive", str(sweep.out), str(folder)]) == 0
    assert "1 results added, 1 were there" in capsys.readouterr().out
    edited = json.loads(first.read_text())
    edited["metrics"]["test_mae"] /= 2
    del edited["digest"]  # as an older version wrote it
    first.write_text(json.dumps(edited))
    assert main(["archive", str(sweep.out), str(folder)]) == 2
    assert f"{folder / 'results' / first.name} has different errors" in capsys.readouterr().err


def test_an_archive_holds_one_data_set(sweep, tmp_path, capsys):
    """An archive keeps the target of a crystal once: those of other data would take the place of its own."""
    folder = tmp_path / "study"
    assert main(["archive", str(sweep.out), str(folder)]) == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    record = read_record(sweep)
    write_record(sweep, replace(record, data=replace(record.data, data_hash="0" * len(record.data.data_hash))))
    for result in (sweep.out / "results").glob("*.json"):
        result.unlink()
    capsys.readouterr()
    assert main(["archive", str(sweep.out), str(folder)]) == 2
    assert "archive each data set into a folder of its own" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_folder_of_a_sweep_is_not_made_an_archive(sweep, tmp_path, capsys):
    before = sweep.spec.read_bytes()
    (tmp_path / "link").symlink_to(sweep.out)
    shutil.copytree(sweep.out, tmp_path / "other")
    for folder in (sweep.out, tmp_path / "link", tmp_path / "other"):
        assert main(["archive", str(sweep.out), str(folder)]) == 2
        assert "is the folder of a sweep" in capsys.readouterr().err
    assert sweep.spec.read_bytes() == before


def test_an_archive_of_an_archive_made_in_a_store_does_not_take_that_store_for_its_own(
    sweep, demo_store, tmp_path, monkeypatch, capsys
):
    folder, again = tmp_path / "study", tmp_path / "again"
    assert main(["archive", str(sweep.out), str(folder)]) == 0
    (folder / "ids.txt").write_text("of this sweep")
    monkeypatch.chdir(demo_store.folder)
    assert main(["archive", str(folder), str(again)]) == 0
    for name in ("ids.txt", "store.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    capsys.readouterr()
    assert main(["status", str(folder)]) == 0
    assert "to continue" not in capsys.readouterr().out
