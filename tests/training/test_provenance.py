"""Which code made a result."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import srcgcnn


@pytest.mark.full
def test_a_checkout_with_changes_is_recorded_as_such(tmp_path):
    package = tmp_path / "checkout" / "srcgcnn"
    shutil.copytree(Path(srcgcnn.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))

    def git(*arguments):
        name = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
        command = ["git", "-C", str(package.parent), *name, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def recorded():
        code = "from srcgcnn.training.provenance import git_commit; print(git_commit())"
        done = subprocess.run(
            [sys.executable, "-B", "-c", code], cwd=package.parent, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "all")
    assert recorded() == git("rev-parse", "HEAD")
    (package / "cli.py").write_text("# changed\n")
    assert recorded() == git("rev-parse", "HEAD") + "+changes"
