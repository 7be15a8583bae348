"""The checker finds each defect that is planted in a real sweep folder with a real MLflow store."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tracked_sweep import SWEEP, a_config, all_runs, client_of, finish

from srcgcnn.tracking.writer import rebuild
from tests.chaos.checker import check, differences, observe, read_numbers
from tests.chaos.processes import MARK

pytestmark = pytest.mark.full

SWEEP_MARK = f"test-{os.getpid()}"


@pytest.fixture
def sweep(paths, tmp_path):
    """A finished sweep of two trials; `seen()` looks at it, and `found()` compares it with what it was."""
    temp = tmp_path / "temp"
    temp.mkdir()
    for seed in (1, 2):
        finish(paths, a_config(seed), val_mae=0.1 * seed)
    rebuild(paths, SWEEP, None)
    calm = read_numbers(paths.results)

    class Sweep:
        key = a_config(1).key
        out, folder, client = paths, temp, client_of(paths)

        @staticmethod
        def rules(**changes):
            return {found.rule for found in check(observe(paths, mark=SWEEP_MARK, temp=temp, **changes), calm)}

        @staticmethod
        def run_of(key):
            (run,) = [run for run in all_runs(Sweep.client) if run.data.tags.get("srcgcnn.trial_key") == key]
            return run

    return Sweep


@pytest.mark.full
def test_a_sound_sweep_passes(sweep):
    assert sweep.rules() == set()


def test_a_lost_key_is_found(sweep):
    sweep.out.result(sweep.key).unlink()
    assert sweep.rules() == {"lost key"}


def test_a_result_that_nobody_asked_for_is_found(sweep):
    (sweep.out.results / "copy.json").write_text(sweep.out.result(sweep.key).read_text())
    assert sweep.rules() == {"stray result", "unreadable result"}


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\x80"])
def test_a_damaged_result_is_found(sweep, text):
    sweep.out.result(sweep.key).write_text(text, encoding="latin-1")
    assert sweep.rules() == {"unreadable result"}


def test_the_last_bit_of_a_number_is_seen(sweep):
    path = sweep.out.result(sweep.key)
    data = json.loads(path.read_text())
    data["metrics"]["test_mae"] += 1e-16  # 0.27: below one and a half steps of a double
    path.write_text(json.dumps(data))
    assert sweep.rules() == {"other number", "MLflow differs"}


def test_an_alpha_that_differs_is_found(sweep):
    path = sweep.out.result(sweep.key)
    data = json.loads(path.read_text())
    data["alphas"][0] = 0.25
    path.write_text(json.dumps(data))
    assert sweep.rules() == {"other number"}


def test_a_second_run_of_a_trial_is_found(sweep):
    run = sweep.run_of(sweep.key)
    sweep.client.create_run(run.info.experiment_id, tags={"srcgcnn.trial_key": sweep.key})
    assert sweep.rules() == {"MLflow's runs"}


def test_a_run_that_is_missing_is_found(sweep):
    sweep.client.delete_run(sweep.run_of(sweep.key).info.run_id)
    assert sweep.rules() == {"MLflow's runs"}


def test_a_run_that_did_not_end_is_found(sweep):
    sweep.client.update_run(sweep.run_of(sweep.key).info.run_id, status="RUNNING")
    assert sweep.rules() == {"MLflow differs"}


def test_an_epoch_that_was_logged_twice_is_found(sweep):
    sweep.client.log_metric(sweep.run_of(sweep.key).info.run_id, "epoch/val_mae", 0.5, step=4)
    assert sweep.rules() == {"MLflow differs"}


def test_another_number_in_mlflow_is_found(sweep):
    sweep.client.log_metric(sweep.run_of(sweep.key).info.run_id, "val_mae", 0.5)
    assert sweep.rules() == {"MLflow differs"}


def test_two_runs_of_the_sweep_are_found(sweep):
    experiment = sweep.run_of(sweep.key).info.experiment_id
    sweep.client.create_run(experiment, tags={"srcgcnn.sweep_id": "0"})
    assert sweep.rules() == {"MLflow's sweep"}


@pytest.mark.parametrize("damage", [b"", bytes(4096), b"no database"])
def test_a_damaged_or_empty_store_is_found(sweep, damage):
    sweep.out.mlflow_db.write_bytes(damage)
    assert sweep.rules() <= {"no MLflow", "MLflow's runs", "MLflow's sweep"}
    assert sweep.rules()


def test_a_process_that_is_left_is_found_and_one_that_has_ended_is_not(sweep):
    left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={MARK: SWEEP_MARK})
    try:
        assert sweep.rules() == {"process left"}
    finally:
        left.kill()
        left.communicate()
    assert sweep.rules() == set()


@pytest.mark.parametrize("name", [".a.json.12.ab.tmp", "checkpoints/a.pt", "checkpoints/a.given-up", "failures/a.json"])
def test_a_file_that_is_left_is_found(sweep, name):
    path = sweep.out.out / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert sweep.rules() == {"file left"}


def test_a_folder_a_job_a_hand_and_an_end_that_is_none_are_found(sweep):
    (sweep.folder / "srcgcnn-x").mkdir()
    assert sweep.rules() == {"folder left"}
    assert sweep.rules(jobs=["17_3 RUNNING"], status=None) == {"folder left", "job left", "not over"}
    assert sweep.rules(hands=["resume"], status=1) == {"folder left", "hand needed", "ended badly"}


values = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)


@given(values, values)
def test_differences_are_those_of_the_text(one, other):
    equal = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    found = list(differences(one, other))
    assert not (equal and found)
    if not equal and isinstance(one, dict) and isinstance(other, dict):
        missing = {name for name in one.keys() ^ other.keys() if (one | other)[name] is None}
        assert found or missing  # a value of None and a value that is not there are the same to us
    elif not equal and not isinstance(one, (dict, list)):
        assert found
