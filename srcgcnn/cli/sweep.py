"""The command `srcgcnn sweep`: plan, then show or launch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.axes import add_axis_flags, axes_of
from srcgcnn.cli.command import add_budget, add_command
from srcgcnn.tracking.uri import tracking_uri

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from srcgcnn.sweep.spec import SweepSpec

DESCRIPTION = """Train crystal graph networks over depth, normalisation sharing, damping and seeds.

Trials that have a result are not trained again: run the same command after an interruption, or with more seeds or
depths, and only the missing trials run."""
EXAMPLES = """
srcgcnn sweep                                          the built-in demonstration dataset, on this machine
srcgcnn sweep --data my_table.csv.gz --target formation_energy_per_atom --seeds 5
srcgcnn sweep --sweep paper --data my_cgcnn_folder --dry-run --estimate
srcgcnn sweep --cluster slurm --wait                   the same on a SLURM cluster (cluster/slurm.toml)
"""


def add_sweep(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser = add_command(commands, "sweep", "plan and run a sweep", sweep, description=DESCRIPTION, examples=EXAMPLES)
    add_definition_flag(parser)
    add_run_flags(parser)


def add_definition_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag that names a sweep definition."""
    parser.add_argument(
        "--sweep",
        default="depth",
        metavar="NAME",
        help="sweep definition: NAME of sweeps/NAME.toml, such as paper (the published recipe), or a file (depth)",
    )


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say on which data, where and how a definition is run, and what of it is changed."""
    parser.add_argument("--cluster", default="local", help="site: NAME of cluster/NAME.toml, or a .toml file (local)")
    parser.add_argument("--out", type=Path, help="folder of the sweep (default: runs/NAME[-DATA][-TARGET])")
    parser.add_argument("--name", help="name of the sweep")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and what would be submitted, then stop")
    what = "time the first steps of each network on this machine, to say how long the sweep takes"
    parser.add_argument("--estimate", action="store_true", help=f"{what}; with --dry-run, and stop")
    parser.add_argument("--wait", action="store_true", help="on a cluster: stay and show progress until the end")
    parser.add_argument("--gang", action="store_true", help="on a cluster: one job holds the head and all workers")
    add_budget(parser)
    parser.add_argument(
        "--tracking-uri", type=tracking_uri, metavar="URI", help="MLflow store (default: SQLite in OUT)"
    )

    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="SOURCE", help="demo, mp, a file or folder of crystals, a graph store")
    data.add_argument(
        "--target",
        nargs="+",
        action="extend",
        metavar="COLUMN",
        help="target column; with several, one network predicts all of them",
    )
    data.add_argument("--unit", help="unit of the target, a label: nothing is converted")
    data.add_argument("--ids", metavar="FILE", help="only these crystals: one id per line, or the first column")
    data.add_argument("--strict", action="store_true", help="treat bad rows of the source as an error")
    data.add_argument("--stores", type=Path, default=Path("stores"), help="where graph stores are kept")

    add_axis_flags(parser)

    search = parser.add_argument_group("which combinations")
    search.add_argument("--search", metavar="METHOD", help="grid: all (default) | random | tpe | nsga2: proposals")
    search.add_argument("--proposals", type=int, metavar="N", help="proposals of a search in all, repeats included")
    objectives = "what a search minimises: val_error conv_params total_params seconds"
    search.add_argument("--objectives", nargs="+", metavar="NAME", help=objectives)
    search.add_argument("--search-seed", type=int, metavar="N", help="seed of the proposals")
    search.add_argument("--scheduler", metavar="NAME", help="stop variants that fall behind: none | asha | median")
    search.add_argument("--grace-epochs", type=int, metavar="N", help="epochs before which nothing is stopped")

    training = parser.add_argument_group("training")
    usual = "(default: that of the sweep definition)"
    training.add_argument("--epochs", type=int, help=f"length of the recipe {usual}")
    training.add_argument("--batch-size", type=int, help=f"crystals of one step {usual}")
    training.add_argument("--learning-rate", type=float, help=f"at the start; of onecycle the highest {usual}")
    training.add_argument("--task", choices=["regression", "classification"], help="classification: targets 0 and 1")
    training.add_argument(
        "--split", type=Path, metavar="FILE", help="csv with columns id and set: train, validation, test"
    )

    start = parser.add_argument_group("start from trained weights")
    start.add_argument(
        "--init-from", metavar="RUN_OR_MODEL", help="a model file, or a sweep (its best variant and seed)"
    )
    start.add_argument("--init-variant", metavar="LABEL", help="variant, trial or key of that sweep")
    start.add_argument(
        "--init-head", choices=["new", "keep"], help="readout: new from the seed (default), or the file's"
    )
    start.add_argument(
        "--freeze", nargs="+", metavar="PART", help="parts that are not trained: embedding blocks norms head ..."
    )


def overrides_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the given flags in the layout of a sweep definition."""
    from srcgcnn.sweep.split_file import read_split_file

    def given(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    sections = {
        "data": given(source=options.data, target=options.target, unit=options.unit, ids=options.ids),
        "axes": axes_of(options),
        "search": given(
            method=options.search,
            proposals=options.proposals,
            objectives=options.objectives,
            seed=options.search_seed,
        ),
        "scheduler": given(kind=options.scheduler, grace_epochs=options.grace_epochs),
        "start": given(
            model=options.init_from, variant=options.init_variant, head=options.init_head, frozen=options.freeze
        ),
        "network": given(task=options.task),
        "training": given(
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            split=options.split and {"kind": "lists", "lists": read_split_file(options.split)},
        ),
    }
    return {**given(name=options.name), **{name: values for name, values in sections.items() if values}}


def default_folder(name: str, data: str | None = None, targets: Sequence[str] | None = None) -> Path:
    """Return `runs/NAME`, or `runs/NAME-DATA-TARGET` if these do not come from the definition."""
    from srcgcnn.sweep.spec import NAME_CHARACTERS

    parts = (name, Path(data or "").name.split(".")[0], *(targets or ()))
    words = ["".join(char if char in NAME_CHARACTERS else "-" for char in word) for word in parts]
    return Path("runs") / "-".join(word for word in words if word)


def _folder(name: str, options: argparse.Namespace) -> Path:
    """A user's own name stands alone; data given by flags are a separate study."""
    return default_folder(name) if options.name else default_folder(name, options.data, options.target)


def _refuse_flags_of_another_sweep(options: argparse.Namespace, spec: SweepSpec) -> None:
    """Refuse flags that this sweep would not read: whoever forgets `--search` would train all combinations."""
    for needed, flags, there in (
        ("--search METHOD", ("proposals", "objectives", "search_seed"), spec.search.proposes),
        ("--scheduler KIND", ("grace_epochs",), spec.scheduler.stops),
    ):
        given = [f"--{flag.replace('_', '-')}" for flag in flags if getattr(options, flag) is not None]
        if given and not there:
            raise ValueError(f"{', '.join(given)} without {needed}: add it, or leave {given[0]} out")


def sweep(options: argparse.Namespace) -> int:
    """Plan, then show or launch; returns the exit status."""
    from srcgcnn.cli.launch import Launch, prepare_and_launch
    from srcgcnn.definitions import find_definition
    from srcgcnn.launch.site import as_gang, site_named
    from srcgcnn.models.own import permit
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.spec import read_spec

    permit(options.models or ())  # named on this command line
    spec = read_spec(find_definition("sweeps", options.sweep), overrides_of(options))
    _refuse_flags_of_another_sweep(options, spec)
    site = site_named(options.cluster)
    if options.gang:
        site = as_gang(site)
    paths = RunPaths(options.out or _folder(spec.name, options))
    if paths.out.exists() and not paths.out.is_dir():
        raise NotADirectoryError(f"--out {paths.out} is a file; give a folder")
    how = Launch(
        paths,
        site,
        options.command_line,
        options.tracking_uri,
        dry_run=options.dry_run,
        wait=options.wait,
        budget_gpu_hours=options.budget_gpu_hours,
        estimate=options.estimate,
    )
    return prepare_and_launch(spec, options.stores, how, strict=options.strict)
