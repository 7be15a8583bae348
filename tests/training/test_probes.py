"""Depth probes: against the plain definition, crystal by crystal; alone and in a group; from file to figure."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from srcgcnn.analysis.probes import told_apart
from srcgcnn.analysis.report import write_report
from srcgcnn.driver.worker import run_group
from srcgcnn.models.batch import GraphBatch
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.recurrence import Recurrence
from srcgcnn.models.registry import BLOCKS
from srcgcnn.models.state import State
from srcgcnn.records import as_dict, parse
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result
from srcgcnn.run.trial_result import TrialResult
from srcgcnn.sweep.plan import TrialGroup
from srcgcnn.training.gradient_probes import probe_gradients
from srcgcnn.training.outcome import conclude
from srcgcnn.training.probes import probe_depth
from srcgcnn.training.trainer import GroupTrainer, InterruptedGroupError

MODELS = {
    "shared norm": ModelConfig("srcgcnn", 3, "shared"),
    "damped, LayerNorm": ModelConfig("srcgcnn", 2, alpha="learned", layer_norm=True),
    "stacked": ModelConfig("cgcnn", 2),
    "deep": ModelConfig("srcgcnn", 10),
}


def trained(configs, store):
    trainer = GroupTrainer(configs, store)
    trainer.train()
    outcomes = conclude(trainer)
    return trainer, [outcome.result for outcome in outcomes]


@pytest.mark.parametrize("name", MODELS)
def test_probes_are_what_their_definition_says_of_every_crystal(name, demo_store, trial_of):
    trainer, (result,) = trained([trial_of(MODELS[name])], demo_store)
    network, (mean, std) = trainer.network.eval(), trainer.targets.scales[0].tolist()
    changes, spreads, sizes, energies, errors = [], [], [], [], []
    for row in trainer.rows_of("val")[0]:
        batch = trainer.crystals.batch(row[None, None])
        with torch.no_grad():
            first = network.initial_state(batch)
            states = (
                torch.stack([state.atoms for state in (first, *network.steps(first, batch))])[:, 0].double().numpy()
            )  # [T + 1, N, F]
            outputs = [float(network.readout(State(torch.tensor(each[None]).float()), batch)) for each in states]
        moved, before = np.diff(states, axis=0), states[:-1]
        changes.append((np.linalg.norm(moved, axis=2) / np.linalg.norm(before, axis=2)).mean(axis=1))
        sizes.append((states**2).mean(axis=(1, 2)))
        near = batch.neighbours[0].numpy()
        energies.append(((states[:, :, None] - states[:, near]) ** 2).mean(axis=(1, 2, 3)) / 2)
        centred = states - states.mean(axis=1, keepdims=True)
        if states.shape[1] > 1:
            spreads.append((centred**2).sum(axis=(1, 2)) / (states**2).sum(axis=(1, 2)))
        errors.append(np.abs(np.array(outputs) * std + mean - float(trainer.targets.of(row[None, None]))))
    np.testing.assert_allclose(result.probes.change, np.mean(changes, axis=0), rtol=1e-4)
    np.testing.assert_allclose(result.probes.spread, np.mean(spreads, axis=0), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(result.probes.size, np.sqrt(np.mean(sizes, axis=0)), rtol=1e-4)
    np.testing.assert_allclose(result.probes.energy, np.mean(energies, axis=0), rtol=1e-4)
    np.testing.assert_allclose(result.probes.exit_error, np.mean(errors, axis=0), rtol=1e-4)
    assert result.probes.exit_error[-1] == pytest.approx(result.metrics.val_mae, rel=1e-6)


def test_a_grouped_trial_has_the_probes_of_the_trial_alone(demo_store, trial_of):
    configs = [trial_of(MODELS["shared norm"], seed) for seed in range(2)]
    _, together = trained(configs, demo_store)
    for config, grouped in zip(configs, together, strict=True):
        _, (alone,) = trained([config], demo_store)
        for name in ("change", "spread", "exit_error", "size", "energy", "gradients"):
            np.testing.assert_allclose(getattr(grouped.probes, name), getattr(alone.probes, name), rtol=1e-3)


def test_probes_that_are_not_finite_do_not_cost_the_result(demo_store, trial_of, tmp_path):
    configs = [trial_of(MODELS["shared norm"], seed, epochs=1) for seed in range(2)]
    trainer = GroupTrainer(configs, demo_store)
    trainer.train()
    for name in ("embedding.weight", "embedding.bias"):  # states of norm 0 before step 1: an infinite change
        trainer.best_weights[name][0] = 0
    broken, sound = (outcome.result for outcome in conclude(trainer))
    assert broken.probes is None
    assert sound.probes is not None
    write_result(RunPaths(tmp_path), broken)
    assert list(open_run(RunPaths(tmp_path)).results) == [broken]


def test_the_probe_pass_is_no_cost_of_the_trial(demo_store, trial_of, monkeypatch):
    trainer = GroupTrainer([trial_of(MODELS["shared norm"], epochs=1)], demo_store)
    trainer.train()
    asked_at = []

    def noted(trainer):
        asked_at.append(trainer.seconds)
        return probe_depth(trainer)

    monkeypatch.setattr("srcgcnn.training.outcome.probe_depth", noted)
    (outcome,) = conclude(trainer)
    assert outcome.result.probes is not None
    assert outcome.result.cost.seconds <= asked_at[0] + 0.0005  # which is rounded to milliseconds


def test_results_of_older_versions_have_no_probes_and_are_read(demo_store, trial_of):
    _, (result,) = trained([trial_of(MODELS["deep"], epochs=1)], demo_store)
    written = as_dict(result)
    assert parse(TrialResult, written, "a result").probes == result.probes
    for name in ("size", "energy", "gradients"):
        del written["probes"][name]
    fewer = replace(result.probes, size=(), energy=(), gradients=())
    assert parse(TrialResult, written, "an older result").probes == fewer
    del written["probes"]
    assert parse(TrialResult, written, "an older result") == replace(result, probes=None)


@pytest.mark.parametrize("family", BLOCKS)
@pytest.mark.parametrize("more", [{}, {"blocks": 1, "norm": "shared", "alpha": "learned"}], ids=str)
def test_gradients_by_the_states_are_those_of_a_zero_that_is_added_to_them(family, more, demo_store, trial_of):
    model = ModelConfig(family, 3, hidden_channels=8, edge_channels=8, head_channels=8, **more)
    trainer = GroupTrainer([trial_of(model, seed) for seed in range(2)], demo_store)
    network, batch = trainer.network.train().double(), trainer.crystals.batch(trainer.rows_of("train")[:, :12])
    batch = GraphBatch.of(
        [one.double() if one is not None and one.is_floating_point() else one for one in batch.tensors]
    )

    def losses(outputs):
        return outputs.square().mean(dim=1)

    network(batch)  # running averages that are not those of the start
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = probe_gradients(network, batch, losses)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(value.grad is None for value in network.parameters())
    torch.testing.assert_close(found, gradients_by_zeros(network, batch, losses))


def gradients_by_zeros(network, batch, losses):
    zeros = defaultdict(list)
    step_once, embed = Recurrence._step, network.initial_state

    def added(step, state):
        zeros[step].append(torch.zeros_like(state.atoms, requires_grad=True))
        atoms = state.atoms + zeros[step][-1]
        return replace(state, atoms=atoms, memory=atoms if state.memory is state.atoms else state.memory)

    def step_and_add(self, state, *, step, **more):
        return added(step + 1, step_once(self, state, step=step, **more))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recurrence, "_step", step_and_add)
        patch.setattr(network, "initial_state", lambda batch: added(0, embed(batch)))
        losses(network(batch)).sum().backward()
    rows = [torch.cat([zero.grad.reshape(-1, *zero.shape[-2:]) for zero in zeros[step]]) for step in sorted(zeros)]
    return torch.stack([of_step.flatten(1).norm(dim=1) for of_step in rows])


def test_gradients_are_kept_of_the_first_epochs_and_over_a_resume(demo_store, trial_of, tmp_path):
    config = trial_of(MODELS["stacked"], epochs=5)
    _, (calm,) = trained([config], demo_store)
    assert [len(row) for row in calm.probes.gradients] == [3, 3, 3]
    assert all(value > 0 for row in calm.probes.gradients for value in row)
    stops = iter([False] * 4 + [True])
    checkpoint = tmp_path / "group.pt"
    with pytest.raises(InterruptedGroupError):
        GroupTrainer([config], demo_store, checkpoint=checkpoint).train(should_stop=lambda: next(stops))
    resumed = GroupTrainer([config], demo_store, checkpoint=checkpoint)
    resumed.train()
    (outcome,) = conclude(resumed)
    assert outcome.result.probes.gradients == calm.probes.gradients


def test_exploding_and_oversmoothed_networks_are_told_apart():
    steps = range(5)
    rows = [("doubles", step, 2.0**step, 0.4, True) for step in steps]
    rows += [("alike", step, 1.0, 0.5 * 0.3**step, True) for step in steps]
    rows += [("sound", step, 1.0 + 0.2 * step, 0.4, True) for step in steps]
    rows += [("sound", 5, np.nan, np.nan, False)]
    rows += [("shallow", step, 9.0**step, 0.0, True) for step in range(2)]
    data = pd.DataFrame(rows, columns=["variant", "step", "size", "spread", "trained"])
    assert told_apart(data) == [
        "Exploding (factor a step): doubles (2.0).",
        "Oversmoothed (spread after the last step): alike (0.00).",
    ]
    assert told_apart(data[data["variant"] == "sound"]) == []


@pytest.mark.full
def test_the_report_draws_them_and_leaves_them_out_where_nobody_recorded_them(demo_store, trial_of, tmp_path):
    paths = RunPaths(tmp_path)
    for seed in range(2):
        trial = trial_of(MODELS["shared norm"], seed, epochs=1)
        run_group(TrialGroup((trial,)), demo_store.folder, paths, checkpoint_interval_s=60)
    assert 'id="probes"' in write_report(paths).read_text()
    table = pd.read_csv(paths.report / "data" / "probes.csv")
    assert table.groupby("key")["step"].apply(list).tolist() == [[0, 1, 2, 3, 4, 5, 6]] * 2
    assert table["trained"].tolist() == ([True] * 4 + [False] * 3) * 2
    assert table["change"].isna().tolist() == ([True] + [False] * 3 + [True] * 3) * 2
    for result in open_run(paths).results:
        write_result(paths, replace(result, probes=None))
    assert 'id="probes"' not in write_report(paths).read_text()
