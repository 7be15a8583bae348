"""A network of one's own in a sweep: PyTorch Geometric's GINE layers with batch norm, and a mean over atoms.

From this folder:

    srcgcnn sweep --models my_network:Gine cgcnn --depths 1 2 3 --seeds 3

`depth` and `hidden_channels` are the names of axes (`--depths`, `--widths`): a constructor gets those that it asks for.
"""

from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import GINEConv, global_mean_pool

ELEMENT_FEATURES, EDGE_FEATURES = 92, 41  # columns of data.x and of data.edge_attr


class Gine(nn.Module):
    """GINE (arXiv:1905.12265), stacked `depth` times."""

    convolution_parts = ("layers", "norms")  # counted as convolution parameters; all is, where this is left out

    def __init__(self, depth: int = 3, hidden_channels: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Linear(ELEMENT_FEATURES, hidden_channels)
        self.layers = nn.ModuleList(
            GINEConv(
                nn.Sequential(
                    nn.Linear(hidden_channels, hidden_channels), nn.ReLU(), nn.Linear(hidden_channels, hidden_channels)
                ),
                edge_dim=EDGE_FEATURES,
            )
            for _ in range(depth)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden_channels) for _ in range(depth))
        self.dropout = nn.Dropout(0.05)
        self.head = nn.Sequential(nn.Linear(hidden_channels, hidden_channels), nn.SiLU(), nn.Linear(hidden_channels, 1))

    def forward(self, data: Batch) -> Tensor:
        """Map a batch of B crystals to the standardised target, [B, 1]."""
        atoms = self.embedding(data.x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            atoms = (atoms + norm(layer(atoms, data.edge_index, data.edge_attr))).relu()
        return self.head(self.dropout(global_mean_pool(atoms, data.batch, data.num_graphs)))
