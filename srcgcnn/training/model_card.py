"""The card of a model file, read from the header alone, without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from srcgcnn.data.domain import TrainingDomain
from srcgcnn.data.graph import GraphSettings
from srcgcnn.models.config import ModelConfig

if TYPE_CHECKING:
    from pathlib import Path

MODEL_FORMAT = 1
LONGEST_HEADER_BYTES = 100_000_000  # the limit of the safetensors format


@dataclass(frozen=True)
class PredictedTarget:
    """One number that a network predicts, with the mean and the deviation of its standardised output, in `unit`."""

    name: str
    unit: str
    mean: float
    std: float


@dataclass(frozen=True)
class ModelCard:
    """What a model file says about its model.

    Attributes:
        key: key of the trial, or hash of the file it was imported from.
        mean: of the target, in `unit`: the network's output is standardised.
        std: deviation of the target.
        domain: what the training crystals were like; None if unknown (imported, or an older version).
        origin: where the weights came from, "" for a trial of a sweep.
        targets: of a network that predicts several; `target` then names them together, `mean` is 0 and `std` 1.
    """

    key: str
    model: ModelConfig
    target: str
    unit: str
    mean: float
    std: float
    data_hash: str
    graph: GraphSettings
    exact_padding: bool = False
    domain: TrainingDomain | None = None
    origin: str = ""
    format_version: int = MODEL_FORMAT
    targets: tuple[PredictedTarget, ...] = ()

    @property
    def each(self) -> tuple[PredictedTarget, ...]:
        """What it predicts, one number or several."""
        return self.targets or (PredictedTarget(self.target, self.unit, self.mean, self.std),)


def read_card(path: Path) -> ModelCard:
    """Read the card of a model file.

    Raises:
        ValueError: not a model file of this format version.
    """
    with path.open("rb") as stream:  # 8 bytes of header length, then the header as JSON (safetensors format)
        length = int.from_bytes(stream.read(8), "little")
        try:
            if length > LONGEST_HEADER_BYTES:
                raise ValueError(f"header of {length} bytes")
            metadata = json.loads(stream.read(length)).get("__metadata__", {})
        except (ValueError, AttributeError) as error:
            hint = "checkpoints of the CGCNN codes are read by `srcgcnn import-cgcnn`"
            raise ValueError(f"{path} is not a safetensors file ({error}); {hint}") from None
    if "card" not in metadata:
        raise ValueError(f"{path} is not a model file of srcgcnn (no card in its metadata)")
    return _card(json.loads(metadata["card"]), path)


def _card(data: dict[str, Any], path: Path) -> ModelCard:
    if data.get("format_version") != MODEL_FORMAT:
        raise ValueError(f"{path}: format_version={data.get('format_version')}, this version reads {MODEL_FORMAT}")
    nested = {
        "model": ModelConfig(**data["model"]),
        "graph": GraphSettings(**data["graph"]),
        "domain": _domain(data.get("domain")),
        "targets": tuple(PredictedTarget(**target) for target in data.get("targets", ())),
    }
    return ModelCard(**{**data, **nested})


def _domain(data: dict[str, Any] | None) -> TrainingDomain | None:
    if data is None:
        return None
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    return TrainingDomain(**values)
