"""A table with gaps, two targets, one network: the whole command."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from pymatgen.io.cif import CifWriter
from two_targets import VOLUME, with_volumes

from srcgcnn.data.demo import demo_source
from srcgcnn.run.folder import open_run

pytestmark = pytest.mark.full

ROOT = Path(__file__).resolve().parents[2]


def test_a_table_with_gaps_becomes_networks_for_two_targets(tmp_path):
    source = with_volumes(demo_source(60), lambda number: VOLUME if number % 3 == 0 else None)
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        rows = [(row.row_id, CifWriter(row.content), *row.targets.values()) for row in source.rows()]
        csv.writer(stream).writerows([("id", "cif", *source.targets), *(row[:4] for row in rows)])
    (tmp_path / "site.toml").write_text("dashboard = false\n")
    flags = ["--cluster", "site.toml", "--models", "srcgcnn", "--depths", "1", "2", "--seeds", "1", "--epochs", "2"]
    command = [sys.executable, str(ROOT / "sweeps" / "depth_sweep.py"), "--data", "t.csv", "--out", "out", *flags]
    done = subprocess.run(
        [*command, "--target", *source.targets], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = open_run(tmp_path / "out").results
    assert len(results) == 2
    for result in results:
        energy, volume = result.targets
        assert (sum(energy.rows), sum(volume.rows)) == (60, 40)
    for words in (f"{source.targets[0]} [eV/atom] + {VOLUME} [no unit]", "mean of MAE/std", "missing in 20 of 60"):
        assert words in done.stdout + done.stderr
    assert (tmp_path / "out" / "report" / "study-3" / "figures" / "parity.png").exists()
