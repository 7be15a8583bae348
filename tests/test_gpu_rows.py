"""The table of measured GPUs in docs/performance.md is made from the reports in benchmarks/gpu/."""

import json

import pytest

from docs.gpu_rows import PAGE, rows_of, with_rows


def test_the_page_shows_the_reports_that_are_there():
    text = PAGE.read_text(encoding="utf-8")
    assert with_rows(text) == text, "python -m docs.gpu_rows writes the table"


def test_a_report_becomes_a_row_which_says_what_was_extrapolated(tmp_path):
    machine = {"device": "NVIDIA H200", "torch": "2.11.0", "cuda": "13.0", "commit": "0123456789"}
    report = {
        "trial": {"machine": machine, "process to result": {"value": 12.345, "unit": "s", "how": "measured"}},
        "paper": {"eight trainings": {"value": 59.0, "unit": "s", "how": "extrapolated from 20 epochs"}},
    }
    (tmp_path / "h200.json").write_text(json.dumps(report))
    row = rows_of(tmp_path).splitlines()[2]
    assert row == "| NVIDIA H200 | 2.11.0 | 12.3 |  | 59\\* |  |  |  | 0123456 |"


def test_a_file_that_is_no_report_is_named(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json: no part of it names a machine"):
        rows_of(tmp_path)
