#!/usr/bin/env python3
"""Make the screenshots of the documentation, with the Chromium that is installed.

    python docs/screenshots.py report runs/depth        OUT/report/index.html: desktop light, dark, phone

Each picture is written to docs/img, with a palette of 128 colours so that it stays below 250 KB.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES = Path(__file__).resolve().parent / "img"
COLOURS = 128
BUDGET_MS = 15_000  # virtual time for scripts of the page


def find_chromium() -> str:
    """Return the browser.

    Raises:
        FileNotFoundError: none is installed.
    """
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError("no chromium or google-chrome on the PATH: install one")


def shoot(url: str, name: str, width: int, height: int, *, dark: bool = False) -> Path:
    """Write docs/img/<name>.png of a page, sizes in CSS pixels."""
    with tempfile.TemporaryDirectory() as profile:
        raw = Path(profile) / "raw.png"
        command = [
            find_chromium(),
            "--headless",
            "--no-sandbox",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--virtual-time-budget={BUDGET_MS}",
            f"--window-size={width},{height}",
            f"--screenshot={raw}",
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            url,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return _compress(raw, IMAGES / f"{name}.png")


def _compress(raw: Path, path: Path) -> Path:
    from PIL import Image

    path.parent.mkdir(exist_ok=True)
    Image.open(raw).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    return path


def report(out: Path) -> list[Path]:
    """Shoot the report of a sweep."""
    page = (out / "report" / "index.html").resolve()
    if not page.exists():
        raise FileNotFoundError(f"{page} does not exist; run: srcgcnn report {out}")
    url = page.as_uri()
    return [
        shoot(url, "report", 1000, 1350),
        shoot(url, "report-dark", 1000, 1350, dark=True),
        shoot(url, "report-phone", 500, 1350),
    ]


PAGES = {"report": report}


def main() -> int:
    """Shoot the pages of one kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", choices=sorted(PAGES))
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the sweep")
    options = parser.parse_args()
    try:
        for path in PAGES[options.page](options.out):
            print(f"{path} ({path.stat().st_size // 1024} KB)")
    except (OSError, subprocess.SubprocessError) as error:
        print(f"screenshots: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
