"""The studies that ship: each is read, compared and reported from its own files, without data or training."""

import shutil
from pathlib import Path

import pytest

from docs.studies import PAGES, ROOT, with_numbers
from srcgcnn.cli.main import main

STUDIES = sorted(path.parent for path in (Path(__file__).resolve().parents[1] / "studies").glob("*/sweep.json"))


@pytest.mark.full
@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_a_study_rebuilds_its_page(study, tmp_path):
    copy = tmp_path / study.name
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("report"))
    assert main(["report", str(copy)]) == 0
    assert (copy / "report" / "index.html").stat().st_size > 10_000


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_numbers_on_a_page_are_those_of_its_studies(page):
    text = page.read_text(encoding="utf-8")
    assert with_numbers(text) == text, "results have changed: python -m docs.studies writes their numbers"


def test_every_study_tells_its_numbers():
    for study in STUDIES:
        assert "<!-- table of " in (study / "README.md").read_text(encoding="utf-8")
