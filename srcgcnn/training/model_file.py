"""A trained network as one safetensors file: weights, element table, and everything needed to predict."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from srcgcnn.data.graph import GraphSettings
from srcgcnn.files import write_bytes
from srcgcnn.models.cgcnn import CrystalGraphNetwork
from srcgcnn.models.config import ModelConfig

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

MODEL_FORMAT = 1
ELEMENT_TABLE = "element_features"


@dataclass(frozen=True)
class ModelCard:
    """What a model file says of itself."""

    key: str
    model: ModelConfig
    target: str
    unit: str
    mean: float
    std: float
    data_hash: str
    graph: GraphSettings
    exact_padding: bool = False
    format_version: int = MODEL_FORMAT


def save_model(path: Path, card: ModelCard, weights: dict[str, Tensor], element_features: Tensor) -> None:
    """Write weights [1, ...] of one network and its card, atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    tensors[ELEMENT_TABLE] = element_features.cpu().to(torch.uint8)
    write_bytes(path, save(tensors, metadata={"card": json.dumps(asdict(card))}))


def load_model(path: Path) -> tuple[ModelCard, CrystalGraphNetwork]:
    """Read a model file; the network is in evaluation mode on the CPU.

    Raises:
        ValueError: not a model file of this format version.
    """
    with safe_open(path, framework="pt") as stored:
        metadata = stored.metadata() or {}
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    if "card" not in metadata:
        raise ValueError(f"{path} is not a model file of srcgcnn (no card in its metadata)")
    card = _card(json.loads(metadata["card"]), path)
    network = CrystalGraphNetwork(card.model, tensors.pop(ELEMENT_TABLE))
    network.load_state_dict(tensors)
    return card, network.eval()


def _card(data: dict[str, Any], path: Path) -> ModelCard:
    if data.get("format_version") != MODEL_FORMAT:
        raise ValueError(f"{path}: format_version={data.get('format_version')}, this version reads {MODEL_FORMAT}")
    return ModelCard(**{**data, "model": ModelConfig(**data["model"]), "graph": GraphSettings(**data["graph"])})
