"""The command `srcgcnn profile`: where a training step spends its time."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_command, alpha
from srcgcnn.models.published import NAMES, settings_of

if TYPE_CHECKING:
    import argparse

    import torch


def add_training_commands(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser = add_command(
        commands,
        "profile",
        "where the time of a training step goes",
        _profile,
        description="Train a few epochs on a store and print the time of its parts and the most expensive operators.",
        examples="srcgcnn profile stores/demo-480 --depth 8 --trace trace.json",
    )
    parser.add_argument("store", type=Path, metavar="STORE", help="a graph store (srcgcnn data build)")
    parser.add_argument("--target", help="target column (default: the first)")
    parser.add_argument("--model", choices=NAMES, default="srcgcnn")
    parser.add_argument("--depth", type=int, default=3, metavar="T", help="number of steps (3)")
    parser.add_argument("--blocks", type=int, metavar="K", help="distinct blocks (default: that of the model)")
    parser.add_argument("--norm", choices=["step", "affine", "shared"], default="step")
    parser.add_argument("--alpha", type=alpha, default="none", help="none | NUMBER | learned | learned-scalar")
    parser.add_argument("--members", type=int, default=1, metavar="M", help="trials stacked in one group (1)")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=3, help="the first is not counted (3)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    parser.add_argument("--threads", type=int, help="of PyTorch (default: its own choice)")
    parser.add_argument(
        "--operators", type=int, default=15, metavar="N", help="print the N most expensive operators (15)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--trace", type=Path, metavar="FILE.json", help="write a timeline for ui.perfetto.dev")


def _profile(options: argparse.Namespace) -> int:
    import torch

    from srcgcnn.data.store import GraphStore
    from srcgcnn.models.config import ModelConfig
    from srcgcnn.run.training_config import TrainingConfig
    from srcgcnn.run.trial import DataRef, Seeds, TrialConfig
    from srcgcnn.training.profile import print_profile, profile_training

    if options.members < 1:
        raise ValueError(f"--members {options.members}: a group has at least one trial")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    store = GraphStore(options.store)
    manifest = store.manifest
    target = manifest.target(options.target) if options.target else manifest.targets[0]
    data = DataRef(manifest.data_hash, manifest.source, target.name, target.unit)
    settings = {"depth": options.depth, "norm": options.norm, "alpha": options.alpha, "blocks": options.blocks}
    model = ModelConfig(**settings_of(options.model), **settings).canonical()
    training = TrainingConfig(epochs=options.epochs, batch_size=options.batch_size)
    configs = [TrialConfig(model, training, Seeds(seed, seed, 0), data) for seed in range(options.members)]
    profile = profile_training(configs, store, device=device_named(options.device), trace=options.trace)
    if options.json:
        print(json.dumps(asdict(profile), indent=1))
    else:
        print_profile(profile, options.operators)
    return 0


def device_named(name: str | None) -> torch.device | None:
    """Return the device of `--device`, None for the default.

    Raises:
        ValueError: PyTorch does not know the device, or it is not on this machine.
    """
    import torch

    if name is None:
        return None
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device {name}: unknown; give cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device {name}: this PyTorch ({torch.__version__}) sees {torch.cuda.device_count()} GPUs")
    return device
