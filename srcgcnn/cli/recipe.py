"""What commands for leaderboards have in common: one recipe, trained on this machine on a split that is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.models.published import NAMES
from srcgcnn.tracking.uri import tracking_uri

if TYPE_CHECKING:
    import argparse

    from srcgcnn.launch.site import Site
    from srcgcnn.sweep.spec import SweepSpec

TRAINING = ("epochs", "batch_size", "learning_rate")


def add_recipe_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a recipe, and of where it is trained."""
    parser.add_argument(
        "--sweep", default="matbench", metavar="NAME", help="recipe: NAME of sweeps/NAME.toml, or a file"
    )
    parser.add_argument("--stores", type=Path, default=Path("stores"), help="where graph stores are kept")
    parser.add_argument("--cluster", default="local", help="site of kind local: NAME of cluster/NAME.toml, or a file")
    parser.add_argument(
        "--tracking-uri", type=tracking_uri, metavar="URI", help="MLflow store (default: SQLite in the sweep's folder)"
    )
    parser.add_argument("--model", metavar="MODEL", help=" ".join(NAMES))
    parser.add_argument("--depth", type=int, metavar="T", help="steps T, or layers L if they share no weights")
    parser.add_argument("--seeds", type=int, metavar="N", help="networks whose mean prediction is recorded")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)


def read_recipe(options: argparse.Namespace, data: dict[str, str]) -> SweepSpec:
    """Read the recipe, with the flags on top and these data in place of its own, and check it.

    Raises:
        LeaderboardError: it is not one network on one split, or may see test crystals.
    """
    from srcgcnn.definitions import find_definition
    from srcgcnn.leaderboards.recipe import check_recipe
    from srcgcnn.sweep.spec import read_spec

    axes = {
        "models": options.model and [options.model],
        "depths": options.depth and [options.depth],
        "seeds": options.seeds,
    }
    training = {name: getattr(options, name) for name in TRAINING}
    overrides: dict[str, Any] = {
        "data": data,
        "axes": {name: value for name, value in axes.items() if value is not None},
        "training": {name: value for name, value in training.items() if value is not None},
    }
    spec = read_spec(find_definition("sweeps", options.sweep), overrides)
    check_recipe(spec)
    return spec


def this_machine(options: argparse.Namespace) -> Site:
    """Return the site of --cluster.

    Raises:
        ValueError: it is not this machine.
    """
    from srcgcnn.launch.site import site_named

    site = site_named(options.cluster)
    if site.kind != "local":
        raise ValueError(f"--cluster {options.cluster}: this is trained on this machine; give a site of kind local")
    return site
