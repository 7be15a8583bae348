#!/usr/bin/env python3
"""`srcgcnn sweep` as a script: `python sweeps/depth_sweep.py --help` lists its flags."""

import sys

from srcgcnn.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["sweep", *sys.argv[1:]]))
