"""Networks of the literature as rows of settings: names, and what makes the deeper variants explode."""

import pytest
import torch

from srcgcnn.cli.main import main
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.models.published import NAMES, PUBLISHED, settings_of
from srcgcnn.run.trial import DataRef
from srcgcnn.sweep.axes import Axes
from srcgcnn.sweep.space import Space
from srcgcnn.sweep.spec import SweepSpec
from srcgcnn.training.graphset import GraphSet

DATA = DataRef("d" * 16, "demo", "energy", "eV/atom")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_row_is_called_by_its_title_stacked_and_tied(name):
    title = PUBLISHED[name].title
    assert ModelConfig(**settings_of(name), depth=5).label == f"{title}-5"
    assert ModelConfig(**settings_of(name), depth=5, blocks=1).label == f"SR-{title} T=5 step-norm"


def test_models_of_a_sweep_are_the_rows_and_other_settings_stay_free():
    axes = Axes(models=("deepergatgnn", "schnet"), depths=(4,), blocks=(1,), seeds=(0,))
    space = Space(SweepSpec("names", axes=(axes,)), DATA)
    labels = {space.variant(point).model.label for point in space.points()}
    assert labels == {"SR-DeeperGATGNN T=4 step-norm", "SR-SchNet T=4 step-norm"}


def test_an_unknown_model_of_a_sweep_is_refused_with_the_known_ones(capsys):
    assert main(["sweep", "--models", "deeperfoo", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "model 'deeperfoo' is unknown" in said
    assert all(name in said for name in NAMES)


@pytest.mark.parametrize("name", ["deepercgcnn", "deeperschnet"])
def test_two_residuals_double_the_state_and_one_does_not(name, demo_store):
    """The explosion that MatDeepLearn's deeper variants have at initialisation: a factor of two a layer."""
    crystals = GraphSet.of_store(demo_store, torch.device("cpu"))
    batch = crystals.batch(torch.arange(8)[None])

    def growth(skip):
        config = ModelConfig(**{**settings_of(name), "skip": skip}, depth=10)
        network = CrystalGraphNetwork(config, crystals.element_features)
        network.reset_parameters([0])
        sizes = [state.atoms.square().mean().sqrt() for state in network.steps(network.initial_state(batch), batch)]
        return float((sizes[-1] / sizes[4]) ** (1 / 5))

    assert 1.9 < growth("double") < 2.3
    assert growth("residual") < 1.5
