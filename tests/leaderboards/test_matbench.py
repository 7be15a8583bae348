"""matbench: its folds, its record, and the command from the dataset to both."""

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matbench_data import TASK, write_dataset
from sklearn.model_selection import KFold

from srcgcnn.cli.main import main
from srcgcnn.leaderboards.matbench_record import read_folds, record_fold
from srcgcnn.leaderboards.matbench_task import FOLDS, find_task, scores
from srcgcnn.leaderboards.recipe import LeaderboardError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("matbench_dielectric", ["mb-dielectric-0008", "mb-dielectric-0010"]),
        ("matbench_jdft2d", ["mb-jdft2d-012", "mb-jdft2d-014"]),
        ("matbench_log_gvrh", ["mb-log-gvrh-00006", "mb-log-gvrh-00010"]),
        ("matbench_mp_e_form", ["mb-mp-e-form-000004", "mb-mp-e-form-000008"]),
        ("matbench_mp_gap", ["mb-mp-gap-000003", "mb-mp-gap-000004"]),
        ("matbench_perovskites", ["mb-perovskites-00006", "mb-perovskites-00011"]),
        ("matbench_phonons", ["mb-phonons-0002", "mb-phonons-0003"]),
    ],
)
def test_test_sets_begin_as_those_of_published_records(name, first):
    """Of fold_0 in benchmarks/matbench_v0.1_cgcnnv2019/results.json.gz of materialsproject/matbench."""
    task = find_task(name)
    assert [task.id_of(row) for row in task.test_rows(0)[:2]] == first
    together = np.concatenate([task.test_rows(fold) for fold in range(FOLDS)])
    assert sorted(together) == list(range(task.rows))


def test_scores_leave_out_tiny_targets_from_shares_only():
    found = scores(np.array([0.0, 2.0, -4.0]), np.array([3.0, 1.0, -4.0]))
    assert found == pytest.approx({"mae": 4 / 3, "rmse": np.sqrt(10 / 3), "mape": 0.25, "max_error": 3.0})


@pytest.mark.full
def test_a_fold_is_trained_and_recorded_and_the_next_one_joins_it(tmp_path, monkeypatch, capsys):
    targets = write_dataset(tmp_path / "data", TASK.rows)
    (tmp_path / "site.toml").write_text('kind = "local"\ndashboard = false\ncpus = 1\n')

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MATMINER_DATA", "data")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    flags = ["matbench", TASK.name, "--cluster", "site.toml", "--depth", "1", "--epochs", "1", "--fold"]
    for fold, said in (("0", "1 of 5 folds"), ("3", "2 of 5 folds")):
        command = [sys.executable, "-m", "srcgcnn", *flags, fold]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert said in done.stdout
    record = tmp_path / "runs" / TASK.name / "matbench.json.gz"
    document = json.loads(gzip.decompress(record.read_bytes()))
    assert document.pop("hash") == hashlib.sha256(json.dumps(document).encode()).hexdigest()  # its keys are sorted
    folds = document["tasks"][TASK.name]["results"]
    assert list(folds) == ["fold_0", "fold_3"]
    for number in (0, 3):
        fold = folds[f"fold_{number}"]
        splits = KFold(5, shuffle=True, random_state=18012019).split(np.zeros(TASK.rows))
        rows = list(splits)[number][1]
        assert list(fold["data"]) == [f"mb-jdft2d-{row + 1:03d}" for row in rows]
        errors = np.abs(np.array(list(fold["data"].values())) - targets[rows])
        assert fold["scores"]["mae"] == pytest.approx(errors.mean(), rel=1e-5)
        assert fold["scores"]["max_error"] == pytest.approx(errors.max(), rel=1e-5)
        train, validation, test = fold["parameters"]["rows_train_validation_test"]
        assert (train + validation + test, test) == (TASK.rows, len(rows))
        assert validation == round((TASK.rows - len(rows)) / 4)
    before = record.read_bytes()
    assert main([*flags, "1", "--seeds", "2"]) == 2
    assert "fold_0, fold_3 came from another recipe" in capsys.readouterr().err
    assert record.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["matbench_mp_eform"], "not a task of matbench v0.1; those with crystals are: matbench_dielectric"),
        (["matbench_steels"], "matbench_steels has compositions but no crystals"),
        (["matbench_mp_is_metal"], "is a classification"),
        (["matbench_jdft2d", "--fold", "5"], "--fold 5: matbench has folds 0 to 4"),
        (["matbench_phonons"], "set MATMINER_DATA to a folder with matbench_phonons.json.gz"),
        (["matbench_jdft2d"], "has 636 crystals with index 0 to 635; the file has 12: it is not the published one"),
        (["matbench_jdft2d", "--sweep", "two.toml"], "has 2 variants"),
        (["matbench_jdft2d", "--sweep", "leak.toml"], "may have seen test crystals"),
        (["matbench_jdft2d", "--sweep", "axis.toml"], "split kind 'size': the test set is the benchmark's"),
    ],
)
def test_what_cannot_be_recorded_is_said_in_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MATMINER_DATA", str(tmp_path / "data"))
    write_dataset(tmp_path / "data", 12)
    Path("two.toml").write_text('[axes]\nmodels = ["srcgcnn"]\ndepths = [1, 2]\nseeds = 1\n')
    Path("leak.toml").write_text(
        '[axes]\nmodels = ["srcgcnn"]\ndepths = [1]\nseeds = 1\n[training]\nnormaliser = "paper"\n'
    )
    Path("axis.toml").write_text(
        '[axes]\nmodels = ["srcgcnn"]\ndepths = [1]\nseeds = 1\n"training.split.kind" = ["size"]\n'
    )
    fold = [] if "--fold" in arguments else ["--fold", "0"]
    assert main(["matbench", *arguments, *fold]) == 2
    *notes, error = capsys.readouterr().err.splitlines()
    assert message in error
    assert all(note.startswith("store built") for note in notes)
    assert not Path("runs").exists()


def test_a_record_that_was_changed_or_is_of_another_task_is_left_alone(tmp_path):
    path, recipe = tmp_path / "matbench.json.gz", {"training": {"epochs": 1}}
    fold = {"data": {"mb-jdft2d-012": 1.0}, "parameters": {"recipe": recipe}, "scores": {}}
    record_fold(path, TASK, 0, fold)
    assert read_folds(path, TASK, recipe) == {"fold_0": fold}
    with pytest.raises(LeaderboardError, match=r"is a record of matbench_jdft2d; give matbench_phonons another --out"):
        read_folds(path, find_task("matbench_phonons"), recipe)
    text = gzip.decompress(path.read_bytes()).replace(b"1.0}", b"1.5}")
    path.write_bytes(gzip.compress(text))
    with pytest.raises(LeaderboardError, match=r"its hash is not that of its contents.*another --out"):
        record_fold(path, TASK, 1, fold)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(LeaderboardError, match=r"is not a record of this program"):
        read_folds(path, TASK, recipe)
