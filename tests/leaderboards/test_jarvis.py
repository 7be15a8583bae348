"""JARVIS-Leaderboard: its benchmark files, and the command from one of them to the folder of a contribution."""

import csv
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from srcgcnn.cli.main import main
from srcgcnn.data.demo import demo_source
from srcgcnn.data.parsing import parse_structure
from srcgcnn.leaderboards.jarvis_task import find_task

ROOT = Path(__file__).resolve().parents[2]
TASK = "AI-SinglePropertyPrediction-exfoliation_energy-dft_3d-test-mae"
WHO = ["--team", "Us & them", "--email", "us@example.org", "--url", "https://example.org"]
PARTS = {"train": range(24), "val": range(24, 30), "test": range(30, 36)}
ASKED_BY_ITS_CHECKER = {
    "author_email",
    "project_url",
    "git_url",
    "model_name",
    "team_name",
    "time_taken_seconds",
    "software_used",
    "hardware_used",
    "date_submitted",
}


def jid(number):
    return f"JVASP-{number}"


def write_benchmark(folder, name="dft_3d_exfoliation_energy", **parts):
    """Write a task's file as that project does; its targets are numbers or texts of them."""
    parts = PARTS | parts
    split = {part: {jid(n): n / 10 if part != "val" else str(n / 10) for n in rows} for part, rows in parts.items()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.json", json.dumps(split))
    return path


@pytest.fixture
def crystals(tmp_path):
    """A table of crystals, one more than the task has; its own targets are not the task's."""
    path = tmp_path / "crystals.csv"
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "cif", "exfoliation_energy"])
        for number, row in enumerate(demo_source(37).rows()):
            table.writerow([jid(number), parse_structure(row).to(fmt="cif"), 99])
    return path


def predictions(path):
    with zipfile.ZipFile(path) as archive:
        return list(csv.DictReader(io.StringIO(archive.read(path.name.removesuffix(".zip")).decode())))


@pytest.mark.full
def test_a_task_is_trained_and_written_and_the_next_one_joins_it(tmp_path, crystals, monkeypatch, capsys):
    (tmp_path / "site.toml").write_text('kind = "local"\ndashboard = false\ncpus = 1\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    first = write_benchmark(tmp_path / "benchmarks")
    second = write_benchmark(tmp_path / "benchmarks", "dft_3d_slme", val=(), test=(35, 30))
    flags = ["--data", crystals.name, "--cluster", "site.toml", "--depth", "1", "--epochs", "1", *WHO]
    other = TASK.replace("exfoliation_energy", "slme")
    for name, file in ((TASK, first), (other, second)):
        command = [sys.executable, "-m", "srcgcnn", "jarvis", name, "--benchmark", str(file), *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    folder = tmp_path / "runs" / "jarvis" / "contribution"
    rows = predictions(folder / f"{TASK}.csv.zip")
    assert [row["id"] for row in rows] == [jid(number) for number in PARTS["test"]]
    assert [float(row["target"]) for row in rows] == [number / 10 for number in PARTS["test"]]
    mae = np.mean(
        [abs(float(row["target"]) - float(row["prediction"])) for row in predictions(folder / f"{other}.csv.zip")]
    )
    assert f"MAE {mae:.4f}" in done.stdout
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata.keys() >= ASKED_BY_ITS_CHECKER
    assert list(metadata["time_taken_seconds"]) == [f"{TASK}.csv.zip", f"{other}.csv.zip"]
    tasks = metadata["srcgcnn"]["tasks"]
    assert tasks[TASK]["rows_train_validation_test"] == [24, 6, 6]
    assert tasks[other]["rows_train_validation_test"] == [18, 6, 2]  # no validation set of its own
    script = (folder / "run.sh").read_text()
    for name in (TASK, other):
        assert f"srcgcnn jarvis {name} --sweep recipe.toml --data crystals.csv --depth 1 --epochs 1" in script
    assert "--team 'Us & them' --email us@example.org" in script
    assert str(tmp_path) not in script + json.dumps(metadata)
    assert "models" in (folder / "recipe.toml").read_text()
    assert main(["jarvis", TASK, "--benchmark", str(first), *flags, "--seeds", "2"]) == 2
    assert f"{TASK}, {other} came from another recipe" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.parametrize(
    ("task", "parts", "message"),
    [
        (TASK, {"test": (35, 36, 37, 38)}, "2 of 4 test crystals of "),
        (TASK, {"test": (35, 36, 37, 38)}, "(JVASP-37, JVASP-38)"),
        (TASK, {"test": ()}, "an id is in two sets, or the test set is empty"),
        (TASK, {"val": (1,)}, "an id is in two sets, or the test set is empty"),
        (TASK, {"train": (), "val": ()}, "has no training crystals"),
        (
            TASK.replace("exfoliation_energy", "slme"),
            {},
            "is not a benchmark file of AI-SinglePropertyPrediction-slme-",
        ),
        (
            TASK.replace("mae", "acc"),
            {},
            "is not a task for a network that predicts one number, AI-SinglePropertyPrediction-PROPERTY",
        ),
        ("exfoliation_energy", {}, "'exfoliation_energy' is not a task"),
    ],
)
def test_what_cannot_be_contributed_is_said_in_one_line(tmp_path, crystals, monkeypatch, capsys, task, parts, message):
    monkeypatch.chdir(tmp_path)
    file = write_benchmark(tmp_path, **parts)
    assert main(["jarvis", task, "--benchmark", str(file), "--data", str(crystals), *WHO]) == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert message in error
    assert not Path("runs").exists()


def test_tasks_are_those_of_the_installed_package_and_a_wrong_name_lists_near_ones(tmp_path, monkeypatch, capsys):
    package = tmp_path / "jarvis_leaderboard"
    folder = package / "benchmarks" / "AI" / "SinglePropertyPrediction"
    for name in ("dft_3d_exfoliation_energy", "dft_3d_ehull", "qm9_std_jctc_gap"):
        write_benchmark(folder, name)
    (package / "__init__.py").write_text("raise ImportError('nothing of it is imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(find_task(f"{TASK}.csv.zip", None).train) == 24
    assert main(["jarvis", TASK.replace("exfoliation", "exfoliatoin"), *WHO]) == 2
    assert f"; near ones: {TASK}" in capsys.readouterr().err
    assert main(["jarvis", "qm9_std_jctc-gap", *WHO]) == 2
    assert "AI-SinglePropertyPrediction-gap-qm9_std_jctc-test-mae" in capsys.readouterr().err


def test_without_package_and_file_it_is_said_where_tasks_come_from(capsys):
    assert main(["jarvis", TASK, *WHO]) == 2
    assert "pip install --no-deps jarvis-leaderboard" in capsys.readouterr().err
    assert main(["jarvis", TASK, *WHO, "--email", "us"]) == 2
    assert "--email us: the leaderboard requires an address" in capsys.readouterr().err
