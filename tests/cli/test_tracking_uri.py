"""Addresses of MLflow stores on the command line."""

import subprocess
import sys
from pathlib import Path


def test_a_password_in_a_tracking_uri_is_refused_and_not_repeated(tmp_path):
    script = Path(__file__).resolve().parents[2] / "sweeps" / "depth_sweep.py"
    command = [sys.executable, str(script), "--tracking-uri", "postgresql://ada:hidden@db/mlflow"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert ".pgpass" in done.stderr
    assert "hidden" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
