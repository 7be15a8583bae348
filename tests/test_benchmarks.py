"""The GPU script, tried on the CPU: every part ends with figures."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.full

ROOT = Path(__file__).resolve().parent.parent


def test_the_gpu_script_runs_all_its_parts_on_a_cpu(demo_store, tmp_path):
    script = [sys.executable, str(ROOT / "benchmarks" / "gpu_report.py"), str(demo_store.folder)]
    options = ["--device", "cpu", "--tiny", "--out", str(tmp_path / "report"), "--parts", "trial", "group", "authors"]
    began = time.monotonic()
    done = subprocess.run([*script, *options], capture_output=True, text=True, check=True, timeout=200)
    elapsed_s = time.monotonic() - began
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["trial"]["epochs"]["value"] == 5, done.stdout
    whole = report["trial"]["process to result"]
    assert (whole["unit"], whole["how"]) == ("s", "measured")
    assert report["group"]["epoch of 2"]["value"] > 0
    assert {"device", "torch", "cuda", "commit"} <= report["trial"]["machine"].keys()
    assert "--authors" in report["authors"]["skipped"]
    (result,) = (tmp_path / "report" / "trial" / "results").glob("*.json")
    assert json.loads(result.read_text())["cost"]["seconds"] < whole["value"] < elapsed_s  # with the imports


def test_the_gpu_script_keeps_to_its_minutes_and_loses_nothing_to_a_part_that_fails(demo_store, tmp_path):
    script = [sys.executable, str(ROOT / "benchmarks" / "gpu_report.py"), str(demo_store.folder)]
    options = ["--device", "cpu", "--tiny", "--out", str(tmp_path / "report")]

    def reported(*more):
        subprocess.run([*script, *options, *more], capture_output=True, check=True, timeout=200)
        return json.loads((tmp_path / "report" / "report.json").read_text())

    late = reported("--minutes", "0.1", "--parts", "start")
    assert "s are left" in late["start"]["skipped"]
    broken = reported("--parts", "authors", "start", "--authors", str(tmp_path / "nothing"))
    assert "ModuleNotFoundError" in broken["authors"]["failed"]
    assert broken["authors"]["machine"]["torch"]
    assert broken["start"]["epoch 1"]["value"] > 0
