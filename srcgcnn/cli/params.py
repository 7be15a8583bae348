"""The command `srcgcnn params`: parameter counts."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from srcgcnn.cli.command import add_command
from srcgcnn.models.published import NAMES, settings_of
from srcgcnn.models.registry import TIED
from srcgcnn.records import RecordError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

TIED_KINDS = [(norm, alpha) for norm in ("step", "affine", "shared") for alpha in ("none", "learned")]


def add_params_command(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    params = add_command(
        commands,
        "params",
        "parameter counts of the variants",
        _params,
        description="Print the parameters of the convolution and of the whole network for each variant and depth.",
        examples="""
        srcgcnn params --depths 1..8
        srcgcnn params --models schnet megnet --depths 6 --blocks 1 2 3 all
        srcgcnn params --models gatgnn deepergatgnn --depths 25 30 --published
        """,
    )
    default = ["1", "2", "3", "5", "8"]
    params.add_argument("--depths", nargs="+", default=default, metavar="T", help="1 2 3, or 1..10 (1 2 3 5 8)")
    params.add_argument("--models", nargs="+", choices=NAMES, default=["cgcnn", "srcgcnn"], help="(cgcnn srcgcnn)")
    params.add_argument(
        "--blocks",
        nargs="+",
        default=[],
        metavar="K",
        help="distinct blocks, used in cycles: 1 is tied, `all` is stacked",
    )
    params.add_argument("--outputs", type=int, default=1, metavar="N", help="targets of one network (1)")
    params.add_argument(
        "--published", action="store_true", help="in the sizes of their papers, including parameters that nothing reads"
    )
    params.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _params(options: argparse.Namespace) -> int:
    depths = _whole_numbers(options.depths, "--depths")
    if options.published:
        if options.blocks:
            raise RecordError("--blocks: the published networks have their own; leave out --published or --blocks")
        if options.outputs != 1:
            raise RecordError("--outputs: the published networks have one; leave out --published or --outputs")
        rows = _published(options.models, depths)
    else:
        blocks = _whole_numbers(options.blocks, "--blocks", "all") or [None]
        rows = _ours(options.models, depths, blocks, options.outputs)
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    columns = list(rows[0])[1:]
    print(f"{'model':<45}" + "".join(f"{name.replace('_', ' '):>15}" for name in columns))
    for row in rows:
        print(f"{row['model']:<45}" + "".join(f"{row[name]:>15,}" for name in columns))
    return 0


def _whole_numbers(words: list[str], flag: str, *others: str) -> list[Any]:
    """Read numbers and ranges from a command line.

    Raises:
        RecordError: a word is neither, nor one of `others`.
    """
    from srcgcnn.sweep.axes import values_of

    values = values_of(words, flag)
    for value in values:
        if type(value) is not int and value not in others:
            raise RecordError(
                f"{flag}: {value!r} must be {' or '.join(['a whole number', 'a range such as 1..8', *others])}"
            )
    return values


def _ours(
    models: Sequence[str], depths: Sequence[int], blocks: Sequence[int | Literal["all"] | None], outputs: int
) -> list[dict[str, Any]]:
    """Count networks in our sizes, each once."""
    from srcgcnn.models.config import ModelConfig
    from srcgcnn.models.counts import count_parameters

    tied: list[dict[str, Any]] = [{"norm": norm, "alpha": alpha} for norm, alpha in TIED_KINDS]
    rows = {}
    for name in models:
        for kind, distinct, depth in product(tied if name in TIED else [{}], blocks, depths):
            settings = settings_of(name) | ({} if distinct is None else {"blocks": distinct})
            config = ModelConfig(**settings, depth=depth, outputs=outputs, **kind)
            counts = count_parameters(config)
            rows[config.label] = {"conv_params": counts.convolution, "total_params": counts.total}
    return [{"model": label, **counts} for label, counts in rows.items()]


def _published(models: Sequence[str], depths: Sequence[int]) -> list[dict[str, Any]]:
    """Count networks in the sizes of their papers."""
    from srcgcnn.models.published_counts import PUBLISHED_SIZES

    rows = []
    for sizes in (PUBLISHED_SIZES[name] for name in models):
        for depth in depths:
            total, used = sizes.count(depth), sizes.count(depth, unused=False)
            rows.append({"model": sizes.label(depth), "total_params": total, "unused": total - used})
    return rows
