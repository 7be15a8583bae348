"""Which way the convolutions of a trial are computed; all give the same numbers to rounding."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from srcgcnn.models.blocks.cgcnn.kernels.native.library import native_library
from srcgcnn.models.network import Path, uncompiled_path

if TYPE_CHECKING:
    import torch

    from srcgcnn.models.config import ModelConfig
    from srcgcnn.run.trial import TrainingConfig

# On the CPU, compiling takes a second once per machine: less than ten steps save (docs/performance.md). For CUDA
# inductor compiles in every process, half a minute where its cache is cold, and saves a millisecond or so per member
# and step beside recorded plain kernels. Estimated, not yet measured on a GPU (benchmarks/gpu_report.py, part `ways`).
CUDA_STEPS_WORTH_COMPILING = 20_000


def choose_path(model: ModelConfig, training: TrainingConfig, device: torch.device, batches: int) -> Path:
    """Choose for a group of `batches` training steps per epoch, those of all members: compiled where that pays."""
    if training.precision == "bf16" and device.type == "cpu":
        return "plain"  # the others are written for one precision
    if device.type == "cpu":
        return choose_cpu_path(model)
    pays = training.epochs * batches >= CUDA_STEPS_WORTH_COMPILING and uncompiled_path(model) == "plain"
    compiled = pays and importlib.util.find_spec("triton") is not None
    return "compiled" if compiled else uncompiled_path(model)


def records(device: torch.device, path: Path) -> bool:
    """Whether steps are recorded as CUDA graphs: not the fused ones, which wait for the device to sort edges."""
    return device.type == "cuda" and path != "fused"


def choose_cpu_path(model: ModelConfig) -> Path:
    """Choose for training and predictions on the CPU: compiled where there is a compiler."""
    return "compiled" if native_library(model.hidden_channels) is not None else uncompiled_path(model)
