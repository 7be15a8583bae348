"""Several targets in one network: the same statistics for their common error and for each target in its unit."""

import json

import numpy as np
import pandas as pd
import pytest
from two_targets import VOLUME

from srcgcnn.analysis.archive import archive_sweep
from srcgcnn.analysis.baselines import baselines_of
from srcgcnn.analysis.comparison import compare
from srcgcnn.analysis.report import write_report
from srcgcnn.analysis.studies import studies_of, views_of
from srcgcnn.analysis.two_folders import compare_folders
from srcgcnn.cli.main import main
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.trial import MEAN_OF_RATIOS

ENERGY = "electrostatic_energy"
SR2 = "SR-CGCNN T=2 step-norm"


def test_the_errors_of_crystals_add_up_to_the_errors_of_the_trial(two_target_sweep):
    """So that every interval and test is about the number by which epochs and variants were chosen."""
    (study,) = studies_of(two_target_sweep)
    assert study.unit == study.quantity == MEAN_OF_RATIOS
    for each in (study, *study.parts):
        for result in each.results:
            for rows, error in (("test", result.test_error), ("validation", result.val_error)):
                errors = each.crystal_errors(result.key, rows)
                assert errors.mean() == pytest.approx(error)
                assert len(errors) == result.rows[2 if rows == "test" else 1]


def test_each_target_is_a_study_in_its_unit(two_target_sweep):
    common, energy, volume = views_of(two_target_sweep)
    assert [one.unit for one in (common, energy, volume)] == [MEAN_OF_RATIOS, "eV/atom", "angstrom3"]
    assert volume.title == f"{common.title}: {VOLUME}"
    by_key = {result.key: result for result in open_run(two_target_sweep).results}
    expected = np.mean([by_key[one.key].targets[1].test_mae for one in volume.members[SR2]])
    assert volume.interval(SR2).mean == pytest.approx(expected)
    predictions = volume.predictions(volume.results[0].key)
    assert len(predictions) == volume.results[0].rows[2] < common.results[0].rows[2]
    assert not predictions["target"].isna().any()
    assert [one.title for one in views_of(two_target_sweep, VOLUME)] == [volume.title]
    with pytest.raises(ValueError, match=f"no trial predicts 'gap'; targets here: .*, {ENERGY}, {VOLUME}"):
        views_of(two_target_sweep, "gap")


def test_baselines_have_the_same_errors(two_target_sweep):
    common, *parts = views_of(two_target_sweep)
    deviations = [one.deviation for one in common.results[0].targets]
    for found, *each in zip(*(baselines_of(study) for study in (common, *parts)), strict=True):
        ratios = [one.test.mean / deviation for one, deviation in zip(each, deviations, strict=True)]
        assert found.test.mean == pytest.approx(np.mean(ratios))


def test_results_of_one_target_or_of_all(two_target_sweep, capsys):
    assert main(["results", str(two_target_sweep.out), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["unit"] for row in rows] == [MEAN_OF_RATIOS] * 2 + ["eV/atom"] * 2 + ["angstrom3"] * 2
    assert main(["results", str(two_target_sweep.out), "--format", "json", "--target", VOLUME]) == 0
    assert json.loads(capsys.readouterr().out) == rows[4:]
    assert main(["results", str(two_target_sweep.out), "--trials", "--csv", "--target", VOLUME]) == 0
    mine = capsys.readouterr().out.splitlines()
    assert main(["results", str(two_target_sweep.out), "--trials", "--csv"]) == 0
    both = capsys.readouterr().out.splitlines()
    position = mine[0].split(",").index("test_error"), both[0].split(",").index(f"test_mae_{VOLUME}")
    assert [line.split(",")[position[0]] for line in mine[1:]] == [line.split(",")[position[1]] for line in both[1:]]
    assert main(["results", str(two_target_sweep.out), "--target", "gap"]) != 0


@pytest.mark.full
def test_variants_and_folders_are_compared_target_by_target(two_target_sweep, capsys):
    volume = views_of(two_target_sweep, VOLUME)[0]
    assert main(["compare", str(two_target_sweep.out), SR2, "CGCNN-1", "--target", VOLUME]) == 0
    said = capsys.readouterr().out
    assert f"{compare(volume, SR2, 'CGCNN-1').difference.mean:+.4f} angstrom3" in said
    assert MEAN_OF_RATIOS not in said
    assert main(["compare", str(two_target_sweep.out), SR2, "CGCNN-1"]) == 0
    said = capsys.readouterr().out
    assert all(unit in said for unit in (MEAN_OF_RATIOS, "eV/atom", "angstrom3"))
    pair = compare_folders(two_target_sweep, two_target_sweep, VOLUME).pairs[0]
    assert pair.first == volume.interval(pair.variant)


@pytest.mark.full
def test_the_report_has_a_section_for_each_target_and_counts_its_trials_once(two_target_sweep):
    page = write_report(two_target_sweep)
    text = page.read_text()
    assert "<dt>trials</dt><dd>4</dd>" in text
    for study in views_of(two_target_sweep):
        assert f">{study.title}</h2>" in text
    folders = [page.parent / name for name in ("", "study-2", "study-3")]
    assert [(folder / "figures" / "parity.png").exists() for folder in folders] == [False, True, True]
    table = pd.read_csv(page.parent / "study-3" / "tables" / "tradeoff.csv")
    assert set(table["unit"]) == {"angstrom3"}


def test_an_archive_gives_the_same_intervals(two_target_sweep, tmp_path):
    archive_sweep(two_target_sweep, tmp_path / "archive")
    for mine, archived in zip(views_of(two_target_sweep), views_of(RunPaths(tmp_path / "archive")), strict=True):
        assert archived.interval(SR2) == mine.interval(SR2)
