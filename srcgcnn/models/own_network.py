"""M networks of one's own: a module that knows one batch of crystals and no steps, run model by model."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srcgcnn.data.pyg import as_batch
from srcgcnn.models.batch import GraphBatch
from srcgcnn.models.members import draw, members, stack
from srcgcnn.models.network import Network
from srcgcnn.models.own_module import made_aside, make_module

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from srcgcnn.models.config import ModelConfig

TRIED_SEED = 0
TRIED_DEGREE = 4  # neighbours of an atom
SAME = 1e-3  # relative to the outputs: of one crystal alone and among others


class OwnModels(Network):
    """M models of one class. Their weights are drawn by its constructor, one seed per model."""

    def __init__(self, config: ModelConfig, element_features: Tensor, models: int = 1) -> None:
        """Build uninitialised networks.

        Raises:
            ValueError: the class may not be imported, or is not a network.
        """
        super().__init__()
        self.config, self.models, self.backend = config, models, "plain"
        self.register_buffer("element_features", element_features.float(), persistent=False)
        made = made_aside(config)
        self._takes_graph = takes_flat_graph(made)
        self.module = stack(made, models)

    def reset_parameters(self, seeds: Sequence[int]) -> None:
        """Draw initial weights, one seed per model."""
        draw(self.module, lambda: make_module(self.config), [torch.Generator().manual_seed(seed) for seed in seeds])

    def alphas(self) -> Tensor:
        """Return 1 for every step, [M, T]: nothing is damped."""
        return torch.ones(self.models, self.config.depth)

    def forward(self, batch: GraphBatch, dropout_mask: Tensor | None = None) -> Tensor:
        """Return the standardised target [M, B], several [M, B, P], or log-probabilities [M, B, 2].

        Args:
            batch: one batch for each model.
            dropout_mask: int64 [M, 1], a seed for what is random in each of them, so that a trial resumes exactly.
        """
        answers = []
        for member, module in enumerate(members(self.module, self.models)):
            graph = batch.flat(member)
            given = graph if self._takes_graph else as_batch(graph, self.element_features)
            with nullcontext() if dropout_mask is None else _seeded(int(dropout_mask[member]), graph.distances.device):
                outputs = module(given)
            answers.append(self._checked(outputs, len(graph.atom_counts)))
        return torch.stack(answers)

    def _checked(self, outputs: Any, crystals: int) -> Tensor:
        name = self.config.family
        if not isinstance(outputs, Tensor):
            raise ValueError(f"network {name!r} returned {type(outputs).__name__}; expected a tensor")
        if self.config.task == "classification":
            if outputs.shape != (crystals, 2):
                raise ValueError(
                    f"network {name!r} returned {_shape(outputs)} for {crystals} crystals; expected [B, 2]"
                )
            return F.log_softmax(outputs, dim=-1)
        several = self.config.outputs
        if several > 1:
            if outputs.shape != (crystals, several):
                raise ValueError(
                    f"network {name!r} returned {_shape(outputs)} for {crystals} crystals and {several} targets; "
                    "expected [B, outputs]: let its constructor take `outputs`"
                )
            return outputs
        if outputs.shape not in ((crystals,), (crystals, 1)):
            raise ValueError(f"network {name!r} returned {_shape(outputs)} for {crystals} crystals; expected [B]")
        return outputs.reshape(crystals)


def _shape(outputs: Tensor) -> str:
    return str(list(outputs.shape))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def takes_flat_graph(module: nn.Module) -> bool:
    """Whether `forward` asks for a `FlatGraph`, by the annotation of its first argument; else it gets PyG's `Batch`."""
    annotations = [note for name, note in type(module).forward.__annotations__.items() if name != "return"]
    return bool(annotations) and "FlatGraph" in str(annotations[0])


def try_out(config: ModelConfig) -> None:
    """Run a network once, forwards and backwards, on made-up crystals: its faults are found before Ray starts.

    Raises:
        ValueError: it fails, returns another shape, or mixes the crystals of a batch.
    """
    features = torch.rand(101, 92, generator=torch.Generator().manual_seed(TRIED_SEED)).round()
    network = OwnModels(config, features)
    network.reset_parameters([TRIED_SEED])
    together, alone = _crystals([3, 4, 2]), _crystals([3])
    try:
        network(together, torch.zeros(1, 1, dtype=torch.int64)).sum().backward()
        network.eval()
        with torch.no_grad():
            among, single = network(together)[0, 0], network(alone)[0, 0]
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("network "):  # reported here already
            raise
        raise ValueError(f"network {config.family!r} fails: {type(error).__name__}: {error}") from error
    if not torch.allclose(among, single, rtol=SAME, atol=SAME):
        raise ValueError(
            f"network {config.family!r}: its output for a crystal depends on the others in its batch "
            f"({among.flatten()[0]:.4g} among three, {single.flatten()[0]:.4g} alone): pool by `batch`"
        )


def _crystals(atoms: Sequence[int]) -> GraphBatch:
    """Make a batch of crystals of so many atoms; those at its beginning are the same in every batch."""
    generator = torch.Generator().manual_seed(TRIED_SEED)
    numbers, neighbours, distances, vectors, crystal = [], [], [], [], []
    for index, count in enumerate(atoms):
        first = sum(atoms[:index])
        numbers.append(torch.randint(1, 90, (count,), generator=generator))
        neighbours.append(first + torch.randint(count, (count, TRIED_DEGREE), generator=generator))
        vectors.append(torch.randn(count, TRIED_DEGREE, 3, generator=generator) + 1.0)
        distances.append(vectors[-1].norm(dim=-1))
        crystal.append(torch.full((count,), index))
    return GraphBatch(
        torch.cat(numbers)[None],
        torch.cat(neighbours)[None],
        torch.cat(distances)[None],
        None,
        torch.cat(crystal)[None],
        None,
        torch.tensor([atoms], dtype=torch.float32),
        torch.cat(vectors)[None],
    )
