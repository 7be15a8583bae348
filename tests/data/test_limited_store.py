"""A store with fewer neighbours than it holds is the store that would have been built for them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srcgcnn.data.build import build_store
from srcgcnn.data.demo import demo_source
from srcgcnn.data.graph import GraphSettings, build_graph
from srcgcnn.data.limited_store import GraphLimits, limited_store
from srcgcnn.data.store import GraphStore
from srcgcnn.models.config import ModelConfig
from srcgcnn.training.trainer import GroupTrainer

CRYSTALS = 12
STORED = {
    "16 neighbours": GraphSettings(neighbours=16),
    "whole shells": GraphSettings(neighbours=12, whole_shells=True),
    "all within 5 angstrom": GraphSettings(neighbours="all", cutoff_angstrom=5.0),
}


@pytest.fixture(scope="module", params=STORED)
def stored(request, shared) -> GraphStore:
    source, graph = demo_source(CRYSTALS), STORED[request.param]
    return GraphStore(shared(request.param, lambda path: build_store(source, path, settings=graph, processes=1)))


def same_edges(found, expected):
    """Whether two graphs have the same neighbours; slots that are missing in both do not count."""
    width = max(found.distances.shape[1], expected.distances.shape[1])

    def wide(values, fill):
        return np.pad(values, [(0, 0), (0, width - values.shape[1])], constant_values=fill)

    pairs = [(wide(graph.neighbours, 0), wide(graph.distances, np.inf), graph.vectors) for graph in (found, expected)]
    (mine, near, here), (theirs, far, there) = pairs
    narrow = min(here.shape[1], there.shape[1])
    np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_allclose(near, far, rtol=1e-6)
    np.testing.assert_allclose(here[:, :narrow], there[:, :narrow], atol=2e-5)


@settings(max_examples=20, deadline=None)
@given(
    neighbours=st.none() | st.integers(1, 12),
    cutoff=st.none() | st.floats(2.0, 5.0),
    row=st.integers(0, CRYSTALS - 1),
)
def test_every_graph_is_the_one_that_its_crystal_has_with_these_settings(stored, neighbours, cutoff, row):
    limits = GraphLimits(neighbours, cutoff)
    limited = limited_store(stored, limits)
    crystal = [found.content for found in demo_source(CRYSTALS).rows()][row]
    same_edges(limited.graph(row, vectors=True), build_graph(crystal, limits.of(stored.manifest.graph)))
    assert limited.ids == stored.ids
    assert limited.manifest.data_hash == stored.manifest.data_hash


def test_no_limits_are_the_store_itself(stored):
    assert limited_store(stored, GraphLimits()) is stored


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (GraphLimits(neighbours=17), "training.graph.neighbours=17: the graphs of the store have neighbours=16"),
        (GraphLimits(cutoff_angstrom=9), "training.graph.cutoff_angstrom=9: the graphs of the store have"),
    ],
)
def test_more_than_is_stored_is_refused(limits, said):
    with pytest.raises(ValueError, match=said):
        limits.of(GraphSettings(neighbours=16))


@pytest.mark.parametrize("exact", [False, True])
def test_a_cutoff_below_every_bond_is_named(demo_store, trial_of, exact):
    config = trial_of(ModelConfig("cgcnn", 1))
    recipe = replace(config.training, graph=GraphLimits(cutoff_angstrom=0.2), exact_padding=exact)
    with pytest.raises(ValueError, match=r"training.graph.cutoff_angstrom=0.2 leaves no neighbour in any crystal"):
        GroupTrainer([replace(config, training=recipe)], demo_store)


@pytest.mark.parametrize("wrong", [{"neighbours": 0}, {"cutoff_angstrom": 0}, {"cutoff_angstrom": float("nan")}])
def test_limits_that_leave_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=f"graph.{next(iter(wrong))}="):
        GraphLimits(**wrong)
