"""The GPU script, tried on the CPU: every part ends with figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.full

ROOT = Path(__file__).resolve().parent.parent


def test_the_gpu_script_runs_all_its_parts_on_a_cpu(demo_store, tmp_path):
    script = [sys.executable, str(ROOT / "benchmarks" / "gpu_report.py"), str(demo_store.folder)]
    options = ["--device", "cpu", "--tiny", "--out", str(tmp_path / "report"), "--parts", "trial", "group", "authors"]
    done = subprocess.run([*script, *options], capture_output=True, text=True, check=True, timeout=200)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["trial"]["epochs"]["value"] == 5, done.stdout
    assert report["trial"]["process to result"] == {"value": pytest.approx(20, abs=20), "unit": "s", "how": "measured"}
    assert report["group"]["epoch of 2"]["value"] > 0
    assert {"device", "torch", "cuda", "commit"} <= report["trial"]["machine"].keys()
    assert "--authors" in report["authors"]["skipped"]
    assert len(list((tmp_path / "report" / "trial" / "results").glob("*.json"))) == 1


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
