"""Two sweeps: the variants of both, paired where seeds, splits and crystals agree, and only there."""

import pytest

from srcgcnn.analysis.comparison import compare
from srcgcnn.analysis.studies import studies_of
from srcgcnn.analysis.two_folders import compare_folders
from srcgcnn.cli.main import main
from srcgcnn.driver.worker import run_group
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.training_config import SplitConfig
from srcgcnn.sweep.plan import TrialGroup
from srcgcnn.sweep.record import SweepRecord, write_record
from srcgcnn.sweep.spec import SweepSpec

SR2, CGCNN, WIDE = ModelConfig("srcgcnn", 2), ModelConfig("cgcnn", 1), ModelConfig("cgcnn", 1, hidden_channels=16)


@pytest.fixture(scope="module")
def folder(demo_store, trial_of, tmp_path_factory):
    def make(models, seeds, **training):
        paths = RunPaths(tmp_path_factory.mktemp("runs"))
        trials = [trial_of(model, seed, **training) for model in models for seed in seeds]
        for trial in trials:
            run_group(TrialGroup((trial,)), demo_store.folder, paths, checkpoint_interval_s=60)
        write_record(paths, SweepRecord(SweepSpec("x"), trials[0].data, str(demo_store.folder), "test"))
        return paths

    return make


@pytest.fixture(scope="module")
def first(folder):
    return folder([SR2, CGCNN], (0, 1, 2))


@pytest.fixture(scope="module")
def longer(folder):
    return folder([CGCNN, WIDE], (1, 2, 3), epochs=5)


@pytest.mark.full
def test_common_variants_are_paired_by_seed_and_crystal(first, longer):
    found = compare_folders(first, longer)
    (pair,) = found.pairs
    assert pair.variant == "CGCNN-1"
    assert pair.comparison.seeds == 2  # seeds 1 and 2 are in both
    assert (found.only_first, found.only_second) == ((SR2.label,), (WIDE.label,))
    assert found.differences == ("epochs 3 and 5",)
    mine, theirs = (studies_of(paths)[0] for paths in (first, longer))
    pairs = [
        theirs.crystal_errors(b.key) - mine.crystal_errors(a.key)
        for a in mine.members["CGCNN-1"]
        for b in theirs.members["CGCNN-1"]
        if a.config.seeds == b.config.seeds
    ]
    assert pair.comparison.difference.mean == pytest.approx(sum(map(float, (one.mean() for one in pairs))) / 2)
    assert pair.first == mine.interval("CGCNN-1")
    back = compare_folders(longer, first).pairs[0].comparison
    assert back.p_value == pytest.approx(pair.comparison.p_value)


@pytest.mark.full
def test_it_is_the_comparison_of_one_folder_that_holds_both(first, folder, capsys):
    """The same trials under two roofs: copies differ by nothing, and are said to be the same trials."""
    same = compare_folders(first, folder([SR2, CGCNN], (0, 1, 2)))
    assert all(pair.same_trials and pair.comparison.difference.mean == 0 for pair in same.pairs)
    (study,) = studies_of(first)
    assert compare(study, SR2.label, "CGCNN-1").difference.mean == pytest.approx(
        same.pairs[0].first.mean - same.pairs[1].first.mean
        if same.pairs[0].variant == SR2.label
        else same.pairs[1].first.mean - same.pairs[0].first.mean
    )


@pytest.mark.full
def test_other_seeds_or_crystals_are_not_paired(first, folder):
    other_seeds = compare_folders(first, folder([CGCNN], (7, 8)))
    assert [pair.comparison for pair in other_seeds.pairs] == [None]
    assert other_seeds.pairs[0].second.known


def test_another_split_is_said_and_pairs_only_what_both_tested(first, folder):
    found = compare_folders(first, folder([CGCNN], (0, 1), split=SplitConfig(fractions=(0.4, 0.2, 0.4))))
    assert any(line.startswith("split.fractions") for line in found.differences)
    (pair,) = found.pairs
    mine, theirs = found.first, found.second
    common = set(mine.crystal_errors(mine.members["CGCNN-1"][0].key).index) & set(
        theirs.crystal_errors(theirs.members["CGCNN-1"][0].key).index
    )
    assert pair.comparison is None or 0 < len(common) < len(theirs.crystal_errors(theirs.members["CGCNN-1"][0].key))


def test_the_command_prints_a_table_and_refuses_what_cannot_be(first, longer, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["compare", str(first.out), str(longer.out), "--margin", "0.05"]) == 0
    said = capsys.readouterr().out
    for words in (
        "differs: epochs 3 and 5",
        "CGCNN-1",
        "only in the first: SR-CGCNN T=2",
        "second minus first",
        "within 0.05",
    ):
        assert words in said
    assert main(["compare", str(first.out), "CGCNN-1"]) == 2
    assert "give two variants" in capsys.readouterr().err
    assert main(["compare", str(first.out), str(folder([WIDE], (0,)).out)]) == 2
    assert "no variant is in both" in capsys.readouterr().err
    assert main(["compare", str(first.out), str(tmp_path)]) == 2
    assert "holds no sweep" in capsys.readouterr().err
