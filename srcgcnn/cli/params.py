"""The command `srcgcnn params`: parameter counts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_command
from srcgcnn.models.registry import BLOCKS, FAMILIES, TIED

if TYPE_CHECKING:
    import argparse

TIED_KINDS = [(norm, alpha) for norm in ("step", "affine", "shared") for alpha in ("none", "learned")]


def add_params_command(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    params = add_command(
        commands,
        "params",
        "parameter counts of the variants",
        _params,
        description="Print the parameters of the convolution and of the whole network for each variant and depth.",
        examples="srcgcnn params --depths 1 3 8",
    )
    params.add_argument("--depths", type=int, nargs="+", default=[1, 2, 3, 5, 8], metavar="T", help="(1 2 3 5 8)")
    params.add_argument("--models", nargs="+", choices=FAMILIES, default=["cgcnn", "srcgcnn"], help="(cgcnn srcgcnn)")
    params.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _params(options: argparse.Namespace) -> int:
    from srcgcnn.models.config import ModelConfig
    from srcgcnn.models.counts import count_parameters

    kinds: dict[str, list[dict[str, Any]]] = {name: [{}] for name in BLOCKS}
    kinds |= {name: [{"norm": norm, "alpha": alpha} for norm, alpha in TIED_KINDS] for name in TIED}
    variants = [
        ModelConfig(name, depth, **kind) for name in options.models for kind in kinds[name] for depth in options.depths
    ]
    rows = []
    for config in variants:
        counts = count_parameters(config)
        rows.append({"model": config.label, "conv_params": counts.convolution, "total_params": counts.total})
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'model':<45}{'conv params':>12}{'total params':>14}")
    for row in rows:
        print(f"{row['model']:<45}{row['conv_params']:>12,}{row['total_params']:>14,}")
    return 0
