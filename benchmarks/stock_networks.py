"""Every network as one would write it with stock PyTorch Geometric: the other side of `networks.py`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import CGConv, MetaLayer, NNConv, global_mean_pool
from torch_geometric.nn.models.schnet import InteractionBlock
from torch_geometric.utils import scatter, softmax

from srcgcnn.models.registry import ALIGNN_ANGLES, ALIGNN_DISTANCES, GATGNN_HEADS

WIDTH, CUTOFF_ANGSTROM, GAUSSIANS = 64, 8.0, 41


def mlp(inputs: int, *, norm: bool = False) -> nn.Sequential:
    first, second = [nn.Linear(inputs, WIDTH), nn.ReLU()], [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*first, *[nn.BatchNorm1d(WIDTH)] * norm, *second, *[nn.BatchNorm1d(WIDTH)] * norm)


class Cgcnn(nn.Module):
    """PyTorch Geometric has no layer with the norm on edges: its own operators, as one would write them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * WIDTH + GAUSSIANS, 2 * WIDTH)
        self.of_edges, self.of_atoms = nn.BatchNorm1d(2 * WIDTH), nn.BatchNorm1d(WIDTH)

    def forward(self, state, data):
        x, (source, centre) = state["x"], data.edge_index
        gate, core = self.of_edges(self.linear(torch.cat([x[centre], x[source], data.edge_attr], dim=1))).chunk(
            2, dim=1
        )
        found = scatter(torch.sigmoid(gate) * F.softplus(core), centre, dim_size=len(x))
        return {**state, "x": F.softplus(x + self.of_atoms(found))}


class CgConv(nn.Module):
    """PyG's CGConv, then the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = CGConv(WIDTH, GAUSSIANS, aggr="mean"), nn.BatchNorm1d(WIDTH)

    def forward(self, state, data):
        return {**state, "x": self.norm(self.convolution(state["x"], data.edge_index, data.edge_attr))}


class SchNet(nn.Module):
    """PyG's interaction block, its residual and the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.interaction = InteractionBlock(WIDTH, GAUSSIANS, WIDTH, CUTOFF_ANGSTROM)
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, state, data):
        x = state["x"]
        return {**state, "x": self.norm(x + self.interaction(x, data.edge_index, data.distances, data.edge_attr))}


class Mpnn(nn.Module):
    """PyG's NNConv, the norm and a GRU."""

    def __init__(self) -> None:
        super().__init__()
        edges = nn.Sequential(nn.Linear(GAUSSIANS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH**2))
        self.convolution, self.norm = NNConv(WIDTH, WIDTH, edges, aggr="mean"), nn.BatchNorm1d(WIDTH)
        self.update = nn.GRU(WIDTH, WIDTH)

    def forward(self, state, data):
        x = state["x"]
        message = F.relu(self.norm(self.convolution(x, data.edge_index, data.edge_attr)))
        out, memory = self.update(message[None], state.get("memory", x[None]))
        return {**state, "x": out[0], "memory": memory}


class MegnetEdges(nn.Module):
    """Update of edges."""

    def __init__(self) -> None:
        super().__init__()
        self.update = mlp(4 * WIDTH, norm=True)

    def forward(self, source, centre, edges, crystals, crystal):
        return self.update(torch.cat([source, centre, edges, crystals[crystal]], dim=1))


class MegnetAtoms(nn.Module):
    """Update of atoms."""

    def __init__(self) -> None:
        super().__init__()
        self.update = mlp(3 * WIDTH, norm=True)

    def forward(self, atoms, edge_index, edges, crystals, crystal):
        mean = scatter(edges, edge_index[1], dim_size=len(atoms), reduce="mean")
        return self.update(torch.cat([atoms, mean, crystals[crystal]], dim=1))


class MegnetCrystals(nn.Module):
    """Update of crystals."""

    def __init__(self) -> None:
        super().__init__()
        self.update = mlp(3 * WIDTH, norm=True)

    def forward(self, atoms, edge_index, edges, crystals, crystal):
        of_edges = scatter(edges, crystal[edge_index[1]], dim_size=len(crystals), reduce="mean")
        of_atoms = scatter(atoms, crystal, dim_size=len(crystals), reduce="mean")
        return self.update(torch.cat([of_edges, of_atoms, crystals], dim=1))


class Megnet(nn.Module):
    """PyG's MetaLayer."""

    def __init__(self) -> None:
        super().__init__()
        self.edges, self.atoms, self.crystals = (mlp(WIDTH) for _ in range(3))
        self.layer = MetaLayer(MegnetEdges(), MegnetAtoms(), MegnetCrystals())

    def forward(self, state, data):
        x, edges, crystals = (state[name] for name in ("x", "edges", "crystals"))
        found = self.layer(self.atoms(x), data.edge_index, self.edges(edges), self.crystals(crystals), data.batch)
        return {"x": found[0] + x, "edges": found[1] + edges, "crystals": found[2] + crystals}


class Gatgnn(nn.Module):
    """Augmented attention, with PyG's softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2 * WIDTH, GATGNN_HEADS * WIDTH) * 0.05)
        self.attention = nn.Parameter(torch.randn(1, GATGNN_HEADS, 2 * WIDTH) * 0.05)
        self.bias = nn.Parameter(torch.zeros(WIDTH))
        self.of_scores, self.norm = nn.BatchNorm1d(GATGNN_HEADS), nn.BatchNorm1d(WIDTH)

    def forward(self, state, data):
        x, edges, (source, centre) = state["x"], state["edges"], data.edge_index
        own, other = (
            F.softplus(torch.cat([x[end], edges], dim=1) @ self.weight).view(-1, GATGNN_HEADS, WIDTH)
            for end in (centre, source)
        )
        scores = F.softplus((torch.cat([own, other], dim=2) * self.attention).sum(dim=2))
        shares = softmax(F.softplus(self.of_scores(scores)), centre, num_nodes=len(x))
        found = scatter((other * shares[..., None]).transpose(0, 1), centre, dim=1, dim_size=len(x)).mean(dim=0)
        return {**state, "x": self.norm(found + self.bias)}


class Gated(nn.Module):
    """One edge-gated convolution, in PyTorch Geometric's scatter."""

    def __init__(self) -> None:
        super().__init__()
        self.centre, self.source, self.edge, self.own, self.message = (nn.Linear(WIDTH, WIDTH) for _ in range(5))
        self.of_nodes, self.of_edges = nn.BatchNorm1d(WIDTH), nn.BatchNorm1d(WIDTH)

    def forward(self, nodes, edges, index):
        source, centre = index
        gates = self.centre(nodes)[centre] + self.source(nodes)[source] + self.edge(edges)
        shares = torch.sigmoid(gates)
        total = scatter(shares * self.message(nodes)[source], centre, dim_size=len(nodes))
        found = total / (scatter(shares, centre, dim_size=len(nodes)) + 1e-6)
        nodes = nodes + F.silu(self.of_nodes(self.own(nodes) + found))
        return nodes, edges + F.silu(self.of_edges(gates))


class Eggc(nn.Module):
    """ALIGNN's convolution on the crystal graph."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = Gated()

    def forward(self, state, data):
        x, edges = self.convolution(state["x"], state["edges"], data.edge_index)
        return {**state, "x": x, "edges": edges}


class Alignn(nn.Module):
    """One on the crystal graph, one on the line graph."""

    def __init__(self) -> None:
        super().__init__()
        self.crystal, self.line = Gated(), Gated()

    def forward(self, state, data):
        x, edges = self.crystal(state["x"], state["edges"], data.edge_index)
        edges, angles = self.line(edges, state["angles"], data.line)
        return {"x": x, "edges": edges, "angles": angles}


def twice(inputs: int) -> nn.Sequential:
    parts = [nn.Linear(inputs, WIDTH), nn.BatchNorm1d(WIDTH), nn.SiLU()]
    return nn.Sequential(*parts, nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.SiLU())


class Entry(nn.Module):
    """What stands before the first layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.atoms = name, nn.Linear(92, WIDTH)
        if name == "megnet":
            self.edges, self.crystals = nn.Linear(GAUSSIANS, WIDTH), nn.Linear(3, WIDTH)
        elif name == "gatgnn":
            self.edges = nn.Linear(GAUSSIANS, WIDTH)
        elif name in ("eggc", "alignn"):
            self.norm, self.edges = nn.BatchNorm1d(WIDTH), twice(ALIGNN_DISTANCES)
            self.angles = twice(ALIGNN_ANGLES) if name == "alignn" else None

    def forward(self, data):
        x = self.atoms(data.x)
        if self.name == "megnet":
            crystals = torch.relu(self.crystals(x.new_zeros(data.num_graphs, 3)))
            return {"x": x, "edges": torch.relu(self.edges(data.edge_attr)), "crystals": crystals}
        if self.name == "gatgnn":
            return {"x": F.leaky_relu(x, 0.2), "edges": F.leaky_relu(self.edges(data.edge_attr), 0.2)}
        if self.name in ("eggc", "alignn"):
            state = {"x": F.silu(self.norm(x)), "edges": self.edges(radial(data.distances, 0.0, 8.0, ALIGNN_DISTANCES))}
            if self.angles is not None:
                state["angles"] = self.angles(radial(data.cosines, -1.0, 1.0, ALIGNN_ANGLES))
            return state
        return {"x": x}


def radial(values, first: float, last: float, count: int):
    centres = torch.linspace(first, last, count)
    return torch.exp(-((count - 1) / (last - first)) * (values[:, None] - centres) ** 2)


LAYERS = {
    "cgcnn": Cgcnn,
    "cgconv": CgConv,
    "schnet": SchNet,
    "mpnn": Mpnn,
    "megnet": Megnet,
    "gatgnn": Gatgnn,
    "eggc": Eggc,
    "alignn": Alignn,
}


class Stock(nn.Module):
    """Layers of one kind, mean pooling and the same readout."""

    def __init__(self, name: str, depth: int) -> None:
        super().__init__()
        self.entry, self.layers = Entry(name), nn.ModuleList(LAYERS[name]() for _ in range(depth))
        pooled = WIDTH * (3 if name == "megnet" else 1)
        self.head = nn.Sequential(nn.Softplus(), nn.Linear(pooled, 128), nn.Softplus(), nn.Linear(128, 1))

    def forward(self, data):
        state = self.entry(data)
        for layer in self.layers:
            state = layer(state, data)
        pooled = [global_mean_pool(state["x"], data.batch)]
        if "crystals" in state:
            pooled += [global_mean_pool(state["edges"], data.batch[data.edge_index[1]]), state["crystals"]]
        return self.head(torch.cat(pooled, dim=1))[:, 0]
