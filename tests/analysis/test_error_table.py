"""The statistics for any table: the numbers that the report prints for a sweep, and plain formulas for the rest."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from srcgcnn.analysis.comparison import compare, non_inferior
from srcgcnn.analysis.error_table import ErrorTable
from srcgcnn.analysis.studies import studies_of
from srcgcnn.models.config import ModelConfig


def table_of(errors, split=0):
    """Rows of {variant: [S, C]}."""
    return pd.DataFrame(
        [
            {"variant": name, "seed": seed, "item": f"c{item}", "split": split, "error": value}
            for name, values in errors.items()
            for (seed, item), value in np.ndenumerate(values)
        ]
    )


@pytest.fixture
def study(finished_sweep):
    (study,) = studies_of(finished_sweep([ModelConfig("srcgcnn", 2), ModelConfig("cgcnn", 1)], seeds=3))
    return study


def test_a_sweep_as_a_table_gives_the_numbers_of_its_report(study):
    rows = []
    for name, members in study.members.items():
        for one in members:
            errors = study.crystal_errors(one.key)
            rows += [(name, one.config.seeds.init, item, error) for item, error in errors.items()]
    table = ErrorTable(pd.DataFrame(rows, columns=["variant", "seed", "item", "error"]).sample(frac=1, random_state=1))
    for row in table.intervals().itertuples():
        theirs = study.interval(row.variant)
        assert (row.mean, row.low, row.high) == pytest.approx((theirs.mean, theirs.low, theirs.high))
        assert (row.over, row.trials) == ("seeds and crystals", 3)
    first, second = study.members
    ours, theirs = table.compare(first, second), compare(study, first, second)
    assert ours.p_value == pytest.approx(theirs.p_value)
    assert ours.effect == pytest.approx(theirs.effect)
    claim = table.non_inferior(first, second, 0.01)
    assert claim.upper == pytest.approx(non_inferior(theirs, 0.01).upper)


def test_without_items_it_is_a_paired_t_test_over_seeds():
    rng = np.random.default_rng(1)
    mine, theirs = rng.normal(0.2, 0.01, 6), rng.normal(0.21, 0.01, 6)
    frame = pd.DataFrame(
        {"variant": ["mine"] * 6 + ["theirs"] * 6, "seed": [*range(6)] * 2, "error": np.concatenate([mine, theirs])}
    )
    table = ErrorTable(frame)
    assert table.compare("mine", "theirs").p_value == pytest.approx(stats.ttest_rel(mine, theirs).pvalue)
    found, expected = table.interval("mine"), stats.ttest_1samp(mine, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    deviation = np.sqrt((mine.var(ddof=1) + theirs.var(ddof=1)) / 2)
    assert table.seed_deviation() == pytest.approx(deviation)
    assert table.seeds_for(table.detectable(6)) <= 6


def test_seeds_are_asked_for_as_the_test_needs_them_crystals_included():
    rng = np.random.default_rng(6)
    own = 0.05 * rng.standard_normal((2, 100))
    errors = {
        name: 1 + own[place] + 0.004 * rng.standard_normal((8, 1)) + np.zeros((8, 100))
        for place, name in enumerate(("a", "b"))
    }
    table = ErrorTable(table_of(errors))
    found = table.compare("b", "a").difference
    assert table.detectable(8) == pytest.approx(2.85 * found.error, rel=0.1)
    assert table.seeds_for(4 * found.error) < 8
    with pytest.raises(ValueError, match="on 100 test crystals"):
        table.seeds_for(2 * found.error)


@pytest.mark.parametrize("column", ["variant", "seed", "item", "split"])
def test_rows_without_a_name_are_refused_and_not_dropped(column):
    frame = table_of({"a": np.full((2, 3), 0.1), "b": np.full((2, 3), 0.2)}).astype(object)
    frame.loc[4, column] = np.nan
    with pytest.raises(ValueError, match=f"1 rows have no {column}, the first is row 4"):
        ErrorTable(frame)


def test_variants_without_a_common_item_are_not_compared():
    one, other = table_of({"a": np.full((2, 1), 0.1)}), table_of({"b": np.full((2, 1), 0.5)})
    with pytest.raises(ValueError, match="share no split, seed and test crystal"):
        ErrorTable(pd.concat([one, other.assign(item="another")])).compare("b", "a")


@pytest.mark.full
@given(st.integers(2, 5), st.integers(2, 30), st.floats(0, 1), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_a_shift_of_one_variant_is_its_difference_and_order_means_nothing(seeds, items, shift, random):
    rng = np.random.default_rng(random.randrange(2**32))
    errors = 0.01 + rng.random((seeds, items))
    frame = table_of({"a": errors, "b": errors + shift + 1e-3 * rng.standard_normal((seeds, items))})
    table, shuffled = ErrorTable(frame), ErrorTable(frame.sample(frac=1, random_state=3))
    found = table.compare("b", "a")
    assert found.difference.mean == pytest.approx(shift, abs=2e-3)
    assert found.difference.mean == pytest.approx(-table.compare("a", "b").difference.mean)
    assert shuffled.compare("b", "a").p_value == pytest.approx(found.p_value)


def test_several_splits_need_their_share_and_widen_the_interval():
    rng = np.random.default_rng(2)
    parts = [table_of({"a": rng.random((2, 20))}, split) for split in range(4)]
    frame = pd.concat([part.assign(item=f"{split} " + part["item"]) for split, part in enumerate(parts)])
    with pytest.raises(ValueError, match="with several splits give test rows per training row"):
        ErrorTable(frame)
    narrow, wide = (ErrorTable(frame, test_share=share).interval("a") for share in (0.1, 1.0))
    assert wide.repeats == "splits"
    assert wide.half_width == pytest.approx(narrow.half_width * np.sqrt(1.25 / 0.35))


@pytest.mark.full
def test_names_are_corrected_for_their_number():
    rng = np.random.default_rng(3)
    table = ErrorTable(table_of({name: rng.random((3, 40)) for name in "abcd"}))
    found = table.against("a")
    assert [one.variant for one in found] == ["b", "c", "d"]
    smallest = min(found, key=lambda one: one.p_value)
    assert smallest.p_corrected == pytest.approx(min(1.0, 3 * smallest.p_value))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: frame.drop(columns="seed"), "no column seed; it has variant, item, split, error"),
        (lambda frame: pd.concat([frame, frame.head(1)]), "1 rows appear twice, the first is variant 'a'"),
        (lambda frame: frame.assign(error=np.nan), "are not finite numbers"),
        (lambda frame: frame.assign(error="x"), "are not finite numbers, the first is 'x'"),
        (
            lambda frame: frame.assign(error=-0.5),
            r"6 errors are negative, the first is -0.5 \(variant 'a', item 'c0'\)",
        ),
        (lambda frame: frame[(frame["seed"] == 0) == (frame["item"] == "c0")], "have no item in common"),
    ],
)
def test_what_is_missing_is_said(change, words):
    frame = table_of({"a": np.random.default_rng(4).random((2, 3))})
    with pytest.raises(ValueError, match=words):
        ErrorTable(change(frame)).intervals()
    with pytest.raises(ValueError, match="no variant 'z'; available: a"):
        ErrorTable(frame).compare("a", "z")


@pytest.mark.parametrize("table", ["errors.csv", Path("errors.csv")])
def test_a_path_is_no_table(table):
    with pytest.raises(TypeError, match=r"not 'errors.csv'; a file: ErrorTable\(pandas.read_csv\(path\)\)"):
        ErrorTable(table)


def example(number):
    page = (Path(__file__).resolve().parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    return page.split("```python\n")[number].split("```")[0]


def test_a_model_of_ones_own_is_compared_with_a_sweep_as_the_page_says(study, tmp_path, monkeypatch, capsys):
    """A model that is always worse by one unit than the mean of the sweep's seeds."""
    errors = study.repeats("CGCNN-1").by_split[0].mean()
    errors.add(1).rename_axis("id").rename("error").to_csv(tmp_path / "mine.csv")
    monkeypatch.chdir(tmp_path)
    code = example(2).replace("runs/depth", str(study.run.paths.out)).replace("CGCNN-3", "CGCNN-1")
    exec(code, {})
    assert re.fullmatch(
        r"\+1\.0000 \(\+[01]\.\d+ to \+[12]\.\d+\): (worse|not distinguishable)\n", capsys.readouterr().out
    )


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(5)
    hard = rng.exponential(0.1, 50)
    names = ("mine", "baseline", "a third one with a name so long that pandas hides columns")
    frame = table_of({name: hard + rng.uniform(0, 0.02, (3, 50)) for name in names})
    frame.to_csv(tmp_path / "errors.csv")
    monkeypatch.chdir(tmp_path)
    exec(example(1), {})
    printed = capsys.readouterr().out
    assert "within 0.01 eV" in printed
    assert all(heading in printed for heading in ("mean", "low", "high", "seeds and crystals"))


def test_two_networks_that_predict_the_same_show_nothing():
    rows = [(name, seed, item, item % 2) for name in "ab" for seed in range(2) for item in range(11)]
    errors = ErrorTable(pd.DataFrame(rows, columns=["variant", "seed", "item", "error"]))
    found = errors.non_inferior("a", "b", 0.01)
    assert not found.holds
    assert "difference +0.0000 eV in every pair of trials; so nothing can be tested" in found.sentence("eV")
    assert [one.verdict for one in errors.against("b")] == ["untested"]
