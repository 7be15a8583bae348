"""`python -m srcgcnn.analysis.live OUT`: the report of a sweep that still runs, for its driver to start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from srcgcnn.analysis.report import write_report
from srcgcnn.run.paths import RunPaths

if __name__ == "__main__":
    os.nice(19)
    write_report(RunPaths(Path(sys.argv[1])), running=True)
