"""The command `srcgcnn matbench`: train one fold of a task and record it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_command
from srcgcnn.cli.recipe import add_recipe_flags, read_recipe, this_machine

if TYPE_CHECKING:
    import argparse

    from srcgcnn.leaderboards.matbench_record import Fold
    from srcgcnn.leaderboards.matbench_task import MatbenchTask


def add_matbench_command(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser = add_command(
        commands,
        "matbench",
        "train and record a fold of a matbench task",
        _matbench,
        description="Train on one fold with matbench's own split, and write the record that matbench reads. The data "
        "are read from $MATMINER_DATA/TASK.json.gz.",
        examples="srcgcnn matbench matbench_jdft2d --fold 0 --depth 3 --seeds 5",
    )
    parser.add_argument("task", metavar="TASK", help="matbench_mp_e_form, for example")
    parser.add_argument("--fold", type=int, required=True, metavar="K", help="0 to 4")
    parser.add_argument("--out", type=Path, help="folder of the record and its folds (default: runs/TASK)")
    add_recipe_flags(parser)


def _matbench(options: argparse.Namespace) -> int:
    from srcgcnn.leaderboards.matbench_task import find_task

    task = find_task(options.task)
    task.test_rows(options.fold)  # a wrong number is reported before the graphs are built
    from srcgcnn.cli.building import ShownBuilder
    from srcgcnn.cli.extras import require
    from srcgcnn.cli.launch import Launch, launch
    from srcgcnn.data.store import GraphStore
    from srcgcnn.leaderboards.matbench_fold import fold_record, plan_fold
    from srcgcnn.leaderboards.matbench_record import RECORD_FILE, read_folds, record_fold
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.prepare import find_data

    require("sweep")
    site = this_machine(options)
    spec = read_recipe(options, {"source": f"matbench:{task.name}", "target": task.target, "unit": task.unit})
    out = options.out or Path("runs") / task.name
    record, paths = out / RECORD_FILE, RunPaths(out / f"fold-{options.fold}")
    found = find_data(spec.data, options.stores, ShownBuilder(), strict=False)
    store = GraphStore(found.folder)
    run = plan_fold(task, options.fold, spec, store, found.reference, paths, site.trials_per_group)
    read_folds(record, task, run.recipe)  # another recipe in the record is reported before training
    status = launch(run.plan, found, Launch(paths, site, options.command_line, options.tracking_uri))
    if status:
        return status
    folds = record_fold(record, task, options.fold, fold_record(task, run, store, paths))
    _print_folds(folds, task, record)
    return 0


def _print_folds(folds: dict[str, Fold], task: MatbenchTask, record: Path) -> None:
    from srcgcnn.leaderboards.matbench_task import FOLDS

    for name, fold in sorted(folds.items()):
        values = "  ".join(f"{metric} {value:.4f}" for metric, value in sorted(fold["scores"].items()))
        print(f"{name}  {len(fold['data']):,} crystals  {values}  [{task.unit}; mape: a share]")
    left = sorted({f"fold_{number}" for number in range(FOLDS)} - folds.keys())
    if left:
        print(f"{record}: {len(folds)} of {FOLDS} folds; matbench reads it when {', '.join(left)} are there too")
    else:
        mae = sum(fold["scores"]["mae"] for fold in folds.values()) / FOLDS
        print(f"{record}: all {FOLDS} folds, mean MAE {mae:.4f} {task.unit}; MatbenchBenchmark.from_file reads it")
