"""The example of docs/blocks.md is a block: it can be counted, tied, stacked and trained like any other."""

import re
from pathlib import Path

import pytest
import torch

from srcgcnn.models import registry
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.counts import count_parameters
from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.training.graphset import GraphSet

PAGE = Path(__file__).parents[2] / "docs" / "blocks.md"


@pytest.fixture
def gin(tmp_path, monkeypatch):
    """Put the page's file and line into place."""
    file, line = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    (tmp_path / "gin.py").write_text(file)
    monkeypatch.syspath_prepend(tmp_path)
    names = dict(vars(registry))
    exec(line.replace("{_BLOCKS}.", ""), names)
    monkeypatch.setitem(registry.BLOCKS, "gin", names["GIN"])


@pytest.mark.usefixtures("gin")
@pytest.mark.parametrize("blocks", [1, 2, "all"])
def test_the_example_of_the_page_is_a_block(blocks, demo_store):
    config = ModelConfig("gin", 3, blocks=blocks, hidden_channels=16, head_channels=8).canonical()
    graphs = GraphSet.of_store(demo_store, torch.device("cpu"))
    network = CrystalGraphNetwork(config, graphs.element_features)
    network.reset_parameters([0])
    built = sum(parameter.numel() for parameter in network.parameters())
    assert built == count_parameters(config).total
    network(graphs.batch(torch.arange(4)[None])).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
