"""What a reader sees first: the answer, the advice, the figure; and the figures of what was varied."""

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from chromium import CHROMIUM, NO_CHROMIUM, chromium, visit
from made_results import result_of

from srcgcnn.analysis.answer import answer_lines, answer_of
from srcgcnn.analysis.baselines import Baseline
from srcgcnn.analysis.comparison import against, compare
from srcgcnn.analysis.costs import draw_tradeoff, draw_widths
from srcgcnn.analysis.figures import draw_depth, draw_train_sizes
from srcgcnn.analysis.findings import find, tradeoff_table
from srcgcnn.analysis.intervals import Interval
from srcgcnn.analysis.pareto import shown_front
from srcgcnn.analysis.report import write_report
from srcgcnn.analysis.scores import Scores
from srcgcnn.analysis.studies import studies_of
from srcgcnn.analysis.tables import as_latex, printed_comparisons, printed_tradeoff, rounded
from srcgcnn.cli.main import main
from srcgcnn.models.counts import count_parameters
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import read_result, write_result
from srcgcnn.run.training_config import SplitConfig, TrainingConfig
from srcgcnn.run.trial import DataRef
from srcgcnn.run.trial_result import Metrics
from srcgcnn.sweep.axes import Axes, Axis
from srcgcnn.sweep.record import SweepRecord, write_record
from srcgcnn.sweep.space import trials_of
from srcgcnn.sweep.spec import DataSpec, SweepSpec

DATA = DataRef("d" * 16, "crystals", "formation_energy_per_atom", "eV/atom")
CRYSTALS = 60
LATEX = shutil.which("pdflatex")


def sweep_in(folder, axes, error_of, trained=True):
    """Write a finished sweep whose errors are `error_of(trial)` plus a little noise of seeds and crystals."""
    spec = SweepSpec("made", "How deep?", DataSpec(source="gone.csv"), axes, training=TrainingConfig(epochs=3))
    paths = RunPaths(folder)
    write_record(paths, SweepRecord(spec, DATA, "no-store", "again"))
    for trial, _ in trials_of(spec, DATA):
        if paths.result(trial.key).exists():
            continue
        write_trial(paths, trial, error_of(trial), trained)
    return paths


def write_trial(paths, trial, error, trained):
    rng = np.random.default_rng([trial.seeds.init, trial.model.depth, len(trial.model.label)])
    crystal = np.random.default_rng(9).exponential(0.01, CRYSTALS)
    errors = error + 0.001 * rng.standard_normal() + crystal + 0.001 * rng.standard_normal(CRYSTALS)
    target = np.random.default_rng(5).normal(-1, 1, CRYSTALS)
    names = [f"c{number}" for number in range(CRYSTALS)]
    table = {"id": names, "formula": "NaCl", "target": target, "prediction": target + errors}
    rows = [pd.DataFrame(table).assign(set=name) for name in ("validation", "test")]
    paths.predictions(trial.key).parent.mkdir(parents=True, exist_ok=True)
    pd.concat(rows).to_parquet(paths.predictions(trial.key))
    mae, counts = float(errors.mean()), count_parameters(trial.model)
    size = trial.training.split.train_size or 180
    metrics = Metrics(1, 0.1, mae, mae, mae, mae, **({"train_mae": mae / 2, "train_rmse": mae / 2} if trained else {}))
    rows = (size, CRYSTALS, CRYSTALS)
    write_result(
        paths,
        result_of(
            trial,
            metrics=metrics,
            rows=rows,
            conv_parameters=counts.convolution,
            total_parameters=counts.total,
        ),
    )


def by_depth(errors):
    return lambda trial: errors[trial.model.depth]


@pytest.fixture
def sweep(tmp_path):
    """SR-CGCNN saturates at T = 3 and is as good as CGCNN there, at a third of its parameters."""
    axes = (Axes(depths=(1, 2, 3), seeds=(0, 1, 2)),)
    return sweep_in(tmp_path / "made", axes, by_depth({1: 0.3, 2: 0.2, 3: 0.1}))


def answer(paths):
    (study,) = studies_of(paths)
    return study, answer_of(study, find(study), [])


@pytest.mark.full
def test_the_page_opens_with_the_answer_and_loads_itself_anew_while_the_sweep_runs(sweep):
    study, told = answer(sweep)
    assert told.advised == "SR-CGCNN T=3 step-norm"
    assert told.shows.startswith(f"{study.best} has the lowest validation error: test MAE {study.interval(study.best)}")
    assert told.alike
    page = re.sub(r"\s+", " ", write_report(sweep, running=True).read_text())
    assert "location.reload" in page
    order = (told.alike, told.shows, told.advises, "data:image/png", "Contents", "<table>")
    places = [page.index(words) for words in order]
    assert places == sorted(places)
    anchors = re.findall(r'href="#([^"]+)"', page)
    assert len(anchors) > 6
    assert all(f'id="{anchor}"' in page for anchor in anchors)


@pytest.mark.full
def test_the_cheapest_variant_that_is_not_shown_to_be_worse_is_advised(tmp_path):
    """Two steps are worse than the best by what is lost in noise; one step is clearly worse."""
    axes = (Axes(models=("cgcnn",), depths=(1, 2, 3), seeds=(0, 1, 2)),)
    paths = sweep_in(tmp_path / "a", axes, by_depth({1: 0.3, 2: 0.1002, 3: 0.1}))
    study, told = answer(paths)
    assert (study.best, told.advised) == ("CGCNN-3", "CGCNN-2")
    assert "take CGCNN-2: it has 67% of the convolution parameters" in told.advises
    assert "is shown to be within 0.005 eV/atom of CGCNN-3" in told.advises
    paths = sweep_in(tmp_path / "b", axes, by_depth({1: 0.3, 2: 0.2, 3: 0.1}))
    _, told = answer(paths)
    assert told.advises == "Take CGCNN-3: every variant with fewer convolution parameters is shown to be worse."
    assert not told.alike
    one = (replace(axes[0], seeds=(0,)),)
    study, told = answer(sweep_in(tmp_path / "c", one, by_depth({1: 0.3, 2: 0.2, 3: 0.1})))
    assert told.advised is None
    assert "without two seeds in common nothing can be tested" in told.advises


@pytest.mark.parametrize("winner", ["CGCNN", "SR-CGCNN"])
def test_a_winner_that_cannot_be_told_apart_is_not_called_one(winner, tmp_path):
    """The answer begins with the paired difference, whichever of two equals has the lower validation error."""
    axes = (Axes(depths=(3,), seeds=(0, 1, 2)),)
    study, told = answer(sweep_in(tmp_path, axes, lambda trial: 0.1 + 2e-3 * (trial.model.title != winner)))
    (other,) = set(study.variants["variant"]) - {study.best}
    found = compare(study, other, study.best)
    assert (study.named[study.best].model.title, found.verdict) == (winner, "not distinguishable")
    assert told.alike.startswith(f"{study.best} and {other} are not distinguishable")
    difference = found.difference
    numbers = f"{difference.mean:+.4f} eV/atom (95 % interval {difference.low:+.4f} to {difference.high:+.4f})"
    assert f"the error of the second minus that of the first is {numbers}" in told.alike
    assert told.advises.startswith("If parameters count, take SR-CGCNN T=3 step-norm: ")
    assert "is not shown to be worse" in told.advises


@pytest.mark.full
def test_results_end_with_the_answer_of_the_report(sweep, capsys):
    _, told = answer(sweep)
    assert main(["results", str(sweep.out)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [told.alike, told.advises]
    assert main(["results", str(sweep.out), "--csv"]) == 0
    assert told.advises not in capsys.readouterr().out


@pytest.mark.full
def test_the_report_is_announced_with_its_answer(sweep, capsys):
    assert main(["report", str(sweep.out), "--margin", "0.02"]) == 0
    *_, shown, advised = capsys.readouterr().out.splitlines()
    assert shown == answer(sweep)[1].alike
    assert "within 0.02 eV/atom" in advised


@pytest.mark.full
def test_differences_are_from_the_reference_that_is_asked_for(tmp_path, capsys):
    """They have the sign that `compare` gives them, in the figure, the table and the LaTeX."""
    paths = sweep_in(tmp_path, (Axes(depths=(1, 3), seeds=(0, 1)),), by_depth({1: 0.3, 3: 0.1}))
    assert main(["report", str(paths.out), "--reference", "cgcnn-1"]) == 0
    for file in (paths.report / "data" / "differences.csv", paths.report / "tables" / "comparisons.csv"):
        table = pd.read_csv(file)
        assert set(table["reference"]) == {"CGCNN-1"}
    (difference,) = table.loc[table["variant"] == "CGCNN-3", "difference (eV/atom)"]
    assert -0.21 < difference < -0.19
    latex = (paths.report / "tables" / "comparisons.tex").read_text()
    assert "test error minus that of CGCNN-1, paired; positive is worse" in latex
    capsys.readouterr()
    assert main(["compare", str(paths.out), "CGCNN-3", "CGCNN-1"]) == 0
    printed = capsys.readouterr().out
    assert "positive: CGCNN-3 is worse" in printed
    assert f"difference  {difference:+.4f} eV/atom" in printed
    page = paths.report / "index.html"
    page.unlink()
    assert main(["report", str(paths.out), "--reference", "cgcnn-9"]) == 2
    assert "no variant matches 'cgcnn-9'; known: CGCNN-1, CGCNN-3" in capsys.readouterr().err
    assert not page.exists()


@pytest.mark.full
def test_training_that_was_too_short_is_said_beside_the_advice(sweep):
    assert answer(sweep)[1].caution == ""
    for path in sorted(sweep.results.glob("*.json"))[:2]:
        result = read_result(path)
        write_result(sweep, replace(result, metrics=replace(result.metrics, best_epoch=2)))  # of 0, 1, 2
    assert answer(sweep)[1].caution.startswith("In 2 of 15 trials the best epoch is the last one")


@pytest.mark.full
def test_a_front_of_noise_is_no_front(tmp_path):
    axes = (Axes(models=("cgcnn",), depths=(1, 2, 3), seeds=(0, 1, 2)),)
    study, _ = answer(sweep_in(tmp_path / "noise", axes, by_depth({1: 0.1002, 2: 0.1001, 3: 0.1})))
    costs = list(study.variants["conv_parameters"])
    assert shown_front(study, list(study.variants["variant"]), costs) == ["CGCNN-1"]
    drawing = draw_tradeoff(study, [])
    assert "No steps are drawn: of the variants that have the lowest mean error for their size" in drawing.caption
    study, _ = answer(sweep_in(tmp_path / "front", axes, by_depth({1: 0.3, 2: 0.2, 3: 0.1})))
    drawing = draw_tradeoff(study, [])
    assert drawing.data["front"].all()
    assert drawing.figure.axes[0].get_xscale() == "log"


def test_the_figure_for_a_paper_gives_no_advice_and_its_lines_are_no_trend(tmp_path):
    """Two points far apart: each has its name at its side, and no line runs from one to the other."""
    study, _ = answer(sweep_in(tmp_path, (Axes(depths=(3,), seeds=(0, 1)),), lambda trial: 0.1))
    figure = draw_tradeoff(study, []).figure
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["CGCNN", "SR-CGCNN step-norm"]
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["L = 3", "T = 3"]
    assert not [text for text in figure.axes[0].texts if text.arrow_patch]


@pytest.mark.full
def test_variants_that_share_no_trial_are_listed_and_do_not_cost_the_page(tmp_path):
    folds = (Axes(models=("cgcnn",), depths=(1, 3), seeds=(0, 1), more=(Axis("training.split.fold", (0, 1)),)),)
    spec = SweepSpec(
        "made", "", DataSpec(source="gone.csv"), folds, training=TrainingConfig(split=SplitConfig("kfold"))
    )
    paths = RunPaths(tmp_path / "folds")
    write_record(paths, SweepRecord(spec, DATA, "no-store", "again"))
    for trial, _ in trials_of(spec, DATA):
        write_trial(paths, trial, 0.1 * trial.model.depth, trained=True)
        table = pd.read_parquet(paths.predictions(trial.key))
        table["id"] += f" of fold {trial.training.split.fold}"
        table.to_parquet(paths.predictions(trial.key))
    study, told = answer(paths)
    found = {one.variant: one for one in against(study, study.best)}
    assert [one.verdict for name, one in found.items() if "fold=1" in name] == ["untested"] * 2
    assert [one.verdict for name, one in found.items() if "fold=0" in name] == ["worse"]
    assert "no common trial" in write_report(paths).read_text()
    assert answer_lines(paths)[0] == told.shows
    with pytest.raises(ValueError, match="share no split, seed and test crystal"):
        compare(study, *(name for name in found if "CGCNN-3" in name)).checked()


@pytest.mark.full
def test_what_cannot_be_done_leaves_the_page_of_before(sweep):
    page = write_report(sweep)
    files = sorted(sweep.report.rglob("*.*"))
    with pytest.raises(ValueError, match="margin=-1"):
        write_report(sweep, margin=-1)
    assert page.exists()
    assert len(files) > 10
    assert sorted(sweep.report.rglob("*.*")) == files


def test_depth_is_shown_with_training_errors_where_results_have_them(sweep, tmp_path):
    (study,) = studies_of(sweep)
    drawing = draw_depth(study)
    test, training = drawing.figure.axes
    assert [axes.get_ylabel() for axes in (test, training)] == ["test MAE (eV/atom)", "training MAE (eV/atom)"]
    trained = drawing.data[drawing.data["line"] == "SR-CGCNN step-norm"]
    np.testing.assert_allclose(trained["train_error"], trained["mean"] / 2, rtol=1e-6)
    axes = (Axes(models=("cgcnn",), depths=(1, 2), seeds=(0, 1)),)
    (older,) = studies_of(sweep_in(tmp_path / "older", axes, by_depth({1: 0.3, 2: 0.2}), trained=False))
    assert len(draw_depth(older).figure.axes) == 1


def test_learning_curves_where_training_sizes_varied(sweep, tmp_path):
    axes = (Axes(depths=(1, 3), train_sizes=(30, 90, "all"), seeds=(0, 1)),)

    def error(trial):
        return 0.1 / trial.model.depth + 3 / (trial.training.split.train_size or 180)

    paths = sweep_in(tmp_path / "sizes", axes, error)
    (study,) = studies_of(paths)
    drawing = draw_train_sizes(study)
    lines = {name: list(found["rows"]) for name, found in drawing.data.groupby("network")}
    assert lines == {name: [30, 90, 180] for name in ("CGCNN-1", "CGCNN-3", "SR-CGCNN T=3 step-norm")}
    assert all(found["mean"].is_monotonic_decreasing for _, found in drawing.data.groupby("network"))
    assert all("train_size=none" in name for name in study.peers)  # nobody is told to take fewer rows
    assert draw_train_sizes(*studies_of(sweep)) is None


def test_error_against_parameters_at_equal_depth_where_widths_varied(sweep, tmp_path):
    axes = (Axes(depths=(2, 3), widths=(16, 64), seeds=(0, 1)),)
    paths = sweep_in(tmp_path / "widths", axes, lambda trial: 4 / trial.model.hidden_channels)
    drawing = draw_widths(*studies_of(paths))
    assert [axes.get_title() for axes in drawing.figure.axes] == ["depth 2", "depth 3"]
    assert set(drawing.data["family"]) == {"CGCNN", "SR-CGCNN step-norm"}
    assert drawing.data.groupby(["depth", "family"])["width"].apply(sorted).tolist() == [[16, 64]] * 4
    assert draw_widths(*studies_of(sweep)) is None


@pytest.mark.full
@pytest.mark.parametrize(("seeds", "digits"), [((0, 1, 2), r"0\.\d+\\,\$\\pm\$\\,0\.0+\d\d"), ((0,), r"0\.\d{3}")])
def test_latex_tables_are_whole_and_say_what_they_show(seeds, digits, tmp_path):
    study, _ = answer(sweep_in(tmp_path, (Axes(depths=(1, 3), seeds=seeds),), by_depth({1: 0.3, 3: 0.1})))
    found = find(study)
    error = Interval(0.25, math.nan, math.nan, math.nan, math.nan, "nothing")
    linear = Baseline("linear on composition", 0.25, error, error, Scores(0.25, 0.3, 0.4, None, None))
    printed = printed_tradeoff(study, tradeoff_table(study, found), found.comparisons, [linear])
    text = as_latex(printed, "tab:tradeoff")
    begun, ended = (re.findall(rf"\\{word}{{(\S+?)}}", text) for word in ("begin", "end"))
    assert begun == ended[::-1] == ["table", "tabular*"]
    assert text.count("{") == text.count("}")
    head, *rows = [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r" \\")]
    assert head == ["variant", "conv.", "total", "n", "test error", "difference"]
    assert len(rows) == 4
    assert {len(row) for row in rows} == {len(head)}
    assert rows[-1] == ["linear on composition", "--", "--", "--", "0.250", "--"]
    errors = {row[0]: row[4] for row in rows[:-1]}
    assert all(re.fullmatch(digits, error) for error in errors.values()), errors
    assert {row[0]: row[3] for row in rows}["CGCNN-3"] == str(len(seeds))
    (better,) = [row[5] for row in rows if row[5] not in ("--", "reference") and "CGCNN-1" not in row[0]]
    assert re.match(r"(\$-\$|\+)0\.\d", better)
    assert "test MAE (eV/\\allowbreak{}atom) on 60 crystals" in printed_caption(text)
    assert "positive is worse" in printed_caption(text)
    assert (r"\pm$ half width of the 95 \% interval" in printed_caption(text)) == (len(seeds) > 1)
    assert r"\label{tab:tradeoff}" in text


def printed_caption(text):
    return re.search(r"\\caption{(.*)}\n", text)[1]


@pytest.mark.parametrize(
    ("mean", "half_width", "sign", "text"),
    [
        (0.66596, 0.1259, "", "0.67 ± 0.13"),
        (0.00149, 0.05071, "+", "+0.001 ± 0.051"),
        (-0.00149, 0.0996, "+", "+0.00 ± 0.10"),
        (-0.0149, 0.00996, "+", "−0.015 ± 0.010"),
        (1234.5, 123.4, "", "1230 ± 120"),
        (0.99124, None, "", "0.991"),
        (0.99124, math.nan, "", "0.991"),
        (0.0, None, "", "0"),
    ],
)
def test_a_half_width_has_two_digits_and_its_mean_the_same_decimals(mean, half_width, sign, text):
    assert rounded(mean, half_width, sign).replace("\u202f", " ") == text


@pytest.mark.full
@pytest.mark.skipif(LATEX is None, reason="no pdflatex on the PATH")
def test_latex_tables_fit_a_column(sweep, tmp_path):
    axes = (Axes(models=("srcgcnn",), depths=(3,), widths=(128,), seeds=(0, 1), alphas=("learned-scalar",)),)
    sweep_in(sweep.out, (*axes, Axes(depths=(1, 2, 3), seeds=(0, 1, 2))), lambda trial: 0.1)
    (study,) = studies_of(sweep)
    found = find(study)
    printed = (
        printed_tradeoff(study, tradeoff_table(study, found), found.comparisons),
        printed_comparisons(study, found.comparisons),
    )
    tables = [as_latex(table, f"tab:{number}") for number, table in enumerate(printed)]
    text = "\\documentclass[10pt,twocolumn]{article}\\usepackage{array,booktabs}\\begin{document}\n"
    (tmp_path / "page.tex").write_text(text + "\n\n".join(tables) + "\\end{document}\n")
    command = [LATEX, "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout, done.stdout[-2000:]


FOLD = """JSON.stringify([...document.querySelectorAll('.shows, .advises, .first img')].map(
    part => [part.className, Math.round(part.getBoundingClientRect().bottom)]
).concat([['width', document.documentElement.scrollWidth]]))"""


@pytest.mark.full
@pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
def test_answer_advice_and_figure_are_above_the_fold(tmp_path):
    """On a laptop and on a phone; with learning curves and widths in one study, each with its part of the page."""
    axes = (Axes(depths=(1, 3), widths=(16, 64), train_sizes=(90, "all"), seeds=(0, 1)),)
    paths = sweep_in(tmp_path / "wide", axes, lambda trial: 4 / trial.model.hidden_channels)
    page = write_report(paths).resolve().as_uri()
    with chromium(tmp_path) as browser:
        for size in (1280, 720), (390, 844):
            shown = visit(browser, page, ["Learning curves", "Widths"], size=size, script=FOLD)
            *places, (_, width) = json.loads(shown.value)
            assert len(places) == 3
            assert all(0 < bottom <= size[1] for _, bottom in places), (size, places)
            assert width <= size[0]  # nothing pushes the page sideways
