"""The table: what is grouped, what is told apart, and how wide the intervals are."""

import csv
import io
import json
from dataclasses import replace

import made_results
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from srcgcnn.analysis.report import write_report
from srcgcnn.analysis.tradeoff import as_csv, as_markdown, as_records, print_tradeoff, tradeoff_of
from srcgcnn.cli.main import main
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result
from srcgcnn.run.training_config import TrainingConfig
from srcgcnn.run.trial import DataRef, Seeds, TrialConfig

DATA = DataRef("d" * 16, "demo", "electrostatic_energy", "eV/atom")


def result_of(val_mae, seed=0, split=0, model=None, **training):
    model = model or ModelConfig("srcgcnn", 3)
    config = TrialConfig(model, TrainingConfig(**training), Seeds(seed, seed, split), DATA)
    return made_results.result_of(
        config, val_mae=val_mae, test_mae=val_mae + 0.1, conv_parameters=22_912, total_parameters=37_313
    )


def table_of(folder, results):
    paths = RunPaths(folder)
    for result in results:
        write_result(paths, result)
    return tradeoff_of(paths)


def test_seeds_of_one_variant_are_one_row_with_a_student_interval(tmp_path):
    values = [0.10, 0.14, 0.12]
    (row,) = table_of(tmp_path, [result_of(value, seed) for seed, value in enumerate(values)])
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert row.val.mean == pytest.approx(0.12)
    assert row.val.half_width == pytest.approx((high - low) / 2)
    assert (row.variant, row.seeds, row.splits) == ("SR-CGCNN T=3 step-norm", 3, 1)


def test_the_caption_names_the_interval_of_this_table_alone(tmp_path):
    def shown(name, results):
        stream = io.StringIO()
        print_tradeoff(table_of(tmp_path / name, results), Console(file=stream, width=200))
        return " ".join(stream.getvalue().split())

    assert "half width of the 95 % interval for new seeds on these crystals; the test set was" in shown("seeds", SEEDS)
    assert "half width of the 95 % interval for new splits; the test set was" in shown("splits", splits_of())
    assert "mean; no interval is known; the test set" in shown("one", SEEDS[:1])


def test_one_seed_has_no_interval(tmp_path):
    (row,) = table_of(tmp_path, [result_of(0.5)])
    assert (row.val.known, str(row.val)) == (False, "0.5000")


def splits_of(count=5):
    return [result_of(0.2 + 0.01 * split + 0.001 * seed, seed, split) for split in range(count) for seed in range(2)]


def test_intervals_over_splits_are_corrected_for_the_training_rows_that_they_share(tmp_path):
    """Nadeau and Bengio (2003): with 5 splits of 60/20/20 sqrt(1 + 5 / 3) = 1.63 times as wide."""
    (row,) = table_of(tmp_path, splits_of())
    means = [0.3 + 0.01 * split + 0.0005 for split in range(5)]
    low, high = stats.t.interval(0.95, 4, np.mean(means), stats.sem(means))
    assert (row.seeds, row.splits, row.test.repeats) == (2, 5, "splits")
    assert row.test.half_width == pytest.approx((high - low) / 2 * np.sqrt(1 + 5 * 20 / 60))


SEEDS = [result_of(0.1 + 0.01 * seed, seed) for seed in range(3)]


@pytest.mark.full
@pytest.mark.parametrize("results", [splits_of(), SEEDS])
def test_results_report_and_mlflow_say_the_same_to_the_last_digit(tmp_path, results, capsys, empty_mlflow_db):
    layers = ModelConfig("cgcnn", 2)
    seeds = [one.config.seeds for one in results]
    other = [result_of(0.4 + number / 100, one.init, one.split, layers) for number, one in enumerate(seeds)]
    rows = table_of(tmp_path, [*results, *other])
    assert len(rows) == 2
    write_report(RunPaths(tmp_path))
    capsys.readouterr()
    assert main(["results", str(tmp_path), "--format", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(as_records(rows)))
    report = pd.read_csv(tmp_path / "report" / "tables" / "tradeoff.csv")
    for name in ("val", "val_half_width", "test", "test_half_width"):
        assert report[name].tolist() == [row[name] for row in printed]
    page = (tmp_path / "report" / "index.html").read_text()
    assert main(["track", str(tmp_path)]) == 0
    markdown = [path.read_text() for path in (tmp_path / "mlflow-artifacts").rglob("tradeoff.md")]
    assert markdown
    for row in rows:
        assert str(row.test) in page
        assert all(str(row.test) in text and str(row.val) in text for text in markdown)


def test_learning_rates_and_widths_are_compared_in_one_study(tmp_path):
    narrow = ModelConfig("srcgcnn", 3, hidden_channels=8)
    results = [result_of(0.1), result_of(0.2, learning_rate=0.01), result_of(0.3, model=narrow)]
    rows = table_of(tmp_path, results)
    assert {row.study for row in rows} == {"demo: electrostatic_energy"}
    assert {row.variant for row in rows} == {
        "SR-CGCNN T=3 step-norm learning_rate=0.001",
        "SR-CGCNN T=3 step-norm learning_rate=0.01",
        "SR-CGCNN T=3 step-norm width=8 learning_rate=0.001",
    }
    assert "study" not in as_markdown(rows).splitlines()[0]


def test_other_recipes_are_other_studies(tmp_path):
    rows = table_of(tmp_path, [result_of(0.1), result_of(0.2, batch_size=4), result_of(0.3, seed=1, batch_size=4)])
    assert [row.study for row in rows] == [f"demo: electrostatic_energy [batch_size={size}]" for size in (4, 256)]
    assert "batch_size=4" in as_markdown(rows)
    assert {line["study"] for line in csv.DictReader(io.StringIO(as_csv(rows)))} == {row.study for row in rows}


def test_every_name_that_results_prints_is_one_that_compare_takes(tmp_path, capsys):
    models = (None, ModelConfig("cgcnn", 2), ModelConfig("srcgcnn", 3, hidden_channels=8), ModelConfig("cgcnn", 22))
    results = [result_of(0.1 * (at + 1) + 0.01 * seed, seed, model=model)
               for at, model in enumerate(models) for seed in (0, 1)]  # fmt: skip
    names = [row.variant for row in table_of(tmp_path, results)]
    assert len(names) == 4
    for name in names[1:]:
        assert main(["compare", str(tmp_path), names[0], name]) == 0
    assert main(["compare", str(tmp_path), "width=8", "cgcnn-2"]) == 0
    assert "SR-CGCNN T=3 step-norm width=8 minus CGCNN-2" in capsys.readouterr().out
    assert main(["compare", str(tmp_path), "t=3", "CGCNN-2"]) == 2
    assert "several variants match 't=3'" in capsys.readouterr().err


def test_who_asks_for_latex_is_told_where_it_is(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["results", str(tmp_path), "--format", "latex"])
    assert "`srcgcnn report OUT` writes LaTeX: OUT/report/tables/tradeoff.tex" in capsys.readouterr().err


def test_compare_takes_a_name_of_models_that_one_variant_fits(tmp_path, capsys):
    """`cgcnn` is no SR-CGCNN, though the name of that contains it."""
    layers = ModelConfig("cgcnn", 3)
    results = [result_of(0.1 + 0.01 * seed, seed, model=model) for model in (None, layers) for seed in (0, 1)]
    table_of(tmp_path, results)
    assert main(["compare", str(tmp_path), "cgcnn", "srcgcnn"]) == 0
    assert "test error of CGCNN-3 minus SR-CGCNN T=3 step-norm" in capsys.readouterr().out
    table_of(tmp_path, [result_of(0.3, model=ModelConfig("cgcnn", 1))])
    assert main(["compare", str(tmp_path), "cgcnn", "srcgcnn"]) == 2
    assert "several variants match 'cgcnn'; known: CGCNN-1, CGCNN-3\n" in capsys.readouterr().err


def test_the_error_on_training_rows_stands_beside_the_others_where_it_is_known(tmp_path):
    result = result_of(0.1)
    assert "train" not in as_markdown(table_of(tmp_path, [result]))
    known = replace(result, metrics=replace(result.metrics, train_mae=0.0123))
    assert "| train MAE |" in as_markdown(table_of(tmp_path, [known]))
    assert "| 0.0123 |" in as_markdown(tradeoff_of(RunPaths(tmp_path)))


@pytest.mark.parametrize("width", [70, 90, 160])
def test_a_narrow_terminal_cuts_no_number(tmp_path, width):
    stream = io.StringIO()
    print_tradeoff(table_of(tmp_path, [result_of(0.1), result_of(0.1234, seed=1)]), Console(file=stream, width=width))
    assert "…" not in stream.getvalue()
    assert "22,912" in stream.getvalue()
    assert ("too narrow" in " ".join(stream.getvalue().split())) == (width < 160)
    assert "eV/atom" in stream.getvalue()


def test_a_unit_with_a_bar_does_not_break_a_table_of_markdown(tmp_path):
    result = result_of(0.5)
    data = replace(result.config.data, unit="|e|/atom")
    config = replace(result.config, data=data)
    text = as_markdown(table_of(tmp_path, [replace(result, key=config.key, config=config)]))
    assert "\\|e\\|/atom" in text
    assert len({line.replace("\\|", "").count("|") for line in text.splitlines()}) == 1
