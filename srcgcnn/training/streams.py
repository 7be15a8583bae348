"""Random numbers of training: every draw is a function of seeds and of where the training is, and is never stored."""

from __future__ import annotations

import numpy as np
import torch


def stream(*numbers: int) -> torch.Generator:
    """Return a generator for (seed, epoch, ...): independent streams from one seed sequence."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))
