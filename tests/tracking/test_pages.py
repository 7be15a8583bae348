"""MLflow's and Ray's pages in a real browser, on real sweeps: what a person sees first."""

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from chromium import CHROMIUM, NO_CHROMIUM, chromium, visit

from srcgcnn.run.folder import open_run
from srcgcnn.tracking.store import run_name
from tests.e2e.test_sweep import ENDLESS_EPOCHS, Sweep, runs_of, wait_for

pytestmark = [pytest.mark.full, pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)]


def test_mlflow_opens_on_the_trials_by_name_with_columns_and_charts_of_the_trade_off(tmp_path):
    sweep = Sweep(tmp_path)
    sweep.run("--depths", 1, 3, "--seeds", 1, "--epochs", 1)
    command = [sys.executable, "-m", "srcgcnn", "ui", sweep.paths.out]
    log = tmp_path / "ui.log"
    with log.open("w") as stream:
        server = subprocess.Popen(command, cwd=tmp_path, stdout=stream, stderr=stream, start_new_session=True)
    try:
        (url,) = wait_for(lambda: re.findall(r"http://\S+", log.read_text())[:1])
        wait_for(lambda: answers(url))
        labels = [run_name(result.config) for result in open_run(sweep.paths).results]
        wanted = ["conv_params", "val_mae", "test_mae", "alpha", "norm"]
        with chromium(tmp_path) as browser:
            page = visit(browser, url, [*labels, *wanted], size=(1900, 900))
            drawn = ["Trade-off", "conv_params vs. val_mae", "depth vs. val_mae", "epoch/val_mae", "epoch/train_loss"]
            charts = visit(browser, f"{url}&compareRunsMode=CHART", [*labels, *drawn], size=(1900, 1600))
            used = ["cpu_utilization_percentage", "system_memory_usage_megabytes"]
            usage = visit(browser, f"{trial_page(sweep, url)}/system-metrics", used)
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.wait(30)
    missing = [word for word in (*labels, *wanted) if word not in page.text]
    assert not missing, page.text
    assert not [word for word in (*labels, *drawn) if word not in charts.text], charts.text
    assert "epochs_trained" not in charts.text  # the bar charts of all other numbers are folded away
    assert not [word for word in used if word not in usage.text], usage.text
    for result in open_run(sweep.paths).results:
        error = result.metrics.val_mae
        assert {f"{error:.3f}", f"{error:.9f}"[:5]} & {word[:5] for word in page.text.split()}, (
            page.text
        )  # rounded or cut


def trial_page(sweep, url):
    child = next(run for run in runs_of(sweep) if "mlflow.parentRunId" in run.data.tags)
    return f"{url.partition('#')[0]}#/experiments/{child.info.experiment_id}/runs/{child.info.run_id}"


def test_the_ray_dashboard_asks_for_the_token_and_shows_the_running_sweep(tmp_path):
    sweep = Sweep(tmp_path)
    (tmp_path / "site.toml").write_text("dashboard = true\ncheckpoint_interval_s = 0.2\n")
    driver = sweep.start("--depths", 2, "--seeds", 2, "--epochs", ENDLESS_EPOCHS)
    try:
        wait_for(lambda: list(sweep.paths.checkpoints.glob("*.pt")))
        (url,) = re.findall(r"Ray dashboard: (http://\S+)", (tmp_path / "killed.log").read_text())
        assert refused(f"{url}/api/v0/actors")
        cookies = {"ray-authentication-token": sweep.paths.ray_token.read_text().strip()}
        with chromium(tmp_path) as browser:
            closed = visit(browser, f"{url}/#/actors", ["oken"])
            page = visit(browser, f"{url}/#/actors", ["train_in_worker", "ALIVE"], cookies=cookies)
    finally:
        os.kill(driver.pid, signal.SIGINT)
        driver.wait(timeout=90)
    assert "train_in_worker" not in closed.text
    assert "train_in_worker" in page.text
    assert "ALIVE" in page.text


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def refused(url):
    try:
        with urllib.request.urlopen(url, timeout=20):
            return False
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
