"""How a network is computed. All backends give the same numbers to rounding."""

from __future__ import annotations

from typing import Literal

# plain: PyTorch's operators (the oracle). native: machine code for the CPU, if a block has it. inductor: the plain
# operators compiled by inductor, for a GPU.
Backend = Literal["plain", "native", "inductor"]

# What results and checkpoints of earlier versions call them (`provenance.path`); `fused` was the algebra of `native` in
# PyTorch's operators.
EARLIER = {"fused": "plain", "compiled": "native"}
