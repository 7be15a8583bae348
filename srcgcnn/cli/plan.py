"""A plan in readable form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from srcgcnn.data.store import GraphStore
from srcgcnn.models.counts import count_parameters
from srcgcnn.run.folder import open_run
from srcgcnn.run.labels import labels_of
from srcgcnn.sweep.proposals import known_variants, proposals_of
from srcgcnn.sweep.space import Space, Variant, matches_of, without_effect
from srcgcnn.terminal import counted, duration, make_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from srcgcnn.data.manifest import TargetColumn
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import TrialConfig, Variant
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.sweep.prepare import FoundData
    from srcgcnn.sweep.spec import DataSpec, PublishedStatistics


MOST_MATCHES = 20
MOST_SIZES = 4


def show_plan(
    plan: Plan,
    paths: RunPaths,
    found: FoundData,
    sizes: Sequence[str],
    workers: int,
    start: str = "",
    *,
    here: bool = True,
) -> None:
    """Print what a sweep will do.

    Args:
        plan: that of the sweep.
        paths: of its folder.
        found: its data.
        sizes: rows of its splits, such as `360/120/120`.
        workers: how many train side by side.
        start: the weights from which it starts.
        here: whether it would train on this machine.
    """
    console = make_console()
    spec, recipe = plan.spec, plan.spec.training
    console.print(f"sweep {spec.name!r} in {paths.out}", soft_wrap=True)
    if spec.question:
        console.print(f"  {spec.question}", soft_wrap=True)
    console.print(f"  data: {_data_line(found)}", soft_wrap=True)
    for line in _statistics(spec.data, found):
        console.print(f"    {line}", soft_wrap=True)
    console.print(
        f"  training: {counted(recipe.epochs, 'epoch')}, batch {recipe.batch_size}, {recipe.optimizer} "
        f"{recipe.learning_rate:g}, {recipe.schedule}, {recipe.loss}, split {recipe.split.kind}{_listed(sizes)}",
        soft_wrap=True,
    )
    if start:
        console.print(f"  starts from {start}", soft_wrap=True)
    if spec.scheduler.stops:
        rungs = ", ".join(map(str, spec.scheduler.rungs(recipe.epochs))) or "none: the recipe is shorter"
        console.print(f"  scheduler: {spec.scheduler.kind}, variants judged after epochs {rungs}", soft_wrap=True)
    for line in (*_classes(plan, found), *_remarks(plan)):
        console.print(f"  {line}", soft_wrap=True)
    if plan.others and found.manifest is not None:  # before the build nobody knows whose results they are
        console.print(
            f"  {plan.others} results in {paths.results} belong to other data and are left alone", soft_wrap=True
        )
    if spec.search.proposes:
        _show_search(plan, paths, console)
        return
    console.print(_variants(plan))
    repeated = plan.combinations - len(plan.trials)
    console.print(
        counted(len(plan.trials), "trial")
        + (f" ({repeated} of {plan.combinations} combinations repeat another one)" if repeated else "")
        + f", {len(plan.finished)} finished before, {plan.left} to train in {counted(len(plan.groups), 'group')}"
        + (f", {len(plan.failed)} of them failed before" if plan.failed else "")
        + (f", {len(plan.stopped)} stopped early before" if plan.stopped else ""),
        soft_wrap=True,
    )
    console.print(f"expected: {_estimate(plan, workers, here=here)}", soft_wrap=True)
    if plan.cost.timings:  # earlier results of this data
        _show_power(plan, paths)


def _listed(sizes: Sequence[str]) -> str:
    more = f", and {len(sizes) - MOST_SIZES} more" if len(sizes) > MOST_SIZES else ""
    rows = f" ({', '.join(sizes[:MOST_SIZES])}{more} rows to train, validate and test)"
    return rows if sizes else ""


def _remarks(plan: Plan) -> list[str]:
    """Return what is worth knowing of the axes: those without effect, doubtful networks, widths that were matched."""
    return [
        *without_effect(plan.spec),
        *sorted({caution for trial in plan.trials for caution in trial.cautions}),
        *matches_of(plan.spec, MOST_MATCHES),
    ]


def _classes(plan: Plan, found: FoundData) -> list[str]:
    """Return a remark if a target that is a class would train a regression."""
    target, several = found.reference.target, found.reference.targets
    if found.manifest is None or several or all(trial.model.task == "classification" for trial in plan.trials):
        return []
    column = found.manifest.target(target)
    if (column.minimum, column.maximum) != (0, 1) or len(set(GraphStore(found.folder).target(target).tolist())) > 2:
        return []
    return [f"{target} is 0 or 1 in every row: --task classification trains a classifier"]


def _show_power(plan: Plan, paths: RunPaths) -> None:
    """Print what the planned seeds can resolve, from the spread of earlier results."""
    from srcgcnn.analysis.power import power_line

    earlier = [result for result in open_run(paths).results if result.config.data == plan.data]
    line = power_line(earlier, min(len(axes.seeds) for axes in plan.spec.axes))
    if line:
        make_console().print(line, soft_wrap=True)


def _show_search(plan: Plan, paths: RunPaths, console: Console) -> None:
    """Print what a search chooses from, what it minimises, and what is known."""
    spec = plan.spec.search
    space = Space(plan.spec, plan.data)
    console.print(
        f"  search: {spec.method}, {counted(spec.proposals, 'proposal')}, {spec.parallel} at a time, seed {spec.seed}; "
        f"minimises: {', '.join(spec.objectives)} (means over {counted(len(space.seeds), 'trial')} each)",
        soft_wrap=True,
    )
    for name, choices in space.described().items():
        console.print(f"    {name:16} {choices}", soft_wrap=True)
    proposals = proposals_of(plan.spec, plan.data, paths)
    made = sum(not proposal.known for proposal in proposals)
    known = len(known_variants(space, open_run(paths)))
    console.print(
        f"{made} proposals made before, {plan.proposals_left} left; {known} variants of this space are finished, and "
        "cost nothing when proposed",
        soft_wrap=True,
    )
    if "seconds" in spec.objectives:
        console.print("seconds differ from run to run: with them the proposals cannot be reproduced", soft_wrap=True)


def _data_line(found: FoundData) -> str:
    reference, manifest = found.reference, found.manifest
    target = reference.described
    if manifest is None:
        return f"{reference.name}, {target}; graphs are not built yet (finished trials are known after the build)"
    return f"{reference.name}, {manifest.crystals:,} crystals, {target}, store {found.folder} ({reference.data_hash})"


def _statistics(data: DataSpec, found: FoundData) -> list[str]:
    """Our targets next to published ones, if the sweep definition has some."""
    if data.published is None or data.published.target != data.target:
        return []
    lines = [] if data.mp is None else [f"Materials Project: {data.mp}"]
    if found.manifest is not None:
        ours = found.manifest.target(found.reference.target)
        lines.append(f"here: {_spread(found.manifest.crystals, ours)} {found.reference.unit}")
    published = _spread(data.published.crystals, data.published)
    return [*lines, f"{data.published.source}: {published} {found.reference.unit}"]


def _spread(crystals: int, target: TargetColumn | PublishedStatistics) -> str:
    return (
        f"{crystals:,} crystals, mean {target.mean:.3f}, deviation {target.std:.3f}, "
        f"range {target.minimum:.3f} .. {target.maximum:.3f}"
    )


def _variants(plan: Plan) -> Table:
    """One line per variant: counts, seeds and how many are done."""
    table = Table(box=None, pad_edge=True, header_style="dim")
    for heading in ("variant", "also requested as", "conv params", "total params", "trials", "finished"):
        table.add_column(heading, justify="left" if heading in ("variant", "also requested as") else "right")
    variants: dict[Variant, list[TrialConfig]] = {}
    for trial in plan.trials:
        variants.setdefault(trial.variant, []).append(trial)
    labels = labels_of(variants)
    for variant, trials in variants.items():
        label, counts = labels[variant], count_parameters(variant.model)
        requested = set(plan.aliases[trials[0].key]) - {variant.model.label, label}
        done = sum(trial.key in plan.finished for trial in trials)
        also = ", ".join(sorted(requested))
        table.add_row(label, also, f"{counts.convolution:,}", f"{counts.total:,}", str(len(trials)), str(done))
    return table


def _estimate(plan: Plan, workers: int, *, here: bool) -> str:
    if not plan.groups:
        return "nothing is left to train"
    seconds, side_by_side = plan.estimate_s(), plan.estimate_s(workers)
    if seconds is None or side_by_side is None:
        return "unknown before the first steps" + ("; --estimate times some on this machine" if here else "")
    return f"{duration(seconds)} of training in all, {duration(side_by_side)} on {counted(workers, 'worker')}"
