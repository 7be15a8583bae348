"""The studies that ship: each is read, compared and reported from its own files, without data or training."""

import shutil
from pathlib import Path

import pytest

from srcgcnn.cli.main import main

STUDIES = sorted(path.parent for path in (Path(__file__).resolve().parents[1] / "studies").glob("*/sweep.json"))


@pytest.mark.full
@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_a_study_rebuilds_its_page(study, tmp_path):
    copy = tmp_path / study.name
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("report"))
    assert main(["report", str(copy)]) == 0
    assert (copy / "report" / "index.html").stat().st_size > 10_000


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_the_numbers_of_a_study_are_those_of_its_readme(study, capsys):
    assert main(["results", str(study), "--format", "markdown"]) == 0
    readme = (study / "README.md").read_text(encoding="utf-8")
    for line in capsys.readouterr().out.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 6 and cells[3].isdigit():
            assert f"| {cells[0]} | {cells[1]} | {cells[3]} | {cells[4]} | {cells[6]} |" in readme
