"""Specs and plans: what is asked for becomes the right trials, once each."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from made_results import result_of

from srcgcnn.cli.main import make_parser
from srcgcnn.cli.sweep import default_folder
from srcgcnn.records import RecordError, as_dict, digest, parse
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import read_result, write_result
from srcgcnn.run.trial import DataRef, TrialConfig
from srcgcnn.sweep.ended_groups import forget_ended_groups
from srcgcnn.sweep.plan import TrialGroup, plan_sweep
from srcgcnn.sweep.spec import read_spec

ROOT = Path(__file__).resolve().parents[2]
DATA = DataRef("a" * 16, "demo", "electrostatic_energy", "eV/atom")


def spec_of(tmp_path, text, **overrides):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return read_spec(path, overrides)


def test_flags_override_the_file_and_seeds_may_be_a_count(tmp_path):
    spec = spec_of(tmp_path, "[axes]\ndepths=[1]\nseeds=2\n", axes={"depths": [2, 3]}, training={"epochs": 7})
    assert (spec.name, spec.axes[0].depths, spec.axes[0].seeds, spec.training.epochs) == ("mine", (2, 3), (0, 1), 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[axes]\ndepth=[1]\n", ["unknown key", "depth", "depths", "seeds"]),
        ("[training]\nlr=1\n", ["unknown key", "lr", "learning_rate"]),
        ("[training.split]\nkinds='random'\n", ["unknown key", "kinds", "fractions"]),
        ("[axes]\nmodels=['gat']\n", ["gat", "cgcnn", "srcgcnn"]),
        ("[axes]\nalphas=[1.5]\n", ["1.5", "(0, 1]"]),
        ("[axes]\nseeds=[]\n", ["seeds", "empty"]),
        ("[axes]\ndepths=[1,1]\n", ["depths", "twice"]),
        ("[axes]\nalphas=['all']\n", ["axes.0.alphas.0: must be a number or 'none', 'learned'", "(got 'all')"]),
        ("[training]\nepochs=0\n", ["epochs=0", "positive"]),
        ("[data]\nsource='mp'\n[data.mp]\nlimt=1\n", ["unknown key 'data.mp.limt'", "limit, max_above_hull_ev"]),
        ("[training.split]\nfractions=[0.8,0.3,0.2]\n", ["fractions", "add up"]),
        ("name='a/b'\n", ["a/b", "letters"]),
        ("axes = 3 3\n", ["not valid TOML"]),
    ],
)
def test_a_wrong_definition_is_refused_with_the_value_and_what_is_known(tmp_path, text, words):
    with pytest.raises((RecordError, ValueError)) as caught:
        plan_sweep(spec_of(tmp_path, text), DATA, RunPaths(tmp_path / "out"))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_other_data_than_the_files_drops_the_files_target(tmp_path):
    text = "[data]\nsource='demo'\ntarget='electrostatic_energy'\nunit='eV/atom'\n"
    assert spec_of(tmp_path, text, data={"source": "my.csv"}).data.target is None
    assert spec_of(tmp_path, "[data]\ntarget='gap'\n", data={"source": "my.csv"}).data.target == "gap"
    text += "[data.graph]\nneighbours=8\n"
    assert spec_of(tmp_path, text, data={"source": "my.csv"}).data.graph.neighbours == 8  # the same for all data


def test_a_missing_definition_lists_those_there(tmp_path):
    (tmp_path / "other.toml").write_text("")
    with pytest.raises(RecordError, match=r"other\.toml"):
        read_spec(tmp_path / "missing.toml", {})


def test_combinations_that_are_one_network_are_one_trial(tmp_path):
    text = """
    [axes]
    models = ["srcgcnn", "cgcnn"]
    depths = [1, 3]
    norms = ["step", "shared"]
    alphas = ["none", 1.0, 0.5]
    seeds = 1
    """
    plan = plan_sweep(spec_of(tmp_path, text), DATA, RunPaths(tmp_path / "out"))
    labels = {trial.model.label for trial in plan.trials}
    assert labels == {
        "CGCNN-1",
        "CGCNN-3",
        "SR-CGCNN T=1 step-norm alpha=0.5",
        "SR-CGCNN T=3 step-norm",
        "SR-CGCNN T=3 shared-norm",
        "SR-CGCNN T=3 step-norm alpha=0.5",
        "SR-CGCNN T=3 shared-norm alpha=0.5",
    }
    assert plan.combinations == 2 * 2 * 3 + 2
    single = next(trial for trial in plan.trials if trial.model.label == "CGCNN-1")
    assert len(plan.aliases[single.key]) == 5


def test_finished_trials_are_not_planned_and_an_extension_adds_only_what_is_new(tmp_path):
    paths = RunPaths(tmp_path / "out")
    first = plan_sweep(spec_of(tmp_path, "[axes]\ndepths=[1,2]\nseeds=2\n"), DATA, paths)
    for trial in first.trials:
        write_result(paths, result_of(trial))
    assert plan_sweep(first.spec, DATA, paths).groups == ()
    more = plan_sweep(spec_of(tmp_path, "[axes]\ndepths=[1,2,4]\nseeds=3\n"), DATA, paths)
    new = {(trial.model.label, trial.seeds.init) for group in more.groups for trial in group.trials}
    assert new == {
        (label, seed)
        for label, seeds in {
            "CGCNN-1": [2],
            "SR-CGCNN T=2 step-norm": [2],
            "CGCNN-2": [2],
            "SR-CGCNN T=4 step-norm": [0, 1, 2],
            "CGCNN-4": [0, 1, 2],
        }.items()
        for seed in seeds
    }


def test_results_of_other_data_are_counted_and_left_alone(tmp_path):
    paths = RunPaths(tmp_path / "out")
    spec = spec_of(tmp_path, "[axes]\ndepths=[2]\nseeds=1\n")
    for data in (DATA, replace(DATA, data_hash="b" * 16), replace(DATA, target="gap")):
        for trial in plan_sweep(spec, data, paths).trials:
            write_result(paths, result_of(trial))
    plan = plan_sweep(spec, DATA, paths)
    assert plan.groups == ()
    assert plan.others == 4
    with pytest.raises(ValueError, match=r"unit='kcal/mol'.*'eV/atom'; nothing is converted"):
        plan_sweep(spec, replace(DATA, unit="kcal/mol"), paths)


def test_other_data_or_training_is_another_trial(tmp_path):
    spec = spec_of(tmp_path, "[axes]\ndepths=[2]\nseeds=1\n")
    trial = plan_sweep(spec, DATA, RunPaths(tmp_path)).trials[0]
    keys = {
        trial.key,
        replace(trial, data=replace(DATA, data_hash="b" * 16)).key,
        replace(trial, data=replace(DATA, target="band_gap")).key,
        replace(trial, training=replace(trial.training, epochs=301)).key,
        replace(trial, seeds=replace(trial.seeds, order=9)).key,
    }
    assert len(keys) == 5
    renamed = replace(trial, data=replace(DATA, name="copy", unit="meV/atom"))
    assert renamed.key == trial.key  # names do not change numbers


def test_keys_are_pinned():
    """A change of this key orphans every result that users have: raise RESULT_FORMAT on purpose, or not at all."""
    text = {"model": {"family": "srcgcnn", "depth": 3}, "training": {}, "seeds": {"init": 0, "order": 0, "split": 0}}
    config = parse(TrialConfig, {**text, "data": as_dict(DATA)}, "test")
    assert config.key == "acb7dcc37c264424"


def test_groups_hold_trials_of_one_shape_and_start_with_the_longest(tmp_path):
    text = "[axes]\nmodels=['srcgcnn']\ndepths=[1,2,8]\nalphas=[0.3,0.5,'learned']\nseeds=3\n"
    plan = plan_sweep(spec_of(tmp_path, text), DATA, RunPaths(tmp_path / "out"), group_size=4)
    assert sum(len(group.trials) for group in plan.groups) == len(plan.trials) == 27
    for group in plan.groups:
        assert len(group.trials) <= 4
        assert len({trial.shape for trial in group.trials}) == 1
    work = [sum(1 + trial.model.depth for trial in group.trials) for group in plan.groups]
    assert work == sorted(work, reverse=True)


@pytest.mark.parametrize("kind", [".pt", ".previous"])
def test_a_running_group_stays_together_while_its_checkpoint_exists(tmp_path, kind):
    paths = RunPaths(tmp_path / "out")
    text = "[axes]\nmodels=['srcgcnn']\ndepths=[3]\nseeds=4\n"
    first = plan_sweep(spec_of(tmp_path, text), DATA, paths, group_size=3)
    group = first.groups[0]
    paths.checkpoints.mkdir(parents=True)
    paths.group(group.key).write_text(json.dumps(group.to_dict()))
    alone = plan_sweep(first.spec, DATA, paths, group_size=1)
    assert max(len(found.trials) for found in alone.groups) == 1  # a group without a checkpoint has lost nothing
    paths.checkpoint(group.key).with_suffix(kind).write_bytes(b"state")
    again = plan_sweep(first.spec, DATA, paths, group_size=1)
    assert group.key in {found.key for found in again.groups}
    assert sum(len(found.trials) for found in again.groups) == 4
    assert TrialGroup.from_dict(group.to_dict(), "test") == group


def test_with_a_scheduler_a_group_that_began_without_one_stays_only_if_it_is_a_whole_variant(tmp_path):
    paths = RunPaths(tmp_path / "out")
    text = "[axes]\nmodels=['srcgcnn']\ndepths=[3]\nseeds=3\n'training.learning_rate'=[1e-3, 1e-1]\n"
    before = plan_sweep(spec_of(tmp_path, text), DATA, paths, group_size=4)
    assert {len({trial.variant for trial in group.trials}) for group in before.groups} == {1, 2}
    judged = spec_of(tmp_path, text + "[scheduler]\nkind='asha'\n")
    whole = plan_sweep(judged, DATA, paths).groups
    paths.checkpoints.mkdir(parents=True)
    for group in (*before.groups, whole[0]):
        paths.group(group.key).write_text(json.dumps(group.to_dict()))
        paths.checkpoint(group.key).write_bytes(b"state")
    assert {group.key for group in plan_sweep(judged, DATA, paths).groups} == {group.key for group in whole}


def test_the_longest_start_first_when_training_sets_differ(tmp_path):
    text = "[axes]\nmodels=['srcgcnn']\ndepths=[3]\nseeds=1\ntrain_sizes=[100, 1000, 'all']\n"
    plan = plan_sweep(spec_of(tmp_path, text), DATA, RunPaths(tmp_path / "out"))
    sizes = [trial.training.split.train_size for group in plan.groups for trial in group.trials]
    assert sizes == [None, 1000, 100]


def test_the_estimate_is_a_line_in_depth(tmp_path):
    paths = RunPaths(tmp_path / "out")
    done = plan_sweep(spec_of(tmp_path, "[axes]\nmodels=['srcgcnn']\ndepths=[2,4]\nseeds=1\n"), DATA, paths)
    assert done.estimate_s() is None
    for trial in done.trials:
        write_result(paths, result_of(trial, seconds=300 * (0.5 + 0.25 * trial.model.depth)))
    plan = plan_sweep(spec_of(tmp_path, "[axes]\nmodels=['srcgcnn']\ndepths=[8]\nseeds=2\n"), DATA, paths)
    assert plan.estimate_s() == pytest.approx(2 * 300 * 2.5)


def test_a_result_reads_back_equal_and_a_damaged_one_is_named(tmp_path):
    paths = RunPaths(tmp_path)
    trial = plan_sweep(spec_of(tmp_path, "[axes]\ndepths=[2]\n"), DATA, paths).trials[0]
    result = result_of(trial)
    write_result(paths, result)
    assert read_result(paths.result(trial.key)) == result
    assert digest(as_dict(read_result(paths.result(trial.key)))) == digest(as_dict(result))
    paths.result(trial.key).write_text("{")
    with pytest.raises(RecordError, match=trial.key):
        read_result(paths.result(trial.key))


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"7", b"\xff\xfe", b'{"format_version": 1}'])
def test_a_damaged_result_is_set_aside_and_its_trial_planned_again(tmp_path, damage, capsys):
    paths, asked = RunPaths(tmp_path / "out"), spec_of(tmp_path, "[axes]\nmodels=['srcgcnn']\ndepths=[2,3]\nseeds=1\n")
    trials = plan_sweep(asked, DATA, paths).trials
    for trial in trials:
        write_result(paths, result_of(trial))
    path = paths.result(trials[0].key)
    path.write_bytes(damage)
    plan = plan_sweep(asked, DATA, paths)
    assert trials[0].key in capsys.readouterr().err
    assert [group.trials for group in plan.groups] == [(trials[0],)]
    assert plan.finished == {trials[1].key}
    assert path.with_name(f"{path.name}.damaged").read_bytes() == damage
    assert [result.key for result in open_run(paths).results] == [trials[1].key]


def test_checkpoints_of_finished_trials_go_and_those_of_others_stay(tmp_path):
    paths, asked = RunPaths(tmp_path / "out"), spec_of(tmp_path, "[axes]\nmodels=['srcgcnn']\ndepths=[2,3]\nseeds=4\n")
    plan = plan_sweep(asked, DATA, paths, group_size=4)
    done, left = plan.groups
    single = TrialGroup((done.trials[0],))
    for group in (done, left, single):
        for path in (paths.checkpoint(group.key), paths.checkpoint(group.key).with_suffix(".previous")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        paths.group(group.key).write_text(json.dumps(group.to_dict()))
    for trial in done.trials:
        write_result(paths, result_of(trial))
    forget_ended_groups(plan_sweep(asked, DATA, paths, group_size=4), paths)
    assert {path.stem for path in paths.checkpoints.iterdir()} == {left.key}
    assert len(list(paths.checkpoints.iterdir())) == 3


def test_planning_imports_neither_torch_nor_ray_nor_mlflow():
    code = (
        "import sys\nfrom srcgcnn.cli.main import main\nassert main(['sweep', '--dry-run']) == 0\n"
        "heavy = {'torch','ray','mlflow','pymatgen'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.toml")), ids=lambda path: path.stem)
def test_the_definitions_that_ship_are_valid(path):
    assert read_spec(path, {}).axes


def test_the_paper_sweep_is_the_four_models_of_the_paper():
    plan = plan_sweep(read_spec(ROOT / "sweeps/paper.toml", {}), DATA, RunPaths(Path("nowhere")))
    labels = sorted({trial.model.label for trial in plan.trials})
    assert labels == ["CGCNN-1", "CGCNN-3", "SR-CGCNN T=3 step-norm", "SR-CGCNN T=5 step-norm"]
    assert plan.spec.training.epochs == 300


@pytest.mark.parametrize(
    ("flags", "folder"),
    [
        ([], "depth"),
        (["--data", "there/mp_2000.csv.gz", "--target", "band gap"], "depth-mp_2000-band-gap"),
        (["--data", "matbench:matbench_jdft2d"], "depth-matbench-matbench_jdft2d"),
        (["--data", "mp.csv", "--name", "mine"], "mine"),
    ],
)
def test_data_given_by_flags_have_a_folder_of_their_own(flags, folder):
    options = make_parser().parse_args(["sweep", *flags])
    data = () if options.name else (options.data, options.target)
    assert default_folder(options.name or "depth", *data) == Path("runs") / folder


@pytest.mark.parametrize(("axis", "value"), [("depths", [10**9]), ("widths", [10**9]), ("seeds", 10**9)])
def test_numbers_that_nobody_means_are_refused(tmp_path, axis, value):
    path = tmp_path / "s.toml"
    path.write_text(f"[axes]\n{axis} = {value}\n")
    with pytest.raises(ValueError, match=r"1,?000,?000,?000"):
        plan_sweep(read_spec(path, {}), DATA, RunPaths(tmp_path / "out"), 1)


def test_names_of_trials_and_groups_differ_wherever_the_trials_do(tmp_path):
    """In the lines of a running sweep, too, where `CGCNN-1 seed 0` would be a trial of any learning rate."""
    text = (
        '[[axes]]\nmodels=["srcgcnn"]\ndepths=[1,3]\nalphas=["none",0.5]\nblocks=[1,"all"]\n'
        '"training.graph.neighbours"=[6,12]\n"model.readout"=["mean","sum"]\nseeds=2\n'
        '[[axes]]\nmodels=["cgcnn"]\ndepths=[2]\n"training.learning_rate"=[0.01]\nseeds=[0,3]\ntrain_sizes=[50,"all"]\n'
    )
    plan = plan_sweep(spec_of(tmp_path, text), DATA, RunPaths(tmp_path / "out"), group_size=2)
    names = {plan.label_of(trial) for trial in plan.trials}
    assert len(names) == len(plan.trials)
    assert len({group.label for group in plan.groups}) == len(plan.groups)
    again = [TrialGroup.from_dict(group.to_dict(), "here") for group in plan.groups]
    assert [group.label for group in again] == [group.label for group in plan.groups]
    assert any(name.startswith("SR-CGCNN T=3 step-norm readout=sum graph.neighbours=6 ") for name in names)


def test_what_one_block_of_axes_sets_and_another_leaves_is_in_the_names():
    spec = read_spec(Path(__file__).resolve().parents[2] / "sweeps" / "any_depth.toml", {})
    plan = plan_sweep(spec, DATA, RunPaths(Path("nowhere")))
    assert len({plan.label_of(trial) for trial in plan.trials}) == len(plan.trials)


def test_a_group_of_several_variants_does_not_take_the_name_of_one(tmp_path):
    text = '[axes]\nmodels=["srcgcnn"]\ndepths=[3]\nalphas=[0.1,0.5]\n"training.learning_rate"=[0.001,0.003]\nseeds=2\n'
    plan = plan_sweep(spec_of(tmp_path, text), DATA, RunPaths(tmp_path / "out"), group_size=8)
    (group,) = plan.groups
    assert group.label.endswith(" and 3 more variants, seeds 0,1 (8 trials)")


def test_what_is_not_varied_is_not_in_a_name(tmp_path):
    text = '[axes]\ndepths=[3]\n"training.learning_rate"=[0.01]\nseeds=1\n'
    plan = plan_sweep(spec_of(tmp_path, text), DATA, RunPaths(tmp_path / "out"))
    assert {plan.label_of(trial) for trial in plan.trials} == {"SR-CGCNN T=3 step-norm seed 0", "CGCNN-3 seed 0"}
