"""The report of a sweep: what it says, what it refuses to mix, and that a real browser shows it without a network."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from made_results import result_of
from matplotlib.text import Text
from pymatgen.core import Lattice, Structure

from srcgcnn.analysis.answer import answer_of
from srcgcnn.analysis.chemistry import crystal_systems
from srcgcnn.analysis.comparison import compare, non_inferior
from srcgcnn.analysis.costs import draw_pareto, draw_tradeoff
from srcgcnn.analysis.figures import draw_depth, draw_differences
from srcgcnn.analysis.findings import find
from srcgcnn.analysis.report import write_report
from srcgcnn.analysis.studies import studies_of
from srcgcnn.analysis.style import journal_style
from srcgcnn.cli.main import main
from srcgcnn.data.build import build_store
from srcgcnn.data.sources.registry import open_source
from srcgcnn.run.failures import write_failure
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result
from srcgcnn.run.stopped import Stopped, write_stopped
from srcgcnn.run.training_config import TrainingConfig
from srcgcnn.run.trial import DataRef
from srcgcnn.run.trial_result import Cost, Curves, Metrics, Provenance
from srcgcnn.sweep.axes import Axes, Axis
from srcgcnn.sweep.early_stopping import SchedulerSpec
from srcgcnn.sweep.record import SweepRecord, write_record
from srcgcnn.sweep.space import trials_of
from srcgcnn.sweep.spec import DataSpec, SweepSpec

DATA = DataRef("d" * 16, "<script>alert(1)</script>", "formation_energy_per_atom", "eV/atom")
FORMULAS = ["NaCl", "Fe2O3", "CaTiO3", "GaAs", "LaMnO3", "UO2"]
HARD = {"CGCNN-1": 0.30, "CGCNN-3": 0.20, "SR-CGCNN T=2 step-norm": 0.25, "SR-CGCNN T=3 step-norm": 0.201}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def spec_of(**changes):
    axes = (Axes(depths=(1, 2, 3), seeds=(0, 1, 2)), Axes(models=("srcgcnn",), depths=(3,), alphas=("learned",)))
    training = TrainingConfig(epochs=4)
    return SweepSpec("tiny", "<b>How deep?</b>", DataSpec(source="gone.csv"), axes, training=training, **changes)


def write_trial(paths, config, crystals=60):
    """Write the files of a trial whose errors are those of its variant, plus seed and crystal noise."""
    rng = np.random.default_rng(config.seeds.init)
    hard = np.random.default_rng(99).exponential(0.02, crystals)
    own = np.random.default_rng([config.seeds.init, config.model.depth, config.model.family == "cgcnn"])
    error = HARD.get(config.model.label, 0.22) + 0.001 * rng.standard_normal() + hard + 0.002 * own.random(crystals)
    target = np.random.default_rng(5).normal(-1, 1, crystals)
    classes = config.model.task == "classification"
    target, prediction = ((target > -1) * 1.0, rng.random(crystals)) if classes else (target, target + error)
    table = pd.DataFrame(
        {
            "id": [f"mp-{number}" for number in range(crystals)],
            "formula": [FORMULAS[number % 6] for number in range(crystals)],
            "target": target,
            "prediction": prediction,
        }
    )
    extra = table.assign(prediction=99.0, set="val")  # rows of other sets must not count
    paths.predictions(config.key).parent.mkdir(parents=True, exist_ok=True)
    pd.concat([table.assign(set="test"), extra]).to_parquet(paths.predictions(config.key))
    mae = float(np.abs(prediction - target).mean())
    metrics = Metrics(2, 0.1, val_mae=mae, val_rmse=mae, test_mae=mae, test_rmse=mae)
    if classes:
        metrics = Metrics(2, 0.1, val_accuracy=0.5, test_accuracy=float(np.mean((prediction > 0.5) == target)))
    alphas = (0.7, 0.6, 0.5)[: config.model.depth] if config.model.alpha == "learned" else ()
    write_result(
        paths,
        result_of(
            config,
            metrics=metrics,
            curves=Curves((0.3, 0.2, 0.1), (0.5, 0.4, 0.3), (1e-3,) * 3),
            conv_parameters=20_000 + 10_000 * config.model.depth,
            total_parameters=40_000,
            rows=(180, 60, 60),
            alphas=alphas,
            cost=Cost(10.0 * config.model.depth, 500.0, 1.0, 1, 0),
            provenance=Provenance("2026-01-01T00:00:00+00:00", "abc", {"torch": "2"}, "cpu", "host", 1),
        ),
    )


def sweep_in(folder, spec, keep=lambda trial: True):
    paths = RunPaths(folder)
    write_record(paths, SweepRecord(spec, DATA, "no-store", "sweeps/depth_sweep.py"))
    trials = {trial.key: trial for trial, _ in trials_of(spec, DATA)}
    for trial in trials.values():
        if keep(trial):
            write_trial(paths, trial)
    return paths, list(trials.values())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    paths, _ = sweep_in(tmp_path_factory.mktemp("report") / "tiny", spec_of())
    write_report(paths)
    return paths


@pytest.mark.full
@pytest.mark.parametrize("depths", [(1, 2, 3), tuple(range(1, 17)), tuple(range(1, 33))])
def test_names_of_points_do_not_collide_in_the_trade_off_figure(depths, tmp_path):
    axes = (Axes(models=("srcgcnn",), depths=depths, seeds=(0, 1)),)
    paths, _ = sweep_in(tmp_path, replace(spec_of(), axes=axes))
    (study,) = studies_of(paths)
    figure = draw_pareto(study).figure
    figure.canvas.draw()
    for panel in figure.axes:
        names = [name for name in panel.texts if name.get_text()]
        boxes = [Text.get_window_extent(name) for name in names]
        assert boxes
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        points = [panel.transData.transform(name.xy) for name in names]
        assert all(panel.bbox.containsx(box.x0) and panel.bbox.containsx(box.x1) for box in boxes)
        assert not any(box.contains(*point) for box in boxes for point in points)
        lines = [name.arrow_patch.get_window_extent() for name in panel.texts if name.arrow_patch]
        assert all(max(line.width, line.height) < figure.dpi / 3 for line in lines)


@pytest.mark.parametrize(("rates", "kinds"), [((0.1, 0.01), 4), (tuple(0.1 / k for k in range(1, 9)), 2)])
def test_settings_that_vary_have_colours_of_their_own_while_they_are_few(rates, kinds, tmp_path):
    axes = (Axes(depths=(2,), seeds=(0,), more=(Axis("training.learning_rate", rates),)),)
    paths, _ = sweep_in(tmp_path, replace(spec_of(), axes=axes))
    (study,) = studies_of(paths)
    assert len(set(study.families.values())) == kinds
    assert study.families["CGCNN-2 learning_rate=0.1"] == ("CGCNN learning_rate=0.1" if kinds == 4 else "CGCNN")


def test_networks_that_agree_in_every_trial_are_not_ranked(tmp_path):
    axes = (Axes(models=("srcgcnn",), depths=(2,), alphas=("learned-scalar", 0.3), seeds=(0, 1)),)
    paths, _ = sweep_in(tmp_path, replace(spec_of(), axes=axes))
    (study,) = studies_of(paths)
    assert "the same in every pair of trials" in answer_of(study, find(study), []).advises


@pytest.mark.full
def test_long_names_stay_inside_every_figure(tmp_path):
    axes = (
        Axes(models=("srcgcnn",), depths=(2, 3), alphas=("learned-scalar", 0.3), layer_norms=(True,), seeds=(0, 1)),
    )
    paths, _ = sweep_in(tmp_path, replace(spec_of(), axes=axes))
    (study,) = studies_of(paths)
    found = find(study)
    with journal_style():
        figures = [
            draw_tradeoff(study, []).figure,
            draw_pareto(study).figure,
            draw_depth(study).figure,
            draw_differences(study, found.comparisons, found.margin).figure,
        ]
        for figure in figures:
            figure.canvas.draw()
            boxes = [legend.get_window_extent() for legend in figure.legends]
            boxes += [panel.xaxis.label.get_window_extent() for panel in figure.axes]
            boxes += [text.get_window_extent() for text in figure.texts]
            assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


@pytest.mark.full
def test_planted_differences_are_found(sweep):
    (study,) = studies_of(sweep)
    found = find(study)
    assert re.search(
        r"detect only differences above 0\.\d+ eV/atom; half of that, 0\.\d+, needs \d+ seeds", found.power
    )
    verdicts = {one.variant: one.verdict for one in found.comparisons}
    assert study.best in ("CGCNN-3", "SR-CGCNN T=3 step-norm")
    assert verdicts["CGCNN-1"] == verdicts["SR-CGCNN T=2 step-norm"] == "worse"
    assert {one.line: one.depth for one in found.saturations}["SR-CGCNN step-norm"] == 3
    claim = non_inferior(compare(study, "SR-CGCNN T=3 step-norm", "CGCNN-3"), 0.01)
    assert claim.holds
    assert "keeps the accuracy of CGCNN-3 within 0.01 eV/atom" in claim.sentence(study.unit)
    assert not non_inferior(compare(study, "CGCNN-1", "CGCNN-3"), 0.01).holds


@pytest.mark.full
def test_a_variant_that_is_better_on_the_test_set_than_the_best_of_validation_is_told(sweep, monkeypatch):
    (study,) = studies_of(sweep)
    monkeypatch.setattr(type(study), "best", "CGCNN-1")  # the validation set may be wrong
    said = " ".join(find(study).sentences(study))
    assert re.search(r"Significantly better than it on the test set: [^.]*CGCNN-3", said)


def test_crystal_systems_of_other_data_are_not_taken(tmp_path):
    """Two data sets in one folder, both with ids mp-0, mp-1 ...: the second one is not that of sweep.json."""
    source = build_demo_table(tmp_path / "here.csv")
    store = build_store(open_source(str(source), ["y"]), tmp_path / "store", processes=1).store
    here = replace(DATA, data_hash=store.manifest.data_hash)
    paths, spec = RunPaths(tmp_path / "two"), spec_of()
    spec = replace(spec, axes=spec.axes[1:], data=DataSpec(source=str(source), target="y"))
    write_record(paths, SweepRecord(spec, here, str(store.folder), "test"))
    for data in (DATA, here):
        for trial, _ in trials_of(spec, data):
            write_trial(paths, trial, crystals=8)
    found = {}
    for study in studies_of(paths):
        data_hash = study.results[0].config.data.data_hash
        found[data_hash] = crystal_systems(study, ["mp-0", "mp-7"], tmp_path / f"{data_hash}.csv")
    assert found[here.data_hash] == ({f"mp-{number}": "cubic" for number in (0, 7)}, "")
    assert found[DATA.data_hash][0] == {}
    assert "not of the data of the last request" in found[DATA.data_hash][1]


def build_demo_table(path):
    crystal = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(fmt="cif")
    pd.DataFrame({"id": [f"mp-{n}" for n in range(8)], "cif": crystal, "y": range(8)}).to_csv(path, index=False)
    return path


@pytest.mark.full
def test_every_figure_and_table_is_written(sweep):
    stems = {"tradeoff", "depth", "pareto", "differences", "parity", "alphas", "curves", "elements", "chemistry"}
    for ending in ("png", "pdf"):
        assert {path.stem for path in (sweep.report / "figures").glob(f"*.{ending}")} == stems
    assert stems <= {path.stem for path in (sweep.report / "data").glob("*.csv")}
    table = pd.read_csv(sweep.report / "tables" / "tradeoff.csv")
    row = table[table["variant"] == "CGCNN-3"].iloc[0]
    assert row["paper_test_mae"] == 0.0945
    assert row["test_half_width"] > 0
    assert row["test_interval_over"] == "seeds and crystals"
    latex = (sweep.report / "tables" / "tradeoff.tex").read_text()
    assert r"\toprule" in latex
    assert not re.search(r"(?<!\\)[%_]", latex.partition("\n")[2])


@pytest.mark.full
def test_the_page_needs_nothing_and_runs_nothing_of_the_user(sweep):
    page = (sweep.report / "index.html").read_text()
    without_plotly = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "<script>alert" not in without_plotly
    assert "&lt;script&gt;alert(1)" in without_plotly
    assert "&lt;b&gt;How deep?" in without_plotly
    assert not re.search(r"(src|href)=\"(?!#|data:|figures/|data/|tables/|https://next-gen)", without_plotly)
    assert "https://next-gen.materialsproject.org/materials/mp-" in without_plotly
    assert "Crystal systems are not shown" in without_plotly
    assert "not complete" not in without_plotly
    assert "location.reload" not in without_plotly  # nothing runs any more


@pytest.mark.full
def test_two_processes_do_not_write_one_report_at_the_same_time(sweep, monkeypatch):
    monkeypatch.setattr("srcgcnn.analysis.report.PATIENCE_S", 0.1)
    before = (sweep.report / "index.html").read_bytes()
    with FileLock(sweep.report_lock), pytest.raises(TimeoutError):
        write_report(sweep)
    assert (sweep.report / "index.html").read_bytes() == before
    write_report(sweep)


def test_a_partial_sweep_says_so(tmp_path):
    paths, trials = sweep_in(tmp_path / "part", spec_of(), keep=lambda trial: trial.seeds.init == 0)
    missing = next(trial for trial in trials if trial.seeds.init == 1)
    write_failure(paths, missing, "RuntimeError: <i>out of memory</i>")
    page = write_report(paths).read_text()
    assert "6 of 18" in " ".join(page.split())
    assert "&lt;i&gt;out of memory" in page
    assert "a ranking needs repeats that differ" in page


@pytest.mark.full
def test_trials_stopped_by_a_scheduler_are_told_and_do_not_make_a_sweep_incomplete(tmp_path):
    spec = spec_of(scheduler=SchedulerSpec("asha", grace_epochs=1))
    paths, trials = sweep_in(tmp_path / "stopped", spec, keep=lambda trial: trial.model.depth != 2)
    early = [trial for trial in trials if trial.model.depth == 2]
    for trial in early:
        write_stopped(paths, Stopped(trial, 1, 0.5, (0.5,), "asha"))
    page = write_report(paths).read_text()
    assert f"{len(early)} trials were stopped early" in page
    assert "not complete" not in page
    assert f"In {len(trials) - len(early)} of {len(trials) - len(early)} trials the best epoch is the last one" in page


@pytest.mark.full
def test_classification_has_accuracy_and_no_parity(tmp_path):
    spec = spec_of()
    spec = replace(spec, network=replace(spec.network, task="classification"))
    paths, _ = sweep_in(tmp_path / "classes", spec)
    page = write_report(paths).read_text()
    assert "error rate" in page
    assert not (paths.report / "figures" / "parity.png").exists()


@pytest.mark.full
def test_recipes_are_not_mixed(tmp_path, capsys):
    spec = spec_of()
    first = replace(spec, axes=(Axes(depths=(1, 3), seeds=(0, 1)),))
    paths, _ = sweep_in(tmp_path / "two", first)
    sweep_in(tmp_path / "two", replace(first, training=TrainingConfig(epochs=4, batch_size=8)))
    studies = studies_of(paths)
    assert [len(study.results) for study in studies] == [6, 6]
    assert main(["compare", str(paths.out), "CGCNN-1", "CGCNN-3"]) == 0
    assert capsys.readouterr().out.count("test error of CGCNN-1 minus CGCNN-3, 2 pairs of trials") == 2
    page = write_report(paths).read_text()
    assert "They are not mixed" in page
    assert "batch_size=8" in page
    assert ["batch_size=8" in study.title for study in studies] == [True, False]  # what was asked for last comes first
    sweep_in(tmp_path / "two", replace(first, training=TrainingConfig(epochs=5)), lambda one: one.model.depth == 1)
    with pytest.raises(ValueError, match="no variant matches 'CGCNN-3'; known: CGCNN-1"):
        write_report(paths, reference="CGCNN-3")  # others have it: that does not help the study that was asked for
    assert page == (paths.report / "index.html").read_text()
    write_record(paths, SweepRecord(first, DATA, "no-store", "again"))
    assert ["batch_size=8" in study.title for study in studies_of(paths)] == [False, True, False]


@pytest.mark.full
def test_commands_say_what_is_wrong(sweep, tmp_path, capsys):
    assert main(["compare", str(sweep.out), "SR-CGCNN T=3 step-norm", "CGCNN-3", "--margin", "0.005"]) == 0
    assert "one-sided 95 % upper limit" in capsys.readouterr().out
    assert main(["compare", str(sweep.out), "CGCNN-9", "CGCNN-3"]) == 2
    assert "known: CGCNN-1" in capsys.readouterr().err
    assert main(["compare", str(sweep.out), "CGCNN-1", "CGCNN-3", "--margin", "-1"]) == 2
    assert "margin=-1.0 must be positive" in capsys.readouterr().err
    assert main(["report", str(sweep.out), "--margin", "0"]) == 2
    assert "margin=0.0 must be positive" in capsys.readouterr().err
    assert main(["compare", str(sweep.out), "CGCNN-3", "CGCNN-3"]) == 2
    assert "compared with itself" in capsys.readouterr().err
    RunPaths(tmp_path).results.mkdir()
    assert main(["report", str(tmp_path)]) == 2
    assert "no trial has finished" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")
def test_a_real_browser_shows_it(sweep, tmp_path):
    log = tmp_path / "net.json"
    command = [CHROMIUM, "--headless", "--no-sandbox", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command += ["--virtual-time-budget=8000", "--enable-logging=stderr", f"--log-net-log={log}"]
    command += ["--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync"]
    page = (sweep.report / "index.html").resolve().as_uri()
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([*command, page], capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert "CONSOLE" not in done.stderr, re.findall(r".*CONSOLE.*", done.stderr)
    assert done.stdout.count("data:image/png;base64,") >= 8
    assert 'class="main-svg"' in done.stdout  # plotly drew
    urls = set(re.findall(r"https?://[^\"\\ ]+", json.dumps(json.loads(_closed(log.read_text())).get("events", []))))
    assert not {url for url in urls if "materialsproject" in url or "plot" in url or "cdn" in url}, urls


def _closed(text):
    """Complete a log that the browser did not close."""
    return text if text.rstrip().endswith("}") and '"polledData"' in text else text.rstrip().rstrip(",") + "]}"
