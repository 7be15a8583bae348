"""How long a sweep will take, before its first result: from first steps, or from sweeps beside it."""

import socket
from dataclasses import replace

import pytest
from made_results import result_of

from srcgcnn.cli.main import main
from srcgcnn.driver.timing import NoTimingError, one_of_each_shape, time_groups, timed_epoch
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result
from srcgcnn.sweep.cost import CostModel, Timing
from srcgcnn.sweep.plan import TrialGroup
from srcgcnn.sweep.record import SweepRecord, write_record
from srcgcnn.sweep.spec import SweepSpec

FLAGS = ["--models", "srcgcnn", "--depths", "2", "3", "--seeds", "2", "--epochs", "5", "--dry-run"]


@pytest.fixture
def dry_run(demo_store, tmp_path, capsys):
    """Plan a sweep on the small store and return what is printed."""

    def run(*flags):
        out = ["--out", str(tmp_path / "runs" / "mine")]
        assert main(["sweep", "--data", str(demo_store.folder), *FLAGS, *out, *flags]) == 0
        return capsys.readouterr().out

    return run


def group_of(trial):
    return TrialGroup((trial,))


def test_seeds_share_a_shape_and_the_ends_of_a_family_come_first(trial_of):
    depths = [ModelConfig("srcgcnn", depth) for depth in (3, 8, 2, 5)]
    groups = [group_of(trial_of(model, seed)) for model in depths for seed in range(2)]
    chosen = [group.trials[0].model.depth for group in one_of_each_shape(groups)]
    assert (chosen[:2], sorted(chosen)) == ([2, 8], [2, 3, 5, 8])


@pytest.mark.parametrize("batch_size", [4, 64])  # 12 steps in an epoch, and one
def test_first_steps_are_trained_in_any_recipe(demo_store, trial_of, batch_size):
    trial = trial_of(ModelConfig("srcgcnn", 2), batch_size=batch_size, epochs=300)
    seconds, rows = timed_epoch([trial], demo_store)
    assert seconds > 0
    assert rows == 48


def test_a_network_that_was_timed_needs_no_line_and_others_lie_on_it(trial_of):
    two, three, wide = (trial_of(ModelConfig("srcgcnn", depth), epochs=10) for depth in (2, 3, 9))
    cost = CostModel.fit((), [Timing(two, 2.0, 48), Timing(three, 5.0, 48)])
    assert [cost.seconds(trial) for trial in (two, three)] == [20.0, 50.0]
    assert cost.seconds(wide) == pytest.approx(10 * (2.0 + 3.0 * 7))
    seen = CostModel.fit([result_of(three, seconds=70.0)], [Timing(three, 5.0, 48)])
    assert seen.seconds(three) == pytest.approx(70.0)  # a result is believed before first steps


@pytest.mark.full
def test_what_cannot_train_has_no_timing_and_says_why(demo_store, trial_of):
    trial = trial_of(ModelConfig("srcgcnn", 2, task="classification"))
    with pytest.raises(NoTimingError, match="needs targets 0 and 1"):
        time_groups([group_of(trial)], demo_store.folder, 1)


@pytest.mark.full
def test_a_dry_run_tells_the_time_when_asked(dry_run):
    assert "expected: unknown before the first steps; --estimate" in dry_run()
    assert "of training in all" in dry_run("--estimate")


def test_sweeps_beside_tell_the_time_of_their_own_crystals_on_this_machine(dry_run, trial_of, tmp_path):
    def beside(name, host):
        trial = trial_of(ModelConfig("srcgcnn", 2), seed=9, epochs=50)
        paths, result = RunPaths(tmp_path / "runs" / name), result_of(trial, seconds=100.0)
        write_record(paths, SweepRecord(SweepSpec(name), trial.data, "store", "srcgcnn sweep"))
        write_result(paths, replace(result, provenance=replace(result.provenance, hostname=host)))

    beside("elsewhere", "a node of a cluster")
    assert "expected: unknown" in dry_run()
    beside("here", socket.gethostname())
    assert "of training in all" in dry_run()


def test_a_cluster_is_not_timed_here(demo_store, tmp_path, capsys):
    flags = ["--cluster", "slurm", "--estimate", "--out", str(tmp_path / "out")]
    assert main(["sweep", "--data", str(demo_store.folder), *FLAGS, *flags]) == 2
    assert "--estimate times this machine" in capsys.readouterr().err
