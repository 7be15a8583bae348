"""The GPU script, tried on the CPU: every part ends with figures."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_gpu_script_runs_all_its_parts_on_a_cpu(demo_store, tmp_path):
    script = [sys.executable, str(ROOT / "benchmarks" / "gpu_report.py"), str(demo_store.folder)]
    options = ["--device", "cpu", "--tiny", "--out", str(tmp_path / "report"), "--parts", "trial", "group", "authors"]
    done = subprocess.run([*script, *options], capture_output=True, text=True, check=True, timeout=200)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["trial"]["epochs"] == 2, done.stdout
    assert report["trial"]["process_to_result_s"] > 0
    assert report["group"]["group_epoch_s"] > 0
    assert "--authors" in report["authors"]["skipped"]
    assert len(list((tmp_path / "report" / "trial" / "results").glob("*.json"))) == 1
