"""What the first version (commit a9ca225) wrote is read, skipped, resumed and extended.

`first_version/` holds what it left: a small store, a sweep over a grid with finished, failed, stopped and running
trials and one finished trial of every other setting that a key can hold, and a search. `expected.json` is what that
version itself made of them.
"""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from srcgcnn.data.store import GraphStore
from srcgcnn.driver.worker import run_group
from srcgcnn.run.failures import read_failures
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import read_result
from srcgcnn.run.stopped import all_stopped
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.record import read_record
from srcgcnn.sweep.search import Search
from srcgcnn.training.model_card import read_card

HERE = Path(__file__).parent / "first_version"
EXPECTED = json.loads((HERE / "expected.json").read_text())


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Copy the folder, as somebody does who goes on with a sweep."""
    shutil.copytree(HERE, tmp_path / "written")
    packed = tmp_path / "written" / "search" / "study.db.gz"
    (packed.parent / "study.db").write_bytes(gzip.decompress(packed.read_bytes()))
    monkeypatch.chdir(tmp_path / "written")
    return tmp_path / "written"


def state_of(plan):
    return {
        "trials": sorted(trial.key for trial in plan.trials),
        "finished": sorted(plan.finished),
        "failed": sorted(plan.failed),
        "stopped": sorted(plan.stopped),
        "groups": sorted(group.key for group in plan.groups),  # their order is only a guess of what takes longest
        "left": plan.left,
    }


@pytest.mark.parametrize("name", ["grid", "search"])
@pytest.mark.parametrize("extended", [False, True])
def test_the_plan_is_that_of_the_first_version(written, name, extended):
    paths = RunPaths(written / name)
    record = read_record(paths)
    spec, wanted = record.spec, name
    if extended:
        spec = replace(spec, axes=(replace(spec.axes[0], seeds=(0, 1, 2), depths=(1, 2, 3)),))
        wanted = f"{name} extended"
    expected = EXPECTED[wanted]
    assert state_of(plan_sweep(spec, record.data, paths, 2)) == {**expected, "groups": sorted(expected["groups"])}


@pytest.mark.parametrize("name", ["grid", "search"])
def test_every_result_is_read_under_its_key(written, name):
    results = {result.key: result for result in open_run(RunPaths(written / name)).results}
    assert len(results) == len(list((HERE / name / "results").iterdir()))
    for key, result in results.items():
        before = json.loads((HERE / name / "results" / f"{key}.json").read_text())
        assert {**result.to_dict()["metrics"], **before["metrics"]} == result.to_dict()["metrics"]


def test_settings_of_every_kind_are_among_them(written):
    configs = [result.config for result in open_run(RunPaths(written / "grid")).results]
    assert {config.training.split.kind for config in configs} == {"random", "formula", "lists", "kfold"}
    assert {config.model.task for config in configs} == {"regression", "classification"}
    assert {"learned", "learned-scalar", "none", 0.5} == {config.model.alpha for config in configs}
    assert any(config.training.start for config in configs)
    assert any(config.training.precision == "bf16" for config in configs)


def test_failed_and_stopped_trials_are_read(written):
    paths = RunPaths(written / "grid")
    assert {failure.reason for failure in read_failures(paths)} == {"the loss is not finite in epoch 2"}
    assert {stopped.val_error for stopped in all_stopped(paths)} == {0.51}


def test_a_checkpoint_is_resumed_to_the_same_numbers(written):
    paths = RunPaths(written / "grid")
    record = read_record(paths)
    groups = plan_sweep(record.spec, record.data, paths, 2).groups
    (group,) = [one for one in groups if paths.checkpoint(one.key).exists()]
    run_group(group, written / record.store, paths, checkpoint_interval_s=1000.0)
    for trial in group.trials:
        metrics, cost = read_result(paths.result(trial.key)).metrics, read_result(paths.result(trial.key)).cost
        before = EXPECTED["resumed"][trial.key]
        assert (metrics.val_mae, metrics.test_mae) == pytest.approx((before["val_mae"], before["test_mae"]), rel=1e-4)
        assert cost.resumes == 1


def test_a_search_goes_on_where_it_was(written):
    paths = RunPaths(written / "search")
    record = read_record(paths)
    before = json.loads(paths.proposals.read_text())["proposals"]
    spec = replace(record.spec, search=replace(record.spec.search, proposals=4))
    plan = plan_sweep(spec, record.data, paths, 2)
    assert plan.proposals_left == 1
    search = Search(plan, paths)
    groups = search.advance()
    assert search.left == 0
    assert {trial.key for group in groups for trial in group.trials}.isdisjoint(plan.finished)
    assert json.loads(paths.proposals.read_text())["proposals"][:3] == before


def test_its_store_and_its_models_are_opened(written):
    assert len(GraphStore(written / "store", check_hashes=True)) == 24
    paths = RunPaths(written / "grid")
    (weights,) = (paths.out / "models").iterdir()
    result = read_result(paths.result(weights.stem))
    card = read_card(weights)
    assert (card.key, card.model) == (result.key, result.config.model)
