"""The studies that ship: each is read, compared and reported from its own files, without data or training."""

import shutil
from pathlib import Path

import pytest

from docs.studies import PAGES, ROOT, with_numbers
from docs.study_figures import numbers
from srcgcnn.cli.main import main

STUDIES = sorted(path.parent for path in (Path(__file__).resolve().parents[1] / "studies").glob("*/sweep.json"))
MOST_BYTES = 5_000_000


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
    written, figures = with_numbers(text, page.parent)
    stale = "results have changed: python -m docs.studies writes their numbers and figures"
    assert written == text, stale
    for path, drawing in figures.items():
        assert numbers(drawing) in path.read_text(encoding="utf-8"), stale


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_a_study_is_small_and_tells_its_numbers(study):
    files = [path for path in study.rglob("*") if "report" not in path.parts and path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    page = (study / "README.md").read_text(encoding="utf-8")
    assert "<!-- table of " in page or "<!-- depths of " in page


PARTLY = """
<!-- table of studies/matched: CGCNN-3; CGCNN-16 -->
<!-- end -->
<!-- depths of studies/matched: SR-CGCNN step-norm; SchNet -->
<!-- end -->
<!-- comparison in studies/matched: CGCNN-16; CGCNN-3; 0.01 -->
<!-- end -->
<!-- figure of studies/matched: parameters; CGCNN-16 -->
<!-- end -->
<!-- table of studies/not_begun -->
<!-- end -->
"""


def test_what_a_study_has_not_trained_yet_is_said_where_it_will_stand():
    page, figures = with_numbers(PARTLY, ROOT)
    assert "| CGCNN-16 | not trained yet | | | |" in page
    assert "| CGCNN-3 | 66,432 | 10 |" in page
    assert "| T or L | SR-CGCNN step-norm |" in page
    assert "Not trained yet: SchNet." in page
    assert "> CGCNN-16 minus CGCNN-3: not trained yet." in page
    assert "> No figure yet: no variant 'CGCNN-16'; available: CGCNN-3" in page
    assert "> No trial has finished yet." in page
    assert not figures
    assert with_numbers(page, ROOT)[0] == page
