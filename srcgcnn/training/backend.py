"""Which backend a network is computed with; all give the same numbers to rounding."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, cast

from srcgcnn.models.backend import EARLIER, Backend
from srcgcnn.models.blocks.cgcnn.kernels.native.library import native_library
from srcgcnn.models.network import DEEPEST_PLAIN

if TYPE_CHECKING:
    import torch

    from srcgcnn.models.config import ModelConfig
    from srcgcnn.run.training_config import TrainingConfig

# On the CPU, compiling takes a second once per machine: less than ten steps save (docs/performance.md). For CUDA
# inductor compiles in every process, half a minute if its cache is cold, and saves a millisecond or so per member
# and step, against recorded plain kernels. Estimated, not measured on a GPU (benchmarks/gpu_report.py, part `ways`).
CUDA_STEPS_WORTH_COMPILING = 20_000


def choose_backend(model: ModelConfig, training: TrainingConfig, device: torch.device, batches: int) -> Backend:
    """Choose for a group of `batches` training steps per epoch, those of all members: compiled if that pays."""
    if device.type == "cpu":
        frozen_norms = training.start is not None and any(name.startswith("norms") for name in training.start.frozen)
        # machine code takes its statistics from the batch, and knows one precision
        return "plain" if frozen_norms or training.precision == "bf16" else cpu_backend(model)
    pays = training.epochs * batches >= CUDA_STEPS_WORTH_COMPILING
    possible = model.block.model_axis and model.depth <= DEEPEST_PLAIN
    return "inductor" if pays and possible and importlib.util.find_spec("triton") is not None else "plain"


def cpu_backend(model: ModelConfig) -> Backend:
    """Choose for training and predictions on the CPU: machine code if the block has it and there is a compiler."""
    if "native" not in model.block.backends or model.norm_kind != "batch":
        return "plain"
    return "native" if native_library(model.hidden_channels) is not None else "plain"


def records(model: ModelConfig, device: torch.device) -> bool:
    """Whether steps are recorded as CUDA graphs: not those that run model by model, whose shapes differ."""
    return device.type == "cuda" and model.block.model_axis


def earlier_backend(name: str, device: torch.device) -> Backend:
    """Return the backend of a checkpoint, whichever version wrote it."""
    if name == "compiled" and device.type == "cuda":
        return "inductor"
    return cast("Backend", EARLIER.get(name, name))
