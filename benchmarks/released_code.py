"""Compare our networks with the released code of DeeperGATGNN, which holds MatDeepLearn's networks, too.

Both sides get the same weights, crystals and edges (a checkout of github usccolumbia/deeperGATGNN; nothing of it is
changed, and PyTorch Geometric stands in for torch_scatter). What lies around the steps is theirs on both sides: the
embedding of atoms before, the dense layers behind the pooling. Printed are the largest differences of the outputs in
single precision, and of outputs and gradients of all weights in double precision, relative to the largest value.

    python benchmarks/released_code.py deeperGATGNN --layers 2 5

Both bonds of a pair count, other than in their graphs, which have one. Their first layer of MEGNet takes features of
edges where later ones take states, so the comparison begins behind it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import types
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.utils import scatter

from srcgcnn.data.alloys import alloys_source
from srcgcnn.data.elements import ELEMENT_FEATURES, element_table
from srcgcnn.data.graph import GAUSSIAN_COUNT, build_graph
from srcgcnn.data.shard import geometry_arrays
from srcgcnn.models.batch import GraphBatch
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.counts import ELEMENTS
from srcgcnn.models.gaussians import Gaussians
from srcgcnn.models.network import CrystalGraphNetwork, stacked
from srcgcnn.models.published import settings_of
from srcgcnn.models.readout import composition, of_atoms, pooled
from srcgcnn.models.state import State
from srcgcnn.training.graphset import GraphSet
from srcgcnn.training.predictor import _as_shard

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH, CRYSTALS, CRYSTAL_FEATURES, THEIR_ELEMENTS = 32, 6, 3, 108
# our name: their class
CLASSES = {
    "cgconv": "CGCNN",
    "schnet": "SchNet",
    "mpnn": "MPNN",
    "megnet": "MEGNet",
    "gatgnn": "GATGNN",
    "deepercgcnn": "SUPER_CGCNN",
    "deeperschnet": "SUPER_SchNet",
    "deepermpnn": "SUPER_MPNN",
    "deepermegnet": "SUPER_MEGNet",
    "deepergatgnn": "DEEP_GATGNN",
}
FROM_THEIR_END = ("megnet", "gatgnn")  # there messages flow to row 0


def released(checkout: Path) -> Any:
    """Import their networks, and nothing else of theirs."""
    stand_in = types.ModuleType("torch_scatter")
    stand_in.scatter = scatter
    for reduce in ("mean", "add", "max"):
        setattr(stand_in, f"scatter_{reduce}", partial(scatter, reduce=reduce))
    sys.modules["torch_scatter"] = stand_in
    folder = checkout / "matdeeplearn" / "models"
    spec = importlib.util.spec_from_file_location(
        "released", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["released"] = module
    spec.loader.exec_module(module)
    return module


class Described:
    """What their constructors ask of a data set."""

    num_features, num_edge_features = ELEMENT_FEATURES, GAUSSIAN_COUNT

    def __getitem__(self, row: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(y=torch.tensor(0.0), u=torch.zeros(1, CRYSTAL_FEATURES))


def linear(found: dict[str, Tensor], ours: str, theirs: str, state: dict[str, Tensor]) -> None:
    """Copy weights and biases, and the running averages of a BatchNorm."""
    for kind in ("weight", "bias", "running_mean", "running_var"):
        if f"{theirs}.{kind}" in state:
            found[f"{ours}.{kind}"] = state[f"{theirs}.{kind}"]


def norm(found: dict[str, Tensor], ours: str, theirs: str, state: dict[str, Tensor]) -> None:
    """Copy a BatchNorm, or a group normalisation."""
    if f"{theirs}.lin.weight" in state:
        found[f"{ours}.assignment"] = state[f"{theirs}.lin.weight"].T
        ours, theirs = f"{ours}.norm", f"{theirs}.norm"
    linear(found, ours, theirs, state)


def cgconv(state: dict[str, Tensor], layer: int, step: int) -> dict[str, Tensor]:
    conv, found = f"conv_list.{layer}", {}
    for kind in ("weight", "bias"):
        found[f"blocks.{step}.gates.{kind}"] = torch.cat([state[f"{conv}.lin_{part}.{kind}"] for part in "fs"])
    norm(found, f"norms.{step}.atoms", f"bn_list.{layer}", state)
    return found


def schnet(state: dict[str, Tensor], layer: int, step: int) -> dict[str, Tensor]:
    names = {"filter_inner": "mlp.0", "filter_outer": "mlp.2", "inwards": "conv.lin1", "outwards": "conv.lin2"}
    found: dict[str, Tensor] = {}
    for ours, theirs in (names | {"last": "lin"}).items():
        linear(found, f"blocks.{step}.{ours}", f"conv_list.{layer}.{theirs}", state)
    norm(found, f"norms.{step}.atoms", f"bn_list.{layer}", state)
    return found


def mpnn(state: dict[str, Tensor], layer: int, step: int) -> dict[str, Tensor]:
    block, conv, found = f"blocks.{step}", f"conv_list.{layer}", {}
    for ours, theirs in {"edge_inner": "nn.0", "edge_outer": "nn.2", "root": "lin"}.items():
        linear(found, f"{block}.{ours}", f"{conv}.{theirs}", state)
    found[f"{block}.root.bias"] = state[f"{conv}.bias"]
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        found[f"{block}.update.{name}"] = state[f"gru_list.{layer}.{name}_l0"]
    norm(found, f"norms.{step}.atoms", f"bn_list.{layer}", state)
    return found


def megnet(state: dict[str, Tensor], layer: int, step: int) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    parts = {
        "edges": ("e_embed_list", "edge_model.edge_mlp"),
        "atoms": ("x_embed_list", "node_model.node_mlp"),
        "crystals": ("u_embed_list", "global_model.global_mlp"),
    }
    for part, (embedding, update) in parts.items():
        conv = f"conv_list.{layer}.{update}"
        for number, name in enumerate(("inner", "outer")):
            linear(found, f"blocks.{step}.embed_{part}.{name}", f"{embedding}.{layer}.{2 * number}", state)
            linear(found, f"blocks.{step}.update_{part}.{name}", f"{conv}.{number}", state)
            ours = f"norms.{step}.{part}" + ("_inner" if name == "inner" else "")
            norm(found, ours, f"{conv.rpartition('.')[0]}.bn_list.{number}", state)
    edges = f"blocks.{step}.update_edges.inner.weight"
    centre, neighbour, rest = found[edges].split([WIDTH, WIDTH, 2 * WIDTH], dim=1)
    found[edges] = torch.cat([neighbour, centre, rest], dim=1)
    return found


def gatgnn(state: dict[str, Tensor], layer: int, step: int) -> dict[str, Tensor]:
    block, conv, found = f"blocks.{step}", f"conv_list.{layer}", {}
    found[f"{block}.weight"], found[f"{block}.bias"] = state[f"{conv}.W"], state[f"{conv}.bias"]
    found[f"{block}.attention"] = state[f"{conv}.att"][0]
    norm(found, f"norms.{step}.scores", f"{conv}.bn1", state)
    norm(found, f"norms.{step}.atoms", f"bn_list.{layer}", state)
    return found


LAYERS: dict[str, Callable[[dict[str, Tensor], int, int], dict[str, Tensor]]] = {
    "cgconv": cgconv,
    "schnet": schnet,
    "mpnn": mpnn,
    "megnet": megnet,
    "gatgnn": gatgnn,
}


def attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the weights of their global attention as those of our readout, which knows fewer elements."""
    found = {}
    for number, name in enumerate(("inner", "outer", "score")):
        weight = state[f"global_att_LAYER.global_mlp.{number}.weight"]
        found[f"pool.{name}.weight"] = weight[:, : WIDTH + ELEMENTS].T
        found[f"pool.{name}.bias"] = state[f"global_att_LAYER.global_mlp.{number}.bias"]
    return found


class Side:
    """One network of theirs and ours with its weights, in one precision."""

    def __init__(self, code: Any, name: str, layers: int, batch: GraphBatch, features: Tensor) -> None:
        settings = settings_of(name)
        self.family, self.dtype = settings["family"], batch.distances.dtype
        self.readout = "attention" if self.family == "gatgnn" else "mean"
        self.skipped = 1 if self.family == "megnet" else 0
        post = 0 if self.family == "gatgnn" else 2
        dense = {"dim1": WIDTH, "dim2": WIDTH, "dim3": WIDTH, "gc_count": layers, "gc_fc_count": 1}
        torch.manual_seed(0)
        self.theirs = getattr(code, CLASSES[name])(Described(), **dense, post_fc_count=post)
        _draw_norms(self.theirs)
        self.config = ModelConfig(
            **{**settings, "readout": self.readout}, depth=layers - self.skipped, hidden_channels=WIDTH
        )
        self.ours = CrystalGraphNetwork(self.config, features)
        self.ours.reset_parameters([0])
        self.theirs, self.ours = self.theirs.to(self.dtype), self.ours.to(self.dtype)
        _, unexpected = self.ours.load_state_dict(self.named(self.theirs.state_dict()), strict=False)
        if unexpected:
            raise ValueError(f"{name}: we have no {', '.join(unexpected)}")
        self.batch, self.data = batch, self._data(batch)

    def named(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Name the tensors of all their steps, and of their attention, as ours."""
        found = attention(state) if self.readout == "attention" else {}
        for step in range(self.config.depth):
            found |= LAYERS[self.family](state, step + self.skipped, step)
        return {name: value[None] for name, value in found.items()}

    def _data(self, batch: GraphBatch) -> types.SimpleNamespace:
        flat = batch.flat(0)
        shares = of_atoms(composition(batch, self.dtype), batch)[0]
        return types.SimpleNamespace(
            x=self.ours.element_features[flat.atomic_numbers].to(self.dtype),
            edge_index=flat.edge_index.flip(0) if self.family in FROM_THEIR_END else flat.edge_index,
            edge_attr=Gaussians().to(self.dtype)(flat.distances),
            edge_weight=flat.distances,
            batch=flat.crystal,
            u=torch.zeros(len(flat.atom_counts), CRYSTAL_FEATURES, dtype=self.dtype),
            glob_feat=F.pad(shares, (0, THEIR_ELEMENTS - ELEMENTS)),
        )

    def first(self) -> State:
        """Return the states that their steps begin with."""
        data, net = self.data, self.theirs
        if self.family == "gatgnn":
            atoms, edges = net.pre_lin_list_N[0](data.x), net.pre_lin_list_E[0](data.edge_attr)
            return State(F.leaky_relu(atoms, 0.2), F.leaky_relu(edges, 0.2))
        atoms = torch.relu(net.pre_lin_list[0](data.x))
        if self.family != "megnet":
            return State(atoms)
        before = [net.x_embed_list[0](atoms), net.e_embed_list[0](data.edge_attr), net.u_embed_list[0](data.u)]
        after = net.conv_list[0](before[0], data.edge_index, *before[1:], data.batch)
        return State(*[new + old for new, old in zip(after, before, strict=True)])

    def outputs(self, side: str) -> Tensor:
        """Return the outputs [B] of `theirs` or `ours`."""
        if side == "theirs":
            return self.theirs(self.data)
        graphs = [self.batch.flat(0)]
        *_, last = self.ours.steps(stacked([self.first()], self.batch, graphs), self.batch)
        rows = pooled(self.readout, self.ours.pool, last, self.config.block.reads, self.batch)[0]
        for layer in self.theirs.post_lin_list:
            rows = torch.relu(layer(rows))
        return self.theirs.lin_out(rows)[:, 0]


def _draw_norms(network: torch.nn.Module) -> None:
    """Draw weights and averages of norms, which start as the identity."""
    generator = torch.Generator().manual_seed(1)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                value.data.copy_(torch.rand(value.shape, generator=generator) + 0.5)


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())


def compared(side: Side, *, training: bool) -> tuple[float, float]:
    """Return the relative difference of outputs, and of the gradients of all weights of the steps."""
    side.theirs.train(training), side.ours.train(training)
    gradients, outputs = [], []
    for name, network in (("theirs", side.theirs), ("ours", side.ours)):
        side.theirs.zero_grad(), side.ours.zero_grad()
        outputs.append(side.outputs(name))
        outputs[-1].square().sum().backward()
        found = {
            name: torch.zeros_like(value) if value.grad is None else value.grad.clone()
            for name, value in network.named_parameters()
        }
        gradients.append(side.named(found) if name == "theirs" else found)
    theirs, ours = gradients
    largest = max(float(value.abs().max()) for value in theirs.values())
    worst = max(float((ours[name] - value).abs().max()) for name, value in theirs.items())
    return difference(outputs[1], outputs[0]), worst / largest


def crystals_of(count: int) -> tuple[GraphBatch, Tensor]:
    graphs = [build_graph(row.content) for _, row in zip(range(count), alloys_source(count).rows(), strict=False)]
    features = torch.tensor(element_table())
    geometry = [geometry_arrays(graphs, fixed_degree=True)]
    found = GraphSet([_as_shard(graphs)], features, torch.device("cpu"), geometry=geometry)
    return found.batch(torch.arange(count)[None]), features


def doubled(batch: GraphBatch) -> GraphBatch:
    return GraphBatch.of(
        [one.double() if one is not None and one.is_floating_point() else one for one in batch.tensors]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("code", type=Path, help="checkout of github usccolumbia/deeperGATGNN")
    parser.add_argument("--models", nargs="+", choices=CLASSES, default=list(CLASSES))
    parser.add_argument("--layers", nargs="+", type=int, default=[2, 5], help="(2 5)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    code = released(options.code)
    batch, features = crystals_of(CRYSTALS)
    print(
        "| network | layers | mode | outputs, single | outputs, double | gradients, double |\n|---|---|---|---|---|---|"
    )
    for name in options.models:
        for layers in options.layers:
            sides = [Side(code, name, layers, one, features) for one in (batch, doubled(batch))]
            for training in (True, False):
                (single, _), (double, gradients) = (compared(side, training=training) for side in sides)
                mode = "train" if training else "eval"
                print(f"| {name} | {layers} | {mode} | {single:.0e} | {double:.0e} | {gradients:.0e} |", flush=True)


if __name__ == "__main__":
    main()
