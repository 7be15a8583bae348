"""Files that are either whole or absent, on file systems that fill up or go away."""

import errno
import os
from pathlib import Path

import pytest

from srcgcnn.files import open_log, write_text


def test_a_log_on_a_full_disk_loses_its_lines_and_nothing_else(tmp_path):
    for path in (Path("/dev/full"), tmp_path / "log"):  # the first has no space, ever
        with open_log(path) as log:
            log.write("one line\n")
            log.write("x" * 100_000 + "\n")
    with open_log(tmp_path / "log") as log:
        log.write("the last\n")
    assert (tmp_path / "log").read_text() == "one line\n" + "x" * 100_000 + "\nthe last\n"


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENOSPC])
def test_a_file_system_that_is_away_for_a_moment_is_waited_for(tmp_path, monkeypatch, number):
    failures = iter([OSError(number, os.strerror(number))] * 2)
    flush = os.fsync

    def fsync(descriptor):
        for failure in failures:
            raise failure
        flush(descriptor)

    monkeypatch.setattr("srcgcnn.files.SPACE_PAUSE_S", 0.01)
    monkeypatch.setattr("os.fsync", fsync)
    write_text(tmp_path / "file", "whole")
    assert (tmp_path / "file").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
