"""A trained model that makes predictions for crystals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from srcgcnn.data.graph import build_graph
from srcgcnn.data.shard import edge_arrays, geometry_arrays
from srcgcnn.training.graphset import GraphSet
from srcgcnn.training.model_file import ModelCard, load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymatgen.core import Structure

    from srcgcnn.data.graph import CrystalGraph
    from srcgcnn.models.batch import GraphBatch
    from srcgcnn.models.config import Task
    from srcgcnn.models.network import Network

CRYSTALS_PER_BATCH = 256


class Scale(Protocol):
    """Mean and deviation by which a target is standardised."""

    @property
    def mean(self) -> float:
        """In the target's unit."""

    @property
    def std(self) -> float:
        """In the target's unit."""


@dataclass(frozen=True)
class Predictor:
    """One network with its card."""

    card: ModelCard
    network: Network

    @classmethod
    def load(cls, path: Path | str) -> Predictor:
        """Read `OUT/models/<key>.safetensors`."""
        card, network = load_model(Path(path))
        return cls(card, network)

    @property
    def classify(self) -> bool:
        """Whether it predicts the probability of class 1."""
        return self.card.model.task == "classification"

    @property
    def unit(self) -> str:
        """Unit of the predictions."""
        return "probability of class 1" if self.classify else self.card.unit

    def warning(self, graph: CrystalGraph) -> str:
        """Say in what a crystal lies outside of the training domain; "" if in nothing, or if the domain is unknown."""
        domain = self.card.domain
        return (
            ""
            if domain is None
            else domain.departures(graph, self.card.graph.cutoff_angstrom, fixed_degree=self.card.graph.fixed_degree)
        )

    @property
    def needs_vectors(self) -> bool:
        """Whether graphs must have the images of their neighbours."""
        return "vectors" in self.card.model.block.needs

    def predict_structures(self, structures: Sequence[Structure]) -> np.ndarray:
        """Predict for pymatgen structures: float64 [crystals], in `card.unit`, or the probability of class 1.

        With several targets [crystals, targets], each in its unit (`card.each`).

        Raises:
            RowError: a structure that has no CGCNN graph (see `build_graph`).
        """
        return self.predict_graphs([build_graph(structure, self.card.graph) for structure in structures])

    def predict_graphs(self, graphs: Sequence[CrystalGraph]) -> np.ndarray:
        """Predict for graphs."""
        rows = torch.arange(len(graphs))[None]
        return predict_rows(self.network, self.graph_set(graphs), rows, scales_of([self.card.each]))[0].numpy()

    def graph_set(self, graphs: Sequence[CrystalGraph]) -> GraphSet:
        """Return graphs in the form that the network takes batches from."""
        fixed = self.card.graph.fixed_degree
        padding = self.card.graph.cutoff_angstrom + 1.0 if self.card.exact_padding else None
        return GraphSet(
            [_as_shard(graphs, fixed_degree=fixed)],
            self.network.element_features.numpy(),
            torch.device("cpu"),
            padding_distance=padding,
            geometry=[geometry_arrays(graphs, fixed_degree=fixed)] if self.needs_vectors else None,
        )


def _as_shard(graphs: Sequence[CrystalGraph], *, fixed_degree: bool = True) -> dict[str, np.ndarray]:
    lengths = [len(graph.atomic_numbers) for graph in graphs]
    return {
        **edge_arrays(graphs, fixed_degree=fixed_degree),
        "atomic_numbers": np.concatenate([graph.atomic_numbers for graph in graphs]),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    }


def predict_rows(
    network: Network,
    crystals: GraphSet,
    rows: torch.Tensor,
    scales: torch.Tensor,
    batch_size: int = CRYSTALS_PER_BATCH,
    predict: Callable[[GraphBatch], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Predict in evaluation mode: rows [M, R] give float64 [M, R] in the target's unit, or probabilities of class 1.

    With several targets [M, R, P], each in its unit.

    Args:
        network: M models.
        crystals: where the rows lie.
        rows: row numbers, one list per model.
        scales: from `scales_of`.
        batch_size: crystals at a time.
        predict: how to call the network.
    """
    predict = predict or network
    was_training = network.training
    network.eval()
    with torch.no_grad():
        outputs = torch.cat([predict(crystals.batch(part)) for part in rows.split(batch_size, dim=1)], dim=1).double()
    network.train(was_training)
    return in_units(outputs, scales, network.config.task)


def scales_of(models: Sequence[Sequence[Scale]]) -> torch.Tensor:
    """Return mean and deviation of the target of each model, float64 [M, 2], or of each of several, [M, P, 2]."""
    return torch.tensor([[(one.mean, one.std) for one in each] for each in models], dtype=torch.float64).squeeze(1)


def in_units(outputs: torch.Tensor, scales: torch.Tensor, task: Task) -> torch.Tensor:
    """Turn outputs [M, R] or [M, R, P] into the targets' units, as `predict_rows`; [M, R, 2] into probabilities."""
    if task == "classification":
        return outputs[..., 1].double().exp()
    mean, std = scales.unbind(-1)
    return outputs.double() * std[:, None] + mean[:, None]
