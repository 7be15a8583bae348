"""What a network is: block, depth, tying, normalisation, damping, readout. No torch here: a plan needs none."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from srcgcnn.models.own import is_own
from srcgcnn.models.published import title_of, title_settings
from srcgcnn.models.registry import TIED, Sizes, block_of
from srcgcnn.records import record

if TYPE_CHECKING:
    from srcgcnn.models.registry import BlockSpec

Norm = Literal["step", "affine", "shared"]
NormKind = Literal["batch", "layer", "group"]
Skip = Literal["none", "residual", "double"]
Readout = Literal["mean", "sum", "max", "set2set", "attention"]
Alpha = float | Literal["none", "learned", "learned-scalar", "1/sqrt(T)"]
Task = Literal["regression", "classification"]

MOST_OF_ANY = 10_000  # steps, layers or channels: more is a typing error
CODE = re.compile(r"[0-9a-f]{16}")
USUAL_WIDTH = 64  # of the paper; others are part of a label


@record
class ModelConfig:
    """One network: a block, applied `depth` times (docs/models.md).

    The fields from `blocks` on are younger than results of earlier versions. They stay out of a key at their default.

    Attributes:
        family: a block of `models/registry.py`, stacked; or `srcgcnn`, the block of `cgcnn` with tied weights.
        depth: number of steps: layers L if every step has a block of its own, recurrent steps T if they share.
        norm: not for cgcnn. What the norms of different steps share. `step`: nothing (the released code of SR-CGCNN);
            `affine`: weight and bias, but not the running statistics; `shared`: statistics, too. With `shared` all
            steps are evaluated with one running average, which fits none of them: expect large errors at depth.
        alpha: not for cgcnn. Damping h <- (1-alpha) h + alpha h~: `none` (alpha = 1), a fixed number in (0, 1],
            `1/sqrt(T)`, `learned` (one per step, sigmoid of a parameter) or `learned-scalar` (one for all steps).
        layer_norm: not for cgcnn. One LayerNorm shared by all steps, after the damped update.
        hidden_channels: F, width of the atom states.
        head_channels: width of the readout.
        head_layers: n_h, hidden layers of the readout.
        task: `regression` (a number for each target) or `classification` (two classes, log-softmax).
        blocks: K distinct blocks, used in cycles: 1 is tied, `all` (or `depth`) stacked. Default: 1 for srcgcnn, else
            `all`.
        norm_kind: `batch` (BatchNorm), `layer` (LayerNorm) or `group` (differentiable group normalisation).
        skip: path around a step. `none`: the published step, with the residual that it may have of its own;
            `residual`: the sum of a step's input and its result, instead of its own residual; `double`: both.
        readout: how the atoms of a crystal are pooled: `mean`, `sum`, `max`, `attention` or `set2set` (`readout.py`).
        edge_channels: width of what a block makes of edges (filters, edge network); 0 takes `hidden_channels`.
        correction: what each step changes about the block that it shares (`correction.py`): `none`, `film` (scale and
            shift of the states that it reads) or `lowrank:R` (a correction of rank R to what reads them).
        alpha_start: where learned damping starts; by default sigmoid(1) = 0.731, as in the released code of SR-CGCNN.
        inner_skip: of megnet, whether each update adds the result of its first layer to that of its second, as in
            DeeperMEGNet.
        code: of a network of one's own, `module:Class`: hash of its file, so that a changed one is another network.
        outputs: numbers that a regression predicts, one for each target.
    """

    family: str
    depth: int
    norm: Norm = "step"
    alpha: Alpha = "none"
    layer_norm: bool = False
    hidden_channels: int = USUAL_WIDTH
    head_channels: int = 128
    head_layers: int = 1
    task: Task = "regression"
    blocks: int | Literal["all"] | None = None
    norm_kind: NormKind = "batch"
    skip: Skip = "none"
    readout: Readout = "mean"
    edge_channels: int = 0
    correction: str = "none"
    alpha_start: float | None = None
    code: str = ""
    inner_skip: bool = False
    outputs: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no network can have."""
        block_of(self.family)
        if self.code and not (self.own and CODE.fullmatch(self.code)):
            raise ValueError(f"code={self.code!r:.40} must be the hash of the file of a network of one's own")
        if self.task == "classification" and self.outputs > 1:
            raise ValueError(f"outputs={self.outputs}: a classification has one target, 0 or 1")
        for name in ("depth", "hidden_channels", "head_channels", "head_layers", "outputs"):
            if not 1 <= getattr(self, name) <= MOST_OF_ANY:
                raise ValueError(f"{name}={getattr(self, name)} must lie in 1..{MOST_OF_ANY}")
        if isinstance(self.blocks, int) and self.blocks < 1:
            raise ValueError(f"blocks={self.blocks} must be at least 1")
        if not 0 <= self.edge_channels <= MOST_OF_ANY:
            raise ValueError(f"edge_channels={self.edge_channels} must lie in 0..{MOST_OF_ANY}")
        if isinstance(self.alpha, (int, float)) and not 0.0 < self.alpha <= 1.0:
            raise ValueError(f"alpha={self.alpha} must lie in (0, 1], or be none, 1/sqrt(T), learned or learned-scalar")
        if self.correction not in ("none", "film") and not self.correction_rank:
            raise ValueError(f"correction={self.correction!r} must be none, film, or lowrank:R with R from 1 to 9999")
        if self.alpha_start is not None and not 0.0 < self.alpha_start < 1.0:
            raise ValueError(f"alpha_start={self.alpha_start} must lie between 0 and 1")

    @property
    def own(self) -> bool:
        """Whether it is a network of one's own, `module:Class` (docs/own_network.md)."""
        return is_own(self.family)

    @property
    def block(self) -> BlockSpec:
        """The message-passing step."""
        return block_of(self.family)

    @property
    def distinct_blocks(self) -> int:
        """K, the number of blocks with weights of their own."""
        usual = 1 if self.family in TIED else self.depth
        if self.blocks is None:
            return usual
        return self.depth if self.blocks == "all" else min(self.blocks, self.depth)

    @property
    def norm_sets(self) -> int:
        """Sets of norms with weights of their own: one per step, or one."""
        return self.depth if self.norm == "step" or not self.varies_steps else 1

    @property
    def edge_width(self) -> int:
        """Width of what a block makes of edges."""
        return self.edge_channels or self.hidden_channels

    @property
    def sizes(self) -> Sizes:
        """What decides the sizes of a block."""
        return Sizes(self.hidden_channels, self.edge_width)

    @property
    def pooled_channels(self) -> int:
        """Width of what the head reads: pooled atoms, and pooled edges and crystals if a block has them."""
        beside = len(self.block.reads) - 1
        return self.hidden_channels * (beside + (2 if self.readout == "set2set" else 1))

    @property
    def varies_steps(self) -> bool:
        """Whether it has norm sharing, damping and LayerNorm: not a stacked CGCNN, nor a network of one's own."""
        return not (self.own or (self.family == "cgcnn" and self.distinct_blocks == self.depth))

    @property
    def correction_rank(self) -> int:
        """R of `lowrank:R`; 0 for other corrections."""
        match = re.fullmatch(r"lowrank:([1-9]\d{0,3})", self.correction)
        return int(match[1]) if match else 0

    @property
    def learns_alpha(self) -> bool:
        """Whether the damping is learned."""
        return self.alpha in ("learned", "learned-scalar")

    @property
    def caution(self) -> str:
        """What one should know before judging such a network by its error; "" for nothing."""
        if self.depth == 1:
            return self.block.one_step
        if self.norm != "shared" or self.norm_kind == "layer" or not self.varies_steps:
            return ""
        return (
            "Norm `shared`: training normalises every step by its own batch, evaluation all steps by one running "
            "average, so that errors grow with depth; `affine` has as few parameters and an average per step."
        )

    def canonical(self) -> ModelConfig:
        """Return the representative of all configurations that are the same network with the same initial weights.

        A stacked cgcnn has no norm sharing, damping or LayerNorm; alpha = 1 is no damping; one recurrent step is one
        layer; LayerNorms have no statistics that could be shared or not.
        """
        config = _canonical_blocks(self)
        if config.skip == "double" and not config.block.own_residual:
            config = replace(config, skip="residual")
        if not config.block.inner_skips:
            config = replace(config, inner_skip=False)
        if not config.varies_steps:
            return replace(config, norm="step", alpha="none", layer_norm=False, alpha_start=None)
        if config.alpha == 1.0 or (config.alpha == "1/sqrt(T)" and config.depth == 1):
            config = replace(config, alpha="none")
        if not config.learns_alpha:
            config = replace(config, alpha_start=None)
        if config.norm_kind == "layer" and config.norm == "affine" and not config.block.always_batch:
            config = replace(config, norm="shared")
        if config.depth == 1:
            alpha: Alpha = "learned" if config.alpha == "learned-scalar" else config.alpha
            config = replace(config, norm="step", alpha=alpha)
        return _as_stacked(config)

    @property
    def title(self) -> str:
        """Name of the block and of how it is tied: `CGCNN`, `SR-CGCNN`, `CGCNN K=2`."""
        config, title = _canonical_blocks(self), title_of(self) or self.block.title
        if config.distinct_blocks == 1 and (config.family in TIED or config.depth > 1):
            return f"SR-{title}"
        return title if config.distinct_blocks == config.depth else f"{title} K={config.distinct_blocks}"

    @property
    def label(self) -> str:
        """Readable name, such as `CGCNN-3`, `CGCNN-3 width=34`, `SR-SchNet T=4 step-norm`, `CGCNN K=2 T=8 ...`."""
        return self._label(f"-{self.depth}", f" T={self.depth}")

    @property
    def depth_letter(self) -> Literal["L", "T"]:
        """What its depth counts: layers L with weights of their own, or steps T that share some."""
        return "L" if self.title == self.block.title else "T"

    @property
    def line(self) -> str:
        """Name without the depth: of a line in a figure over depth."""
        return self._label("", "")

    def _label(self, layers: str, steps: str) -> str:
        bare = (self.norm, self.alpha, self.layer_norm) == ("step", "none", False)
        if not self.varies_steps or (bare and self.family not in TIED and self.distinct_blocks == self.depth):
            parts = [self.title + layers]
        else:
            parts = [f"{self.title}{steps} {self.norm}-norm"]
            parts += [f"alpha={self.alpha}"] if self.alpha != "none" else []
            parts += [f"from {self.alpha_start:g}"] if self.alpha_start is not None else []
            parts += ["LayerNorm"] if self.layer_norm else []
        usual: dict[str, object] = {"norm_kind": "batch", "skip": "none", "readout": "mean", "edge_channels": 0}
        usual |= {"correction": "none", "inner_skip": False}
        usual |= {name: getattr(self, name) for name in title_settings(self)}
        parts += [f"{name}={getattr(self, name)}" for name in usual if getattr(self, name) != usual[name]]
        parts += [] if self.hidden_channels == USUAL_WIDTH else [f"width={self.hidden_channels}"]
        return " ".join(parts)


def _canonical_blocks(config: ModelConfig) -> ModelConfig:
    """Leave `blocks` out if it says what the family says; call CGCNN with K < T by the name of its tied form."""
    if config.blocks is None:
        return config
    blocks = config.distinct_blocks
    if config.family == "cgcnn" and blocks < config.depth:
        config = replace(config, family="srcgcnn")
    usual = 1 if config.family in TIED else config.depth
    return replace(config, blocks=None if blocks == usual else blocks)


def _as_stacked(config: ModelConfig) -> ModelConfig:
    """Call SR-CGCNN with as many blocks as steps, and nothing else that CGCNN lacks, by the name of CGCNN."""
    bare = config.norm == "step" and config.alpha == "none" and not config.layer_norm
    if config.family in TIED and config.distinct_blocks == config.depth and bare:
        return replace(config, family=TIED[config.family], blocks=None)
    return config
