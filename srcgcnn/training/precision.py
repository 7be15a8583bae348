"""Precision of the matrix products of a training step. Everything else is float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srcgcnn.run.training_config import TrainingConfig


def check_precision(training: TrainingConfig, device: torch.device) -> None:
    """Refuse a precision that the device does not support.

    Raises:
        ValueError: tf32 on the CPU.
    """
    if training.precision == "tf32" and device.type != "cuda":
        raise ValueError("precision='tf32' exists on NVIDIA GPUs only; take 'float32' on the CPU")


@contextmanager
def tensor_cores(training: TrainingConfig) -> Iterator[None]:
    """Round the factors of float32 products to TF32 if requested, forward and backward."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if training.precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def autocast(training: TrainingConfig, device: torch.device) -> AbstractContextManager[object]:
    """Multiply matrices in bf16 if requested; the layers return float32."""
    if training.precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
