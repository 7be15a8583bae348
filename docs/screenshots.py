"""Take the screenshots of the documents: `python -m docs.screenshots OUT`, from the repository's root.

OUT is a finished sweep with its report (`srcgcnn report OUT`); it is looked at, never changed except for its MLflow
store, so give a copy. Ray's dashboard is shown with a small sweep that runs meanwhile. Needs Chromium.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from srcgcnn.run.paths import RunPaths
from srcgcnn.tracking.store import experiment_of
from tests.support.chromium import chromium, visit

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES = Path(__file__).resolve().parent / "img"
ROOT = IMAGES.parents[1]
SIZE = (1400, 820)
COLOURS = 128
PAGES = ("report", "mlflow", "ray")
CLOSE_ASSISTANT = """document.querySelector('[data-component-id="mlflow.assistant.chat_panel.close"]')?.click()"""
COOKIE = "ray-authentication-token"


def save(name: str, png: bytes) -> None:
    """Write one image, with a palette so that the repository stays small."""
    path = IMAGES / f"{name}.png"
    Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"docs/img/{name}.png ({path.stat().st_size // 1024} KB)")


def report(out: Path, browser: int) -> None:
    """The report of a sweep: light, dark, and on a phone."""
    page = RunPaths(out).report / "index.html"
    if not page.exists():
        raise FileNotFoundError(f"{page} does not exist; run: srcgcnn report {out}")
    for name, width, dark in (("report", 1200, False), ("report-dark", 1200, True), ("report-phone", 400, False)):
        save(name, visit(browser, page.resolve().as_uri(), size=(width, 1350), settle_s=5, dark=dark).png)


def mlflow(out: Path, browser: int) -> None:
    """MLflow's list of trials as `srcgcnn ui` opens it, their charts, and the page of the sweep."""
    command = [sys.executable, "-m", "srcgcnn", "ui", str(out)]
    with running(command, r"MLflow: (http://\S+)") as url:
        save(
            "mlflow-runs", visit(browser, url, ["val_mae", "seed 1"], size=SIZE, settle_s=5, script=CLOSE_ASSISTANT).png
        )
        charts = f"{url}&compareRunsMode=CHART"
        save(
            "mlflow-charts",
            visit(browser, charts, ["epoch/val_mae"], size=(1400, 1180), settle_s=8, script=CLOSE_ASSISTANT).png,
        )
        run = parent_run(out)
        page = f"{url.partition('#')[0]}#/experiments/{experiment_of(RunPaths(out))}/runs/{run}"
        save(
            "mlflow-sweep",
            visit(browser, page, ["Best ", "conv params"], size=(1280, 1700), settle_s=5, script=CLOSE_ASSISTANT).png,
        )


def parent_run(out: Path) -> str:
    """Return the id of the sweep's own run."""
    from mlflow import MlflowClient

    paths = RunPaths(out)
    client = MlflowClient(paths.default_tracking_uri)
    runs = client.search_runs([str(experiment_of(paths))], "tags.`srcgcnn.sweep` != ''", max_results=1)
    return str(runs[0].info.run_id)


def ray(folder: Path, browser: int) -> None:
    """Nodes and processes in Ray's dashboard while a small sweep runs, past its question for the token."""
    script = str(ROOT / "sweeps" / "depth_sweep.py")
    out = folder / "out"
    python = os.path.relpath(sys.executable)  # the page shows it
    command = [python, script, "--epochs", "2000", "--out", str(out), "--stores", str(folder / "stores")]
    with running(command, r"Ray dashboard: (http://\S+)") as url:
        wait_for(lambda: sum("epoch" in log.read_text() for log in (out / "logs").glob("*.log")) > 1)
        cookies = {COOKIE: (out / ".ray_token").read_text().strip()}
        page = f"{url}/#/cluster"
        save("ray-cluster", visit(browser, page, ["epoch"], cookies=cookies, size=(1400, 1230), settle_s=20).png)


@contextmanager
def running(command: list[str], address: str) -> Iterator[str]:
    """Run a command that prints the address of its page; yields the address once it answers."""
    with tempfile.NamedTemporaryFile("w+", suffix=".log") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(lambda: re.search(address, Path(log.name).read_text(encoding="utf-8")))
            found = re.findall(address, Path(log.name).read_text(encoding="utf-8"))[0]
            wait_for(lambda: answers(found))
            yield found
        finally:
            os.kill(process.pid, signal.SIGINT)
            process.wait(60)


def answers(url: str) -> bool:
    """Whether a page is there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - the address is on loopback
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_for(condition: object, seconds: float = 120.0) -> None:
    """Return when a condition holds.

    Raises:
        TimeoutError: it never did.
    """
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError(f"nothing after {seconds:g} s")
        time.sleep(0.2)


def main() -> None:
    """Take what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--only", nargs="+", choices=PAGES, default=PAGES, help="default: all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder)) as browser:
        if "report" in options.only:
            report(options.out, browser)
        if "mlflow" in options.only:
            mlflow(options.out, browser)
        if "ray" in options.only:
            ray(Path(folder), browser)


if __name__ == "__main__":
    main()
