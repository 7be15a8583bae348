"""What a network is: family, depth, normalisation sharing, damping. No torch here, so that a plan needs none."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from srcgcnn.records import record

Family = Literal["cgcnn", "srcgcnn"]
Norm = Literal["step", "shared"]
Alpha = float | Literal["none", "learned", "learned-scalar"]
Task = Literal["regression", "classification"]

MOST_OF_ANY = 10_000  # steps, layers or channels: more is a slip of the keyboard
USUAL_WIDTH = 64  # of the paper; others are part of a label
FAMILY_NAMES = {"cgcnn": "CGCNN", "srcgcnn": "SR-CGCNN"}


@record
class ModelConfig:
    """One network of the CGCNN family (arXiv:2605.01304; Xie and Grossman, PRL 120, 145301).

    Attributes:
        family: `cgcnn` stacks `depth` independent convolutions, `srcgcnn` applies one convolution `depth` times.
        depth: number of layers L (cgcnn) or recurrent steps T (srcgcnn).
        norm: srcgcnn only. `step` gives every step its own two BatchNorms (the released code), `shared` uses one pair.
        alpha: srcgcnn only. Damping h <- (1-alpha) h + alpha h~: `none` (alpha = 1), a fixed number in (0, 1],
            `learned` (one per step, sigmoid of a parameter that starts at 1.0) or `learned-scalar` (one for all steps).
        layer_norm: srcgcnn only. One LayerNorm shared by all steps, after the damped update.
        hidden_channels: F, width of the atom states.
        head_channels: width of the readout.
        head_layers: n_h, hidden layers of the readout.
        task: `regression` (one number) or `classification` (two classes, log-softmax).
    """

    family: Family
    depth: int
    norm: Norm = "step"
    alpha: Alpha = "none"
    layer_norm: bool = False
    hidden_channels: int = USUAL_WIDTH
    head_channels: int = 128
    head_layers: int = 1
    task: Task = "regression"

    def __post_init__(self) -> None:
        """Refuse values that no network can have."""
        for name in ("depth", "hidden_channels", "head_channels", "head_layers"):
            if not 1 <= getattr(self, name) <= MOST_OF_ANY:
                raise ValueError(f"{name}={getattr(self, name)} must lie in 1..{MOST_OF_ANY}")
        if isinstance(self.alpha, (int, float)) and not 0.0 < self.alpha <= 1.0:
            raise ValueError(f"alpha={self.alpha} must lie in (0, 1], or be none, learned or learned-scalar")

    def canonical(self) -> ModelConfig:
        """Return the representative of all configurations that are the same network with the same initial weights.

        A cgcnn has no norm sharing, damping or LayerNorm; alpha = 1 is no damping; one recurrent step is one layer.
        """
        config = self
        if config.family == "cgcnn":
            return replace(config, norm="step", alpha="none", layer_norm=False)
        if config.alpha == 1.0:
            config = replace(config, alpha="none")
        if config.depth == 1:
            alpha: Alpha = "learned" if config.alpha == "learned-scalar" else config.alpha
            config = replace(config, norm="step", alpha=alpha)
            if alpha == "none" and not config.layer_norm:
                config = replace(config, family="cgcnn")
        return config

    @property
    def label(self) -> str:
        """Name for people, such as `CGCNN-3`, `CGCNN-3 width=34` or `SR-CGCNN T=3 step-norm alpha=0.5`."""
        width = [] if self.hidden_channels == USUAL_WIDTH else [f"width={self.hidden_channels}"]
        if self.family == "cgcnn":
            return " ".join([f"CGCNN-{self.depth}", *width])
        parts = [f"SR-CGCNN T={self.depth} {self.norm}-norm"]
        if self.alpha != "none":
            parts.append(f"alpha={self.alpha}")
        if self.layer_norm:
            parts.append("LayerNorm")
        return " ".join(parts + width)
