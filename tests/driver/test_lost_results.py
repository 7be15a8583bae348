"""Results that are removed or damaged while the driver runs are trained again, without a hand."""

from contextlib import nullcontext

import pytest
from made_results import result_of
from one_group import run_one_group

from srcgcnn.driver.conduct import conduct
from srcgcnn.driver.resources import GroupResources
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result
from srcgcnn.run.training_config import TrainingConfig
from srcgcnn.run.trial import DataRef
from srcgcnn.sweep.axes import Axes
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.spec import SweepSpec
from srcgcnn.tracking.background import BackgroundWriter

pytestmark = pytest.mark.full

DAMAGES = {
    "removed": lambda path: path.unlink(),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "overwritten": lambda path: path.write_bytes(b"\xff" * 5000),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_result_that_is_lost_while_the_driver_runs_is_trained_again(paths, damage, capsys):
    axes = Axes(models=("srcgcnn",), depths=(2, 3), seeds=(0,))
    spec = SweepSpec("depth", axes=(axes,), training=TrainingConfig(epochs=2))
    plan = plan_sweep(spec, DataRef("d" * 64, "demo", "e", "eV"), paths)
    rounds = []

    def run_groups(state, *_anything):
        rounds.append([trial.key for group in state.plan.groups for trial in group.trials])
        for group in state.plan.groups:
            state.group_ended(group.key, "finished")
            for trial in group.trials:
                write_result(paths, result_of(trial))
                state.trial_finished(result_of(trial))
        if len(rounds) == 1:
            DAMAGES[damage](paths.result(plan.trials[0].key))
        return state.over

    tracker, cluster = BackgroundWriter(paths, "depth", None), lambda _console: nullcontext(GroupResources())
    status = conduct(plan, paths, cluster, tracker, store=paths.out, command="again", run_groups=run_groups)
    assert status == 0
    assert rounds[1:] == [[plan.trials[0].key]]
    assert {result.key for result in open_run(paths).results} == {trial.key for trial in plan.trials}
    *_, shown, advised, _last = capsys.readouterr().out.splitlines()  # the answer stands below the table
    assert "has the lowest validation error" in shown
    assert advised.startswith("Train more seeds before choosing")


def lose_the_first_result(paths, trial):
    write_result(paths, result_of(trial))
    before = paths.out / "before"
    if not before.exists():
        before.touch()
        paths.result(trial.key).unlink()


@pytest.mark.timeout(900)
def test_a_result_that_is_removed_before_the_driver_has_seen_it_is_trained_again(tmp_path):
    run_one_group(tmp_path / "run", lose_the_first_result)
    paths = RunPaths(tmp_path / "run")
    assert len(open_run(paths).results) == 1
    assert not list(paths.failures.glob("*"))
