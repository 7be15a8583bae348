"""The command `srcgcnn jarvis`: train a task of JARVIS-Leaderboard and write a contribution."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_command
from srcgcnn.cli.recipe import TRAINING, add_recipe_flags, read_recipe, this_machine

if TYPE_CHECKING:
    import argparse


def add_jarvis_command(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    task = "AI-SinglePropertyPrediction-formation_energy_peratom-dft_3d-test-mae"
    parser = add_command(
        commands,
        "jarvis",
        "train a JARVIS-Leaderboard task and write a contribution",
        _jarvis,
        description="Train on the split of a task, and write the folder that JARVIS-Leaderboard takes: predictions, "
        "metadata and run script. The split is a file of the package jarvis-leaderboard (pip install --no-deps "
        "jarvis-leaderboard), or --benchmark; the crystals are those of jarvis-tools, or --data.",
        examples=f"srcgcnn jarvis {task} --seeds 5 --team Us --email us@example.org --url https://example.org",
    )
    parser.add_argument("task", metavar="TASK", help=f"{task}, for example")
    parser.add_argument("--team", required=True, metavar="NAME", help="team or method, as the leaderboard shows it")
    parser.add_argument("--email", required=True, metavar="ADDRESS", help="of the author; the leaderboard publishes it")
    parser.add_argument("--url", required=True, metavar="URL", help="publication or page of the method")
    parser.add_argument("--benchmark", type=Path, metavar="FILE", help="the task's file, DATASET_PROPERTY.json.zip")
    parser.add_argument("--data", metavar="SOURCE", help="where the crystals are (default: jarvis:DATASET)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/jarvis"), help="folder of the contribution and its sweeps"
    )
    add_recipe_flags(parser)


def _jarvis(options: argparse.Namespace) -> int:
    from srcgcnn.leaderboards.jarvis_contribution import Author, add_task, check_folder
    from srcgcnn.leaderboards.jarvis_task import find_task

    author = Author(options.team, options.email, options.url)
    task = find_task(options.task, options.benchmark)
    from srcgcnn.cli.building import ShownBuilder
    from srcgcnn.cli.extras import require
    from srcgcnn.cli.launch import Launch, launch
    from srcgcnn.data.store import GraphStore
    from srcgcnn.definitions import find_definition
    from srcgcnn.leaderboards.recipe import few, plan_recipe
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.prepare import build_data

    require("sweep")
    site = this_machine(options)
    data = options.data or f"jarvis:{task.dataset}"
    spec = read_recipe(options, {"source": data, "target": task.target})
    contribution, paths = options.out / "contribution", RunPaths(options.out / task.name)
    found = build_data(task.source(data), spec.data, options.stores, ShownBuilder())
    store = GraphStore(found.folder)
    lists = task.lists(store, spec)
    run = plan_recipe(spec, task.name, lists, found.reference, paths, site.trials_per_group)
    check_folder(contribution, run)  # another recipe there is reported before training
    if missing := task.missing(store):
        print(f"not in {data}: {len(missing):,} of the task's training and validation crystals ({few(missing)})")
    status = launch(run.plan, found, Launch(paths, site, options.command_line, options.tracking_uri))
    if status:
        return status
    recipe = find_definition("sweeps", options.sweep).read_text(encoding="utf-8")
    score = add_task(contribution, task, run, paths, author, recipe, _recipe_flags(options), store.manifest.provenance)
    unit = found.reference.unit
    print(
        f"{task.name}: MAE {score:.4f}{f' {unit}' if unit else ''} on {len(task.test):,} test crystals; copy "
        f"{contribution} to jarvis_leaderboard/contributions/ under a name of your choice"
    )
    return 0


def _recipe_flags(options: argparse.Namespace) -> list[str]:
    """Return what the command line changed of the recipe."""
    flags: list[str] = []
    for name in ("data", "model", "depth", "seeds", *TRAINING):
        value = getattr(options, name)
        if value is not None:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags
