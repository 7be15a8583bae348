"""A trained network as one safetensors file: weights, element table, and everything needed to predict."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from srcgcnn.files import write_bytes
from srcgcnn.models.making import make_network
from srcgcnn.training.backend import cpu_backend
from srcgcnn.training.model_card import ModelCard, read_card

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from srcgcnn.models.network import Network

ELEMENT_TABLE = "element_features"

__all__ = ["ModelCard", "load_model", "save_model"]


def save_model(path: Path, card: ModelCard, weights: dict[str, Tensor], element_features: Tensor) -> None:
    """Write weights [1, ...] of one network and its card, atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    tensors[ELEMENT_TABLE] = element_features.cpu().to(torch.uint8)
    write_bytes(path, save(tensors, metadata={"card": json.dumps(asdict(card))}))


def load_model(path: Path) -> tuple[ModelCard, Network]:
    """Read a model file; the network is in evaluation mode on the CPU.

    Raises:
        ValueError: not a model file of this format version, or a damaged one; or one of a user-defined network,
            which is imported only if the user has named it (`models/own.py`).
    """
    card = read_card(path)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    network = make_network(card.model, tensors.pop(ELEMENT_TABLE), backend=cpu_backend(card.model))
    network.load_state_dict(tensors)
    return card, network.eval()
