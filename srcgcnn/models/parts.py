"""What the parts of a network are called: in weights, model files and lists of frozen parts. No torch here."""

from __future__ import annotations

PARTS = (
    "embedding",
    "entry",
    "entry_norms",
    "blocks",
    "norms",
    "correction",
    "alpha_logits",
    "layer_norm",
    "pool",
    "head",
)
EARLIER = {"linears": "blocks"}  # versions that knew the convolution of CGCNN only


def current_name(name: str) -> str:
    """Return the name of a part or weight, given that of any version."""
    first, dot, rest = name.partition(".")
    return EARLIER.get(first, first) + dot + rest
