"""Commands on finished sweeps: the list of sweeps, tables of trials, a split of one's own, removal."""

import csv
import io
import json
import shutil

import pytest
from filelock import FileLock

from srcgcnn.cli.main import main
from srcgcnn.driver.worker import run_group
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import finished_keys
from srcgcnn.sweep.plan import TrialGroup
from srcgcnn.sweep.record import SweepRecord, write_record
from srcgcnn.sweep.spec import Axes, SweepSpec

ONE_LAYER, SR2 = ModelConfig("cgcnn", 1), ModelConfig("srcgcnn", 2)


@pytest.fixture(scope="module")
def trained(demo_store, trial_of, tmp_path_factory):
    paths = RunPaths(tmp_path_factory.mktemp("runs") / "depth")
    trials = [trial_of(model, seed) for model in (ONE_LAYER, SR2) for seed in range(2)]
    for trial in trials:
        run_group(TrialGroup((trial,)), demo_store.folder, paths, checkpoint_interval_s=60)
    spec = SweepSpec("depth", axes=(Axes(depths=(1, 2), seeds=(0, 1)),), training=trials[0].training)
    write_record(paths, SweepRecord(spec, trials[0].data, str(demo_store.folder), "srcgcnn sweep"))
    return paths


@pytest.fixture
def sweep(trained, tmp_path):
    shutil.copytree(trained.out, tmp_path / "runs" / "depth")
    return RunPaths(tmp_path / "runs" / "depth")


def test_sweeps_of_a_folder_are_listed_and_a_damaged_one_says_so(sweep, tmp_path, capsys):
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "sweep.json").write_text("{")
    assert main(["runs", str(tmp_path / "runs")]) == 0
    _, listed = capsys.readouterr().out.split("\n", 1)
    broken, depth = listed.split(" depth ")
    assert broken.startswith(" broken  cannot be read")
    assert "4 of 6" in depth
    assert "eV/atom" in depth
    assert main(["runs", str(tmp_path)]) == 2
    assert "holds no sweep" in capsys.readouterr().err
    assert main(["status", str(tmp_path / "runs")]) == 2
    assert "is a folder of sweeps" in capsys.readouterr().err


def test_trials_are_rows_sorted_as_asked(sweep, capsys):
    assert main(["results", str(sweep.out), "--trials", "--csv", "--sort", "val"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    errors = [float(row["val_error"]) for row in rows]
    assert errors == sorted(errors)
    assert {row["key"] for row in rows} == finished_keys(sweep)
    assert main(["results", str(sweep.out), "--format", "json", "--sort", "total-params"]) == 0
    sizes = [row["total_parameters"] for row in json.loads(capsys.readouterr().out)]
    assert sizes == sorted(sizes)


def test_removed_trials_are_gone_and_are_trained_again(sweep, capsys):
    before = finished_keys(sweep)
    assert main(["remove", str(sweep.out), ONE_LAYER.label]) == 0
    assert "add --yes" in capsys.readouterr().out
    assert finished_keys(sweep) == before
    with FileLock(sweep.driver_lock):
        assert main(["remove", str(sweep.out), ONE_LAYER.label, "--yes"]) == 2
    assert "a driver is running this sweep" in capsys.readouterr().err
    assert main(["remove", str(sweep.out), ONE_LAYER.label, "--yes"]) == 0
    left = finished_keys(sweep)
    assert len(left) == 2
    assert main(["remove", str(sweep.out), next(iter(left))[0], "--yes"]) == 2  # one character is a slip
    assert finished_keys(sweep) == left
    assert not any(path.exists() for key in before - left for path in (sweep.model(key), sweep.predictions(key)))
    assert all(sweep.model(key).exists() for key in left)
    assert main(["remove", str(sweep.out), "CGCNN-7"]) == 2
    assert f"variants there: {SR2.label}" in capsys.readouterr().err


def test_logs_of_two_things_at_once_are_refused(sweep, capsys):
    for flags in (["--failed", "--follow"], [ONE_LAYER.label, "--failed"], [ONE_LAYER.label, "--job", "17"]):
        assert main(["logs", str(sweep.out), *flags]) == 2
        assert "srcgcnn: " in capsys.readouterr().err


def test_a_split_of_ones_own_is_checked_before_anything_starts(demo_store, tmp_path, capsys):
    ids = list(demo_store.ids)
    sets = ["train"] * 60 + ["validation"] * 10 + ["test"] * 10
    flags = ["--data", str(demo_store.folder), "--out", str(tmp_path / "out"), "--dry-run"]

    def said(rows, header="id,set"):
        (tmp_path / "split.csv").write_text("\n".join([header, *rows]) + "\n")
        status = main(["sweep", *flags, "--split", str(tmp_path / "split.csv")])
        both = capsys.readouterr()
        return status, both.out + both.err

    good = [f"{row_id},{name}" for row_id, name in zip(ids, sets, strict=True)]
    status, text = said(good)
    assert (status, "split lists" in text) == (0, True)
    assert said([*good, "nobody,test"]) == (
        2,
        "srcgcnn: the split lists 1 ids that the graph store does not have: 'nobody'\n",
    )
    assert "line 2: set 'tests'; known: " in said([f"{ids[0]},tests"])[1]
    assert f"line 82: '{ids[0]}' is also in line 2" in said([*good, good[0]])[1]
    assert "needs the columns id and set; it has id, part" in said(good, "id,part")[1]
    assert "no row of set 'validation'" in said([f"{ids[0]},train", f"{ids[1]},test"])[1]
