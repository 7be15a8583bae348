"""Checkpoints of the codes that people have used until now, as model files of this project.

Supported are `model_best.pth.tar` and `checkpoint.pth.tar` of txie-93/cgcnn (whose repository has pre-trained ones)
and of sata-deep/SR-CGCNN, standard and recurrent. The layout of the network is taken from the tensors themselves. The
model file keeps what else matters for equal numbers: the target's scale, padded neighbours as edges, and the original
code's choice among neighbours at equal distance (rule 0 in `srcgcnn.data.graph`).
"""

from __future__ import annotations

import pickle
import re
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.serialization import safe_globals

from srcgcnn.data.elements import ELEMENT_FEATURES, element_table
from srcgcnn.data.graph import GAUSSIAN_COUNT, ORIGINAL_RULE, GraphSettings
from srcgcnn.data.source import unit_of
from srcgcnn.data.store import sha256_of
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.records import DIGEST_CHARACTERS
from srcgcnn.training.model_file import ModelCard, save_model

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

# Both codes save the best score with the weights, for classification as a numpy float. These three are what a numpy
# float64 unpickles with, under the module names of numpy 1 and 2: a constructor of numbers, a type, and the type's
# class. Everything else in a checkpoint is tensors and plain Python, which `weights_only` reads by itself.
NUMPY_FLOAT = [
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    np.dtype,
    type(np.dtype(np.float64)),
]
NAMES = [
    (r"embedding\.", "embedding."),
    (r"convs\.(\d+)\.fc_full\.", r"blocks.\1."),
    (r"convs\.(\d+)\.bn1\.", r"norms.\1.edges."),
    (r"convs\.(\d+)\.bn2\.", r"norms.\1.atoms."),
    (r"shared_conv\.fc_full\.", "blocks.0."),
    (r"recurrent_bn1s\.(\d+)\.", r"norms.\1.edges."),
    (r"recurrent_bn2s\.(\d+)\.", r"norms.\1.atoms."),
    (r"recurrent_norm\.", "layer_norm."),
    (r"recurrent_alpha$", "alpha_logits"),
    (r"conv_to_fc\.", "head.hidden.0."),
    (r"fc_out\.", "head.output."),
]
FURTHER_LAYER = re.compile(r"fcs\.(\d+)\.")  # counted from 0 there, the second hidden layer here
SUFFIX = ".safetensors"
NEEDED_TENSORS = ("embedding.weight", "conv_to_fc.weight", "fc_out.weight")
NEEDED_SCALE = ("mean", "std")
UNUSED = "num_batches_tracked"


def import_checkpoint(checkpoint: Path, out: Path, target: str | None = None, unit: str | None = None) -> ModelCard:
    """Write a checkpoint as a model file and return its card.

    Args:
        checkpoint: `.pth.tar` file.
        out: model file to write (`.safetensors`).
        target: what it predicts; a checkpoint does not say. Default: the file's name.
        unit: unit of the target; default a guess from its name.

    Raises:
        ValueError: not such a checkpoint, one that would run code when loaded, or a network that has no counterpart;
            or `out` is named as if it were of another format.
    """
    if out.suffix != SUFFIX:
        raise ValueError(f"{out}: model files are in the format safetensors: call it {out.stem}{SUFFIX}")
    saved = _load(checkpoint)
    state, scale = saved["state_dict"], saved["normalizer"]
    _refuse_gaps(checkpoint, state, scale)
    _refuse_other_graphs(checkpoint, state)
    config = _config(state)
    weights = weights_of(state)
    features = torch.from_numpy(np.array(element_table()))
    network = CrystalGraphNetwork(config, features)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint}: not the network that its tensors look like, {config.label}: {error}") from None
    target = target or checkpoint.name.split(".")[0].replace("-", "_")
    digest = sha256_of(checkpoint)[:DIGEST_CHARACTERS]
    card = ModelCard(
        key=digest,
        model=config,
        target=target,
        unit=unit_of(target) if unit is None else unit,
        mean=float(scale["mean"]),
        std=float(scale["std"]),
        data_hash="",
        graph=GraphSettings(rule=ORIGINAL_RULE),
        exact_padding=True,
        origin=f"{checkpoint.name} (sha256 {digest}...)",
    )
    save_model(out, card, network.state_dict(), features)
    return card


def _load(checkpoint: Path) -> dict[str, Any]:
    """Load tensors and plain Python values, and nothing that could run code."""
    try:
        with safe_globals(NUMPY_FLOAT):  # type: ignore[arg-type]
            saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        match = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it holds {match[1]}, which is not a tensor or a number" if match else "it is not a PyTorch checkpoint"
        raise ValueError(f"{checkpoint}: refused, loading it could run code ({what})") from None
    except (RuntimeError, EOFError, KeyError, zipfile.BadZipFile) as error:
        what = next(iter(str(error).splitlines()), "it ends too early")
        raise ValueError(f"{checkpoint}: not a PyTorch checkpoint ({what})") from None
    missing = {"state_dict", "normalizer"} - set(saved if isinstance(saved, dict) else ())
    if missing:
        raise ValueError(f"{checkpoint}: no {' and no '.join(sorted(missing))}: not a checkpoint of a CGCNN code")
    return saved


def _refuse_gaps(checkpoint: Path, state: dict[str, Tensor], scale: dict[str, Any]) -> None:
    _kernel(checkpoint, state)
    for name in (*NEEDED_TENSORS, *NEEDED_SCALE):
        if name not in (scale if name in NEEDED_SCALE else state):
            raise ValueError(f"{checkpoint}: no {name!r} in it: not a checkpoint of a CGCNN code, or an incomplete one")


def _refuse_other_graphs(checkpoint: Path, state: dict[str, Tensor]) -> None:
    """Refuse networks on other graphs or element features: their numbers would be wrong, not approximate.

    The number of neighbours leaves no trace in the tensors; both codes predict with 12, whatever the training had.
    """
    kernel = _kernel(checkpoint, state)
    gaussians = kernel.shape[1] - kernel.shape[0]
    if gaussians != GAUSSIAN_COUNT:
        raise ValueError(f"{checkpoint}: {gaussians} Gaussians per edge; the known graphs have {GAUSSIAN_COUNT}")
    features = state["embedding.weight"].shape[1]
    if features != ELEMENT_FEATURES:
        raise ValueError(f"{checkpoint}: {features} element features; the known atom_init.json has {ELEMENT_FEATURES}")


def _kernel(checkpoint: Path, state: dict[str, Tensor]) -> Tensor:
    for name in ("shared_conv.fc_full.weight", "convs.0.fc_full.weight"):
        if name in state:
            return state[name]
    raise ValueError(f"{checkpoint}: no convolution of CGCNN or SR-CGCNN in it; tensors: {', '.join(list(state)[:5])}")


def _config(state: dict[str, Tensor]) -> ModelConfig:
    recurrent = "shared_conv.fc_full.weight" in state
    steps = re.compile(r"recurrent_bn1s\.\d+\.weight" if recurrent else r"convs\.\d+\.fc_full\.weight")
    return ModelConfig(
        family="srcgcnn" if recurrent else "cgcnn",
        depth=sum(steps.fullmatch(name) is not None for name in state),
        alpha="learned" if "recurrent_alpha" in state else "none",
        layer_norm="recurrent_norm.weight" in state,
        hidden_channels=state["embedding.weight"].shape[0],
        head_channels=state["conv_to_fc.weight"].shape[0],
        head_layers=1 + sum(FURTHER_LAYER.match(name) is not None for name in state) // 2,
        task="classification" if state["fc_out.weight"].shape[0] == 2 else "regression",
    )


def weights_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name tensors of a CGCNN code as ours: with the model axis, and [1, in, out] for [out, in]."""
    return {
        _renamed(name): (value.T if value.dim() == 2 else value)[None]
        for name, value in state.items()
        if not name.endswith(UNUSED)
    }


def _renamed(name: str) -> str:
    if further := FURTHER_LAYER.match(name):
        return f"head.hidden.{int(further[1]) + 1}.{name[further.end() :]}"
    for pattern, replacement in NAMES:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name, count=1)
    return name
