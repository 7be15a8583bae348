"""The table: what is grouped, what is told apart, and how wide the intervals are."""

import csv
import io
from dataclasses import replace

import made_results
import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from srcgcnn.analysis.tradeoff import as_csv, as_markdown, estimate, print_tradeoff, tradeoff
from srcgcnn.models.config import ModelConfig
from srcgcnn.records import RecordError
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import read_results, write_result
from srcgcnn.run.trial import (
    DataRef,
    Seeds,
    TrainingConfig,
    TrialConfig,
)

DATA = DataRef("d" * 16, "demo", "electrostatic_energy", "eV/atom")


def result_of(val_mae, seed=0, split=0, model=None, **training):
    model = model or ModelConfig("srcgcnn", 3)
    config = TrialConfig(model, TrainingConfig(**training), Seeds(seed, seed, split), DATA)
    return made_results.result_of(
        config, val_mae=val_mae, test_mae=val_mae + 0.1, conv_parameters=22_912, total_parameters=37_313
    )


def test_seeds_of_one_variant_are_one_row_with_a_student_interval():
    values = [0.10, 0.14, 0.12]
    (row,) = tradeoff([result_of(value, seed) for seed, value in enumerate(values)])
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert row.val.mean == pytest.approx(0.12)
    assert row.val.half_width == pytest.approx((high - low) / 2)
    assert (row.seeds, row.splits, row.recipe) == (3, 1, "")


def test_one_seed_has_no_interval():
    assert estimate([0.5]).half_width is None


def test_several_splits_are_the_independent_repeats():
    values = {(0, 0): 0.10, (1, 0): 0.12, (0, 1): 0.20, (1, 1): 0.22}
    (row,) = tradeoff([result_of(value, seed, split) for (seed, split), value in values.items()])
    assert (row.seeds, row.splits) == (2, 2)
    expected = estimate([0.11, 0.21])
    assert (row.val.mean, row.val.half_width) == pytest.approx((expected.mean, expected.half_width))


def test_recipes_that_differ_are_told_apart():
    rows = tradeoff([result_of(0.1), result_of(0.2, batch_size=4), result_of(0.3, model=ModelConfig("cgcnn", 2))])
    assert {row.recipe for row in rows} == {"batch_size=256", "batch_size=4"}
    assert "batch_size=4" in as_markdown(rows)
    assert {line["recipe"] for line in csv.DictReader(io.StringIO(as_csv(rows)))} == {row.recipe for row in rows}


def test_rows_of_a_table_without_differences_show_no_recipe():
    assert "recipe" not in as_markdown(tradeoff([result_of(0.1), result_of(0.2, model=ModelConfig("cgcnn", 2))]))


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_narrow_terminal_cuts_no_number(width):
    stream = io.StringIO()
    print_tradeoff(tradeoff([result_of(0.1), result_of(0.1234, seed=1)]), Console(file=stream, width=width))
    assert "…" not in stream.getvalue()
    assert "22,912" in stream.getvalue()
    assert ("too narrow" in stream.getvalue()) == (width < 160)


def test_a_copied_or_edited_result_is_refused_by_name(tmp_path):
    paths = RunPaths(tmp_path)
    result = result_of(0.1)
    write_result(paths, result)
    copy = paths.results / "backup.json"
    copy.write_bytes(paths.result(result.key).read_bytes())
    with pytest.raises(RecordError, match="backup"):
        list(read_results(paths))
    copy.unlink()
    edited = replace(result, config=replace(result.config, seeds=Seeds(7, 7, 0)))
    write_result(paths, edited)
    with pytest.raises(RecordError, match=edited.config.key):
        list(read_results(paths))


def test_a_result_of_bytes_is_put_aside_and_named(tmp_path):
    paths = RunPaths(tmp_path)
    paths.results.mkdir()
    paths.result("x").write_bytes(b"\x80\x81")
    with pytest.warns(UserWarning, match=r"x\.json: not a result .* kept as x\.json\.damaged"):
        assert list(read_results(paths)) == []
    assert not paths.result("x").exists()
