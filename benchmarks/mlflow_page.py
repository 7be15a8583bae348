#!/usr/bin/env python3
"""How long MLflow's page of a large sweep takes in a real browser: the list of trials, and their charts.

    PYTHONPATH=tests/support python benchmarks/mlflow_page.py [--trials 1000]

Writes the result files of a sweep of made-up numbers, lets `srcgcnn track` write the pages, opens them with
`srcgcnn ui` in headless Chromium, and prints JSON: seconds until the first trial's name and error are on the page, and
until every chart of the page has its title. Each page is opened twice: the first visit loads MLflow's own code as well.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from chromium import chromium, visit

from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result
from srcgcnn.run.training_config import TrainingConfig
from srcgcnn.run.trial import DataRef
from srcgcnn.run.trial_result import Cost, Curves, Metrics, Provenance, TrialResult
from srcgcnn.sweep.axes import Axes
from srcgcnn.sweep.record import SweepRecord, write_record
from srcgcnn.sweep.space import trials_of
from srcgcnn.sweep.spec import SweepSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srcgcnn.run.trial import TrialConfig

DEPTHS = tuple(range(1, 11))
EPOCHS = 30
CHARTS = ("Trade-off", "conv_params vs. val_mae", "depth vs. val_mae", "epoch/val_mae", "epoch/train_loss")


def made_up(trial: TrialConfig, random: np.random.Generator) -> TrialResult:
    """Return a result that looks like one."""
    floor = 0.1 + 0.05 / trial.model.depth + 0.005 * random.standard_normal()
    errors = tuple(float(floor + 0.5 * np.exp(-epoch / 8)) for epoch in range(EPOCHS))
    metrics = Metrics(
        EPOCHS - 1, 0.1, val_mae=errors[-1], val_rmse=2 * floor, test_mae=errors[-1] + 0.01, test_rmse=2 * floor
    )
    cost = Cost(float(trial.model.depth), 100.0, 100.0, 1, 0)
    provenance = Provenance("2026-01-01T00:00:00+00:00", "", {}, "cpu", "host", 1)
    curves = Curves(errors, errors, (1e-3,) * EPOCHS)
    return TrialResult(
        trial.key, trial, metrics, curves, 22_144, 36_545, 0.0, 1.0, (600, 200, 200), (), cost, provenance
    )


def write_sweep(paths: RunPaths, count: int) -> None:
    """Write result files and the sweep's record."""
    axes = Axes(models=("srcgcnn",), depths=DEPTHS, seeds=tuple(range(count // len(DEPTHS))))
    spec = SweepSpec("page", axes=(axes,), training=TrainingConfig(epochs=EPOCHS))
    data = DataRef("a" * 16, "made-up", "y", "eV/atom")
    random = np.random.default_rng(0)
    write_record(paths, SweepRecord(spec, data, "nowhere", "benchmark"))
    for trial, _ in trials_of(spec, data):
        write_result(paths, made_up(trial, random))


@contextmanager
def page(out: Path, log: Path) -> Iterator[str]:
    """Start `srcgcnn ui`; yields the address."""
    with log.open("w") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", "srcgcnn", "ui", str(out)], stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        end = time.monotonic() + 120
        while not (found := re.findall(r"http://\S+", log.read_text())):
            if time.monotonic() > end or server.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.2)
        yield found[0]
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.wait(60)


def seconds_to_show(browser: int, url: str, words: tuple[str, ...]) -> float | str:
    """Open a page; returns the seconds until all words are on it, or says which are not."""
    began = time.monotonic()
    shown = visit(browser, url, words, size=(1900, 1600))
    missing = [word for word in words if word not in shown.text]
    return f"not shown: {', '.join(missing)}" if missing else round(time.monotonic() - began, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="page-", dir="/tmp") as folder:
        paths = RunPaths(Path(folder) / "run")
        write_sweep(paths, options.trials)
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "srcgcnn", "track", str(paths.out)], check=True, capture_output=True)
        figures: dict[str, object] = {"trials": options.trials, "seconds to track": round(time.monotonic() - began, 1)}
        with page(paths.out, Path(folder) / "ui.log") as url, chromium(Path(folder)) as browser:
            for visit_number in ("first", "second"):
                figures[f"seconds to the list, {visit_number} visit"] = seconds_to_show(
                    browser, url, ("seed 0", "val_mae")
                )
                charts = f"{url}&compareRunsMode=CHART"
                figures[f"seconds to the charts, {visit_number} visit"] = seconds_to_show(browser, charts, CHARTS)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
