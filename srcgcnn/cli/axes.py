"""Flags for what a sweep varies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srcgcnn.models.published import NAMES

if TYPE_CHECKING:
    import argparse

METAVARS = {
    "models": ("MODEL", f"{' '.join(NAMES)}, or your own network: module:Class"),
    "depths": ("T", "steps T if weights are shared, layers L if not: 1 2 3, or 1..10, or 1,2,3"),
    "blocks": ("K", "distinct blocks, used in cycles: 1 is tied, `all` is stacked"),
    "norms": ("NORM", "step affine shared"),
    "alphas": ("ALPHA", "none | NUMBER | learned | learned-scalar"),
    "layer-norms": ("BOOL", "true false"),
    "widths": ("F", "widths of the atom states"),
    "train-sizes": ("N", "numbers of training rows, and `all`: for learning curves"),
    "seeds": ("N", "one number: seeds 0 .. N-1; several, or 3..5: these seeds"),
    "split-seeds": ("N", "the same for splits"),
}


def add_axis_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of all axes."""
    group = parser.add_argument_group("what is varied")
    for name, (metavar, text) in METAVARS.items():
        group.add_argument(f"--{name}", nargs="+", metavar=metavar, help=text)
    group.add_argument(
        "--axis",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="any other field of a trial, such as: --axis training.weight_decay 0 0.01",
    )
    group.add_argument(
        "--match",
        nargs=2,
        metavar=("COUNT", "VARIANT"),
        help="widths for equal conv_params or total_params, such as: --match conv_params 'SR-CGCNN T=3 step-norm'",
    )


def axes_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the given axes as a block of a sweep definition.

    Raises:
        RecordError: a range is too long, or an axis has no values.
    """
    from srcgcnn.records import RecordError
    from srcgcnn.sweep.axes import values_of

    found: dict[str, Any] = {}
    for name in METAVARS:
        words = getattr(options, name.replace("-", "_"))
        if words is not None:
            values = values_of(words, f"--{name}")
            count = name in ("seeds", "split-seeds") and len(words) == 1 and words[0].lstrip("-").isdigit()
            found[name.replace("-", "_")] = values[0] if count else values
    for name, *words in options.axis:
        if not words:
            raise RecordError(f"--axis {name}: give values, such as --axis training.weight_decay 0 0.01")
        found[name] = values_of(words, f"--axis {name}")
    if options.match:
        by, of = options.match
        found["match"] = {"by": by, "of": of}
    return found
