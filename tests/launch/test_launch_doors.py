"""What a submitted sweep leaves in its folder, for other people of the machine: no pickle, no secret, no lock."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from stranger import CAN_BE_ANOTHER, NOT_ROOT, as_stranger

from srcgcnn.driver.conduct import only_driver
from srcgcnn.run.paths import RunPaths, make_run_folder

ROOT = Path(__file__).resolve().parents[2]
SECRET = "value-of-a-variable"
SITE = f"""
kind = "slurm"
[worker]
count = 3
[environment]
HF_TOKEN = "{SECRET}"
"""
# sbatch as far as a submission needs it: it keeps the text, and gives ids
SBATCH = """#!/bin/sh
for last; do :; done
case "$*" in *--test-only*) echo "sbatch: Job 1 to start" >&2; exit 0;; esac
echo x >> {count}
cp "$last" {texts}/$(wc -l < {count}).sh
echo "Submitted batch job $((16 + $(wc -l < {count})))"
"""


@pytest.fixture
def folder():
    """A folder that everybody may enter, as the scratch space of a cluster."""
    path = Path(tempfile.mkdtemp(prefix="srcgcnn-open-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def submit(folder, paths, umask=0o000, *flags):
    """Submit a small sweep by the command that people use; returns the sbatch texts."""
    texts = folder / "texts"
    texts.mkdir(mode=0o700)
    commands = folder / "bin"
    commands.mkdir()
    (commands / "sbatch").write_text(SBATCH.format(count=texts / "count", texts=texts))
    (commands / "squeue").write_text("#!/bin/sh\nexit 0\n")
    for command in commands.iterdir():
        command.chmod(0o755)
    (folder / "site.toml").write_text(SITE)
    (folder / "site.toml").chmod(0o600)
    words = ["--cluster", folder / "site.toml", "--depths", 1, 2, 3, "--seeds", 3, "--out", paths.out, *flags]
    done = subprocess.run(
        [sys.executable, ROOT / "sweeps" / "depth_sweep.py", *map(str, words), "--stores", str(folder / "stores")],
        env={**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        umask=umask,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [text.read_text() for text in sorted(texts.glob("*.sh"))]


def everything(folder):
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def mode(path):
    return path.stat().st_mode & 0o777


@pytest.mark.full
def test_a_submitted_sweep_holds_no_pickle_and_tells_nobody_the_variables(folder):
    paths = RunPaths(folder / "out")
    head, workers = submit(folder, paths)
    assert f"srcgcnn.launch.start head {paths.out}" in head
    assert f"srcgcnn.launch.start worker {paths.out} 0" in workers
    assert "--array=0-2" in workers
    assert [mode(paths.out), mode(paths.launch), mode(paths.job_logs)] == [0o700] * 3
    assert not [path for path in everything(paths.out) if "pkl" in path.name or b"cloudpickle" in path.read_bytes()]
    telling = [path for path in everything(paths.out) if SECRET in path.read_text(errors="replace")]
    assert paths.launch_request in telling
    assert [mode(path) for path in telling] == [0o600] * len(telling), telling


@pytest.mark.full
@pytest.mark.skipif(not CAN_BE_ANOTHER, reason=NOT_ROOT)
def test_a_sweep_that_its_owner_opened_to_readers_keeps_launch_and_lock_to_itself(folder):
    """Also a folder of an earlier version, made with a careless umask."""
    paths = RunPaths(folder / "out")
    paths.out.mkdir()
    paths.out.chmod(0o777)
    paths.launch.mkdir()
    paths.launch.chmod(0o777)
    submit(folder, paths)
    assert (mode(paths.out), mode(paths.launch)) == (0o755, 0o700)
    with only_driver(paths, 0.0):
        pass
    got = as_stranger(
        read=[paths.out, paths.launch, paths.launch_request, paths.driver_lock],
        lock=[paths.driver_lock],
    )
    assert "sweep.json" in got["read"][0]  # its owner allowed that
    assert got["read"][1:] == [None, None, None]
    assert got["locked"] == [False]


def test_a_launch_folder_of_somebody_else_is_refused(tmp_path):
    paths = RunPaths(tmp_path / "out")
    paths.out.mkdir()
    (tmp_path / "theirs").mkdir()
    paths.launch.symlink_to(tmp_path / "theirs")
    with pytest.raises(PermissionError, match="is a link or belongs to somebody else"):
        make_run_folder(paths)
