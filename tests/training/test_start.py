"""Starting from trained weights: what is copied, what stays frozen, what a trial's key knows, what does not fit."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from srcgcnn.data.store import sha256_of
from srcgcnn.driver.worker import run_group
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.counts import body_layout
from srcgcnn.prediction.start import find_start
from srcgcnn.records import RecordError
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.training_config import StartConfig
from srcgcnn.sweep.axes import Axes, Axis
from srcgcnn.sweep.plan import TrialGroup
from srcgcnn.sweep.spec import StartSpec, SweepSpec
from srcgcnn.training.model_file import load_model
from srcgcnn.training.outcome import conclude
from srcgcnn.training.predictor import Predictor
from srcgcnn.training.trainer import GroupTrainer, InterruptedGroupError

ROOT = Path(__file__).resolve().parents[2]
SR3 = ModelConfig("srcgcnn", 3, alpha="learned")


@pytest.fixture(scope="module")
def trained(demo_store, trial_of, tmp_path_factory) -> Path:
    """Model file of a trained SR-CGCNN T=3 with learned damping; its folder is a sweep."""
    paths = RunPaths(tmp_path_factory.mktemp("source") / "sweep")
    trial = trial_of(SR3, 5, epochs=4, learning_rate=5e-3)
    run_group(TrialGroup((trial,)), demo_store.folder, paths, checkpoint_interval_s=60)
    return paths.model(trial.key)


@pytest.fixture
def starting(trained, trial_of):
    """Make trials that start from the trained weights: `starting(seed, head=, frozen=, **training)`."""

    def make(seed=0, head="new", frozen=(), **training):
        return trial_of(SR3, seed, start=StartConfig(sha256_of(trained), head, frozen), **training)

    return make


def test_a_new_head_comes_from_the_seed_and_the_rest_from_the_file(trained, starting, trial_of, demo_store):
    trainer = GroupTrainer([starting(0), starting(1)], demo_store, start_weights=trained)
    scratch = GroupTrainer([trial_of(SR3, 0), trial_of(SR3, 1)], demo_store)
    source, own = load_model(trained)[1].state_dict(), trainer.network.state_dict()
    for name, value in own.items():
        expected = scratch.network.state_dict()[name] if name.startswith("head.") else source[name].expand_as(value)
        torch.testing.assert_close(value, expected, rtol=0, atol=0)
    assert not torch.equal(own["head.output.weight"][0], own["head.output.weight"][1])


def test_a_kept_head_with_everything_else_at_rest_predicts_what_the_file_predicts(trained, starting, demo_store):
    config = starting(head="keep", frozen=("embedding", "linears", "norms"), epochs=1, learning_rate=1e-9)
    trainer = GroupTrainer([config], demo_store, start_weights=trained)
    trainer.train()
    (outcome,) = conclude(trainer)
    graphs = [demo_store.graph(row) for row in outcome.test.rows]
    np.testing.assert_allclose(outcome.test.predictions, Predictor.load(trained).predict_graphs(graphs), atol=1e-4)


@pytest.mark.parametrize("depth", [3, 10], ids=["plain", "beyond the plain path"])
def test_frozen_parts_do_not_move_and_the_others_do(depth, demo_store, trial_of, tmp_path):
    model = ModelConfig("srcgcnn", depth, "shared")
    paths = RunPaths(tmp_path)
    source = trial_of(model, 5, epochs=1)
    run_group(TrialGroup((source,)), demo_store.folder, paths, checkpoint_interval_s=60)
    weights = paths.model(source.key)
    start = StartConfig(sha256_of(weights), "keep", ("embedding", "norms.0"))
    trainer = GroupTrainer([trial_of(model, start=start)], demo_store, start_weights=weights)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.train()
    moved = {name for name, value in trainer.network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.startswith(("blocks", "head"))}


def test_interrupted_at_every_batch_a_fine_tuning_ends_with_the_same_numbers(trained, starting, demo_store, tmp_path):
    config, checkpoint = starting(2, frozen=("embedding", "norms")), tmp_path / "group.pt"
    undisturbed = GroupTrainer([config], demo_store, start_weights=trained)
    undisturbed.train()
    attempts = 0
    while True:
        trainer = GroupTrainer([config], demo_store, checkpoint=checkpoint, start_weights=trained)
        try:
            trainer.train(should_stop=lambda: True)
            break
        except InterruptedGroupError:
            attempts += 1
    assert attempts == 9
    numbers = [one.test.predictions.tolist() for one in (*conclude(trainer), *conclude(undisturbed))]
    assert numbers[0] == numbers[1]


def test_the_key_knows_the_weights_and_not_where_they_lie(trained, starting, trial_of, tmp_path):
    keys = {
        trial_of(SR3).key,
        starting().key,
        starting(head="keep").key,
        starting(frozen=("embedding",)).key,
        trial_of(SR3, start=StartConfig("0" * 64)).key,
    }
    assert len(keys) == 5
    elsewhere = tmp_path / "copy.safetensors"
    elsewhere.write_bytes(trained.read_bytes())
    specs = [a_spec(SR3, model) for model in (trained, elsewhere, trained.parent.parent)]
    assert len({find_start(spec).spec.training.start for spec in specs}) == 1


def test_the_plan_warns_where_the_weights_may_have_seen_test_crystals(trained, trial_of, demo_store):
    data = trial_of(SR3).data
    known = a_spec(SR3, trained.parent.parent)
    known = replace(known, training=replace(known.training, split=trial_of(SR3).training.split))
    assert "may be among" not in find_start(known).describe(data)
    for spec, other in (
        (a_spec(SR3, trained), data),  # a file says nothing of its split
        (known, replace(data, data_hash="0" * 16)),
        (replace(known, axes=(replace(known.axes[0], split_seeds=(0, 1)),)), data),
        (replace(known, axes=(replace(known.axes[0], more=(Axis("training.split.clusters", (10, 11)),)),)), data),
    ):
        assert "may be among" in find_start(spec).describe(other)


def a_spec(model, source, **start):
    axes = Axes((model.family,), (model.depth,), (model.norm,), (model.alpha,), (model.layer_norm,))
    return SweepSpec("fine", axes=(axes,), start=StartSpec(str(source), **start))


ODD = {
    "norm sets 3 there, 5 here": replace(SR3, depth=5),
    "learned alphas 3 there, 0 here": replace(SR3, alpha="none"),
    "blocks 1 there, 3 here": ModelConfig("cgcnn", 3),
    "LayerNorms 0 there, 1 here": replace(SR3, layer_norm=True),
}


@pytest.mark.parametrize("fault", ODD)
def test_a_variant_that_does_not_fit_is_refused_in_the_plan(fault, trained):
    with pytest.raises(RecordError, match=fault):
        find_start(a_spec(ODD[fault], trained))


@pytest.mark.parametrize(
    ("changes", "differs"), [({"norm": "affine"}, "sets of statistics"), ({"correction": "film"}, "corrected steps")]
)
def test_what_a_step_has_of_its_own_must_fit(changes, differs):
    three, five = (body_layout(replace(SR3, depth=depth, **changes)) for depth in (3, 5))
    assert (three[differs], five[differs]) == (3, 5)


def test_a_readout_with_weights_must_fit_and_others_have_none():
    found = [body_layout(replace(SR3, readout=name))["pooling"] for name in ("mean", "sum", "attention", "set2set")]
    assert found[0] == found[1] == "without weights"
    assert len(set(found)) == 3


def test_a_kept_head_must_fit_too_and_frozen_parts_must_exist(trained):
    spec = a_spec(SR3, trained)
    wider = replace(spec, network=replace(spec.network, head_channels=32))
    assert find_start(wider).weights == trained
    with pytest.raises(RecordError, match="head_channels 128 there, 32 here"):
        find_start(replace(wider, start=StartSpec(str(trained), head="keep")))
    with pytest.raises(RecordError, match=r"convs.*parts are embedding, entry, entry_norms, blocks"):
        find_start(replace(spec, start=StartSpec(str(trained), frozen=("convs.0",))))
    with pytest.raises(RecordError, match="no such model file"):
        find_start(a_spec(SR3, "missing.safetensors"))


def test_what_the_trainer_cannot_use_is_said(trained, starting, trial_of, demo_store, tmp_path):
    with pytest.raises(ValueError, match=r"norms\.7.*known: alpha_logits, embedding\.weight"):
        GroupTrainer([starting(frozen=("norms.7",))], demo_store, start_weights=trained)
    everything = ("embedding", "linears", "norms", "alpha_logits", "head")
    with pytest.raises(ValueError, match="nothing to train"):
        GroupTrainer([starting(frozen=everything)], demo_store, start_weights=trained)
    with pytest.raises(ValueError, match="the plan has"):
        GroupTrainer([starting()], demo_store, start_weights=tmp_path / "gone.safetensors")
    deeper = trial_of(replace(SR3, depth=4), start=starting().training.start)
    with pytest.raises(ValueError, match=r"cannot start from it: alpha_logits, norms\.3"):
        GroupTrainer([deeper], demo_store, start_weights=trained)


def test_shared_norms_carry_over_to_another_depth(demo_store, trial_of, tmp_path):
    """One convolution and one pair of norms: the same tensors for every T, so depth can be changed after training."""
    paths, model = RunPaths(tmp_path), ModelConfig("srcgcnn", 2, "shared")
    trial = trial_of(model, epochs=1)
    run_group(TrialGroup((trial,)), demo_store.folder, paths, checkpoint_interval_s=60)
    deeper = replace(model, depth=4)
    found = find_start(a_spec(deeper, tmp_path, head="keep"))
    found.keep(paths)
    start = found.spec.training.start
    fine = trial_of(deeper, start=start, epochs=1)
    (outcome,) = run_group(TrialGroup((fine,)), demo_store.folder, paths, checkpoint_interval_s=60)
    assert np.isfinite(outcome.result.metrics.test_mae)
    assert paths.start(start.weights_hash).read_bytes() == paths.model(trial.key).read_bytes()


def test_the_plan_of_a_fine_tuning_names_its_start_and_loads_no_torch(trained, tmp_path):
    code = (
        "import sys\nfrom srcgcnn.cli.main import main\n"
        f"flags = ['--init-from', {str(trained.parent.parent)!r}, '--init-head', 'keep', '--freeze', 'embedding',\n"
        " '--models', 'srcgcnn', '--depths', '3', '--alphas', 'learned', '--dry-run']\n"
        f"assert main(['sweep', *flags, '--out', {str(tmp_path / 'out')!r}, '--stores', {str(tmp_path)!r}]) == 0\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pymatgen'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "starts from SR-CGCNN T=3 step-norm alpha=learned on electrostatic_energy, trial" in done.stdout
    assert f"{sha256_of(trained)[:8]} with its head, frozen: embedding" in done.stdout
