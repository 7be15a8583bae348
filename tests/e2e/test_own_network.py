"""A network of one's own in a whole sweep: the example beside CGCNN on real Ray, again, predicted with, and refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths

ROOT = Path(__file__).resolve().parents[2]
SITE = "cpus = 1\ndashboard = false\ncheckpoint_interval_s = 0.5\n"
FLAGS = ("--epochs", 2, "--depths", 1, 2, "--seeds", 2, "--batch-size", 64, "--norms", "affine")


def srcgcnn(folder, *words, expect=0, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SRCGCNN_")}
    done = subprocess.run(
        [sys.executable, "-m", "srcgcnn", *map(str, words)],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **variables},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == expect, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.full
def test_a_network_of_ones_own_is_swept_reported_and_predicted_with(tmp_path):
    shutil.copy(ROOT / "examples" / "my_network.py", tmp_path)
    (tmp_path / "site.toml").write_text(SITE)
    sweep = ("sweep", "--cluster", "site.toml", "--out", "out", "--models", "my_network:Gine", "cgcnn", *FLAGS)
    output = srcgcnn(tmp_path, *sweep)
    assert "norms: no model of this sweep has them" in output
    run = open_run(RunPaths(tmp_path / "out"))
    labels = {result.config.label: result for result in run.results}
    names = {f"{name}-{depth} seed {seed}" for name in ("Gine", "CGCNN") for depth in (1, 2) for seed in (0, 1)}
    assert labels.keys() == names
    assert all(result.probes is None and result.config.model.code for result in run.results if result.config.model.own)
    assert "0 to train" in srcgcnn(tmp_path, *sweep)

    # what only reads needs no permission, and imports nothing: the file is gone
    (tmp_path / "my_network.py").rename(tmp_path / "away.py")
    assert "Gine-2" in srcgcnn(tmp_path, "results", "out")
    srcgcnn(tmp_path, "report", "out")
    assert "Gine-2" in (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert "8" in srcgcnn(tmp_path, "status", "out")
    (tmp_path / "away.py").rename(tmp_path / "my_network.py")

    crystal = tmp_path / "salt.cif"
    from pymatgen.core import Lattice, Structure

    Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(crystal)
    predict = ("predict", "out", crystal, "--variant", "Gine-2", "--out", "found.csv")
    assert "nothing is imported because a file names it" in srcgcnn(tmp_path, *predict, expect=2)
    srcgcnn(tmp_path, *predict, "--network", "my_network:Gine")
    assert pd.read_csv(tmp_path / "found.csv")["error"].isna().all()

    # a changed file is another network: old results stay, and are told apart
    with (tmp_path / "my_network.py").open("a") as stream:
        stream.write("\n# wider soon\n")
    assert "8 to train" not in srcgcnn(tmp_path, *sweep, "--dry-run")
    assert "4 finished before, 4 to train" in srcgcnn(tmp_path, *sweep, "--dry-run")


@pytest.mark.full
def test_a_definition_that_names_code_is_refused_until_its_user_names_it(tmp_path):
    mark = tmp_path / "mark"
    (tmp_path / "theirs.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Net: pass\n")
    (tmp_path / "theirs.toml").write_text('[axes]\nmodels = ["theirs:Net"]\n')
    said = srcgcnn(tmp_path, "sweep", "--sweep", "theirs.toml", "--dry-run", expect=2)
    assert "network 'theirs:Net' is code" in said
    known = {"name": "theirs:Net", "code": "0" * 16, "settings": ["depth"]}
    record = {"spec": {"name": "x", "axes": [{"models": ["theirs:Net"]}], "networks": [known]}}
    record |= {"data": {"data_hash": "0", "name": "x", "target": "y", "unit": ""}, "store": "s", "command": "c"}
    (tmp_path / "out" / "results").mkdir(parents=True)
    (tmp_path / "out" / "sweep.json").write_text(json.dumps(record))
    assert "15" in srcgcnn(tmp_path, "status", "out")  # 5 depths, 3 seeds
    srcgcnn(tmp_path, "resume", "out", expect=2)
    assert not mark.exists()
