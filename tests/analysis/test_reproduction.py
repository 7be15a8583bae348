"""Published numbers: when they are reproduced, when not, and when nobody can tell."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srcgcnn.analysis.intervals import Repeats
from srcgcnn.analysis.reproduction import ratio_of, read_publication
from srcgcnn.cli.main import main
from srcgcnn.definitions import known_definitions
from srcgcnn.leaderboards.matbench_record import record_fold
from srcgcnn.leaderboards.matbench_task import find_task
from srcgcnn.models.config import ModelConfig
from srcgcnn.records import RecordError
from srcgcnn.run.folder import open_run


def repeats(values):
    return Repeats({0: pd.DataFrame(np.asarray(values, dtype=float))}, 0.3)


@given(st.integers(0, 10_000), st.floats(0.2, 5.0))
@settings(max_examples=30, deadline=None)
def test_a_ratio_has_no_unit(seed, scale):
    errors = np.random.default_rng(seed).exponential(1.0, (2, 4, 30))
    plain = ratio_of(repeats(errors[0]), repeats(errors[1]))
    scaled = ratio_of(repeats(scale * errors[0]), repeats(scale * errors[1]))
    assert scaled.mean == pytest.approx(plain.mean)
    assert (scaled.low, scaled.high) == pytest.approx((plain.low, plain.high))
    assert plain.low < plain.mean < plain.high


def test_the_ratio_of_proportional_errors_is_certain():
    errors = np.random.default_rng(0).exponential(1.0, (5, 40))
    ratio = ratio_of(repeats(1.2 * errors), repeats(errors))
    assert (ratio.low, ratio.mean, ratio.high) == pytest.approx((1.2, 1.2, 1.2))


def test_the_interval_of_a_ratio_covers_the_truth_as_often_as_it_says():
    generator, covered = np.random.default_rng(1), 0
    for _ in range(300):
        hard = generator.exponential(1.0, 60)
        of_seeds = generator.normal(1.0, 0.05, (2, 5, 1))
        errors = hard * of_seeds * np.array([1.1, 1.0])[:, None, None]
        ratio = ratio_of(repeats(errors[0]), repeats(errors[1]))
        covered += ratio.low <= 1.1 <= ratio.high
    assert covered >= 0.9 * 300


@pytest.mark.parametrize("name", sorted(known_definitions("sweeps/published")))
def test_every_publication_that_ships_can_be_read_and_names_a_sweep_that_ships(name):
    publication = read_publication(known_definitions("sweeps/published")[name])
    assert publication.sweep in known_definitions("sweeps")
    assert publication.claims or publication.folds
    assert all(claim.reason for claim in (*publication.claims, *publication.folds))


def test_an_error_needs_a_target_and_a_unit(tmp_path):
    path = tmp_path / "wrong.toml"
    claim = '[[claims]]\nvariant = "CGCNN-3"\nvalue = 0.04\ntolerance = 0.01\nreason = "none"\n'
    path.write_text(f'source = "x"\nsweep = "paper"\n{claim}')
    with pytest.raises(RecordError, match="the error of CGCNN-3 needs target and unit"):
        read_publication(path)


def claims(tmp_path, **values):
    path = tmp_path / "published.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    path.write_text("\n".join(['source = "A paper"', 'sweep = "depth"', "[[claims]]", *lines, 'reason = "noise"']))
    return str(path)


@pytest.mark.full
def test_trials_are_judged_through_the_command(finished_sweep, tmp_path, capsys):
    """Two variants of three seeds: a wide tolerance is met, a far number is not, a narrow one cannot be told."""
    paths = finished_sweep([ModelConfig("cgcnn", 1), ModelConfig("srcgcnn", 2)], seeds=3)

    def verdict(**values):
        file = claims(tmp_path, variant="SR-CGCNN T=2 step-norm", **values)
        assert main(["reproduce", file, "--judge-only", "--json", "--out", str(paths.out)]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        return found

    ours = verdict(against="CGCNN-1", value=1.0, tolerance=50.0)
    assert ours["verdict"] == "reproduced"
    assert verdict(against="CGCNN-1", value=100.0, tolerance=1.0)["verdict"] == "not reproduced"
    narrow = verdict(against="CGCNN-1", value=ours["ours"]["mean"], tolerance=1e-6)
    assert (narrow["verdict"], "more seeds" in narrow["reason"]) == ("cannot tell", True)
    elsewhere = verdict(value=1.0, tolerance=50.0, target="band_gap", unit="eV")
    assert (elsewhere["verdict"], "it is about band_gap" in elsewhere["reason"]) == ("cannot tell", True)
    untrained = verdict(against="CGCNN-9", value=1.0, tolerance=1.0)
    assert untrained["reason"] == "CGCNN-9 was not trained"


def test_a_publication_that_does_not_exist_is_refused_with_those_that_do(capsys):
    assert main(["reproduce", "nothing", "--judge-only"]) == 2
    assert "no publication 'nothing'; known:" in capsys.readouterr().err


def test_folds_of_matbench_are_judged_by_their_record(tmp_path, capsys):
    task = find_task("matbench_jdft2d")
    publication = read_publication(known_definitions("sweeps/published")["matbench_cgcnn"])
    published = next(claim.values for claim in publication.folds if claim.task == task.name)
    command = ["reproduce", "matbench_cgcnn", "--judge-only", "--json", "--out", str(tmp_path)]
    assert main(command) == 2
    assert "srcgcnn matbench TASK --sweep matbench_cgcnn --fold K" in capsys.readouterr().err

    def verdict(model, errors):
        for number, mae in enumerate(errors):
            fold = {"data": {}, "parameters": {"recipe": {}, "model": model}, "scores": {"mae": mae}}
            record_fold(tmp_path / "matbench.json.gz", task, number, fold)
        assert main(command) == 0
        (found,) = json.loads(capsys.readouterr().out)
        return found["verdict"], found["reason"]

    assert verdict("CGCNN-3", published[:4]) == ("cannot tell", "4 of 5 folds are recorded")
    near = [error + 0.1 * (-1) ** fold for fold, error in enumerate(published)]
    assert verdict("CGCNN-3", near)[0] == "reproduced"
    assert verdict("CGCNN-3", [error + 20 for error in near])[0] == "not reproduced"
    assert verdict("CGCNN-3", [50, 50, 50, 50, 50])[0] == "cannot tell"
    assert verdict("CGCNN-4", published) == ("cannot tell", "0 of 5 folds are recorded")


@pytest.mark.full
def test_a_ratio_is_judged_where_the_predictions_of_one_variant_are_gone(finished_sweep, tmp_path, capsys):
    paths = finished_sweep([ModelConfig("cgcnn", 1), ModelConfig("srcgcnn", 2)], seeds=2)
    for result in open_run(paths).results:
        if result.config.model.family == "cgcnn":
            paths.predictions(result.key).unlink()
    file = claims(tmp_path, variant="SR-CGCNN T=2 step-norm", against="CGCNN-1", value=1.0, tolerance=50.0)
    assert main(["reproduce", file, "--judge-only", "--json", "--out", str(paths.out)]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["ours"]["repeats"]) == ("reproduced", "seeds")


@pytest.mark.full
def test_verdicts_as_json_hold_what_json_knows_and_nothing_else(finished_sweep, tmp_path, capsys):
    paths = finished_sweep([ModelConfig("cgcnn", 1), ModelConfig("srcgcnn", 2)])
    file = claims(tmp_path, variant="SR-CGCNN T=2 step-norm", against="CGCNN-1", value=1.0, tolerance=50.0)
    command = ["reproduce", file, "--json", "--out", str(paths.out)]
    assert main([*command, "--judge-only"]) == 0
    (found,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (found["verdict"], found["ours"]["low"]) == ("cannot tell", None)
    assert main(command) == 2
    assert "add --judge-only" in capsys.readouterr().err
