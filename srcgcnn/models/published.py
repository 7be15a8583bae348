"""Networks of the literature that are a row of settings: a block, its norm, its skip and its readout. No torch here.

The deeper variants (Omee et al., Patterns 3, 100491 (2022)) put differentiable group normalisation in the place of
BatchNorm, and add the input of every step to its result, on top of a residual that the step may have of its own
(`double`). With a normalisation that is nearly the identity, such a state about doubles at every step; the same
networks with one residual (`skip = "residual"`) are the controls of `sweeps/deeper_controls.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from srcgcnn.models.registry import BLOCKS, FAMILIES, block_of


class Network(Protocol):
    """The fields of a `ModelConfig` that identify a row, besides those of its settings."""

    @property
    def family(self) -> str:
        """The block."""


@dataclass(frozen=True)
class Published:
    """One row.

    Attributes:
        title: human-readable name.
        family: the block.
        settings: fields of `ModelConfig` that differ from their defaults.
    """

    title: str
    family: str
    settings: dict[str, Any]


def _deeper(title: str, family: str, readout: str) -> Published:
    block = BLOCKS[family]
    settings = {"norm_kind": "group", "skip": "double" if block.own_residual else "residual", "readout": readout}
    return Published(title, family, settings | ({"inner_skip": True} if block.inner_skips else {}))


PUBLISHED: dict[str, Published] = {
    "deepercgcnn": _deeper("DeeperCGCNN", "cgconv", "mean"),
    "deeperschnet": _deeper("DeeperSchNet", "schnet", "max"),
    "deepermpnn": _deeper("DeeperMPNN", "mpnn", "mean"),
    "deepermegnet": _deeper("DeeperMEGNet", "megnet", "mean"),
    "deepergatgnn": _deeper("DeeperGATGNN", "gatgnn", "attention"),
}
NAMES = (*FAMILIES, *PUBLISHED)


def check_name(name: str) -> None:
    """Check that a network can be requested by this name.

    Raises:
        ValueError: it cannot; the message lists those that can.
    """
    if name not in PUBLISHED:
        try:
            block_of(name)
        except ValueError:
            raise ValueError(
                f"model {name!r} is unknown; known: {', '.join(NAMES)}, or your own: module:Class"
            ) from None


def settings_of(name: str) -> dict[str, Any]:
    """Return the fields of `ModelConfig` that a name stands for, `family` among them."""
    row = PUBLISHED.get(name)
    return {"family": name} if row is None else {"family": row.family, **row.settings}


def title_of(config: Network) -> str | None:
    """Return the title of the row of a network, whatever its depth and tying; None if it has none."""
    row = _row_of(config)
    return None if row is None else row.title


def title_settings(config: Network) -> tuple[str, ...]:
    """Return the fields that the title already states."""
    row = _row_of(config)
    return () if row is None else tuple(row.settings)


def _row_of(config: Network) -> Published | None:
    for row in PUBLISHED.values():
        settings = {name: getattr(config, name) for name in row.settings}
        if (config.family, settings) == (row.family, row.settings):
            return row
    return None
