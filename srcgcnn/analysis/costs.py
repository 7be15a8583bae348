"""Figures of error against cost: the one that the page opens with, other costs, and widths at equal depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from srcgcnn.analysis.pareto import shown_front
from srcgcnn.analysis.point_names import name_points
from srcgcnn.analysis.style import (
    DOUBLE_INCHES,
    GREY,
    SINGLE_INCHES,
    Drawing,
    colour_of,
    legend_below,
    new_figure,
    plain_log_ticks,
)
from srcgcnn.run.labels import by_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from srcgcnn.analysis.baselines import Baseline
    from srcgcnn.analysis.study import Study

COSTS = {
    "total_parameters": ("all parameters", 1.0),
    "seconds": ("training time per trial (s)", 1.0),
    "memory_mb": ("peak memory (GiB)", 1 / 1024),
}
MOST_NAMES = 16  # in a panel
NEAR = 1.4  # a baseline within this factor of the worst variant is drawn, not only listed
FRONT = "Black steps: every variant on them is significantly better than the one before (paired, 5 %, corrected)"
NO_FRONT = (
    "No steps are drawn: of the variants that have the lowest mean error for their size, none is significantly better "
    "than the smallest (paired, 5 %, corrected)"
)
NAMES = f"Names: depth, where there is room; of more than {MOST_NAMES} points, those on the front and the best one"
BARS = "Bars: 95 % interval, as in the table"


def draw_tradeoff(study: Study, baselines: Sequence[Baseline]) -> Drawing:
    """Error against convolution parameters: the figure that the page opens with, and one for a paper."""
    table = _points(study, "conv_parameters")
    figure = new_figure(SINGLE_INCHES * 1.05, 2.75)
    axes = figure.add_subplot()
    front = _draw_points(axes, study, table)
    highest = float(np.nanmax(np.append(table["mean"] + table["half_width"], table["mean"])))
    levels = []
    for baseline, dashes in zip(baselines, (":", "--"), strict=False):
        if baseline.test.mean < NEAR * highest:
            axes.axhline(baseline.test.mean, color=GREY, lw=0.9, ls=dashes, label=baseline.name, zorder=0)
            levels.append(baseline.test.mean)
    axes.set_xlabel("convolution parameters")
    axes.set_ylabel(f"test {study.quantity}")
    legend_below(figure, *axes.get_legend_handles_labels(), markerscale=0.8)
    _name_points(axes, study, table, front, levels)
    caption = f"Error against convolution parameters. {BARS}. {FRONT if len(front) > 1 else NO_FRONT}. {NAMES}."
    return Drawing("tradeoff", caption, figure, table.assign(front=table["variant"].isin(front)))


def draw_pareto(study: Study) -> Drawing:
    """Error against other costs.

    Memory only on a GPU: on a CPU it is the largest resident size of a process that also trained other trials.
    """
    known = {name: cost for name, cost in COSTS.items() if name != "memory_mb" or study.on_gpu}
    figure = new_figure(DOUBLE_INCHES, 2.9)
    panels = np.atleast_1d(figure.subplots(1, len(known), sharey=True))
    tables, fronts = [], []
    for axes, letter, (column, (label, scale)) in zip(panels, "abc", known.items(), strict=False):
        table = _points(study, column, scale)
        front = _draw_points(axes, study, table)
        axes.set_xlabel(label)
        axes.set_title(letter, loc="left", fontweight="bold")
        fronts.append(front)
        tables.append(table.assign(cost_is=column, front=table["variant"].isin(front)))
    panels[0].set_ylabel(f"test {study.quantity}")
    legend_below(figure, *panels[0].get_legend_handles_labels())
    for axes, table, front in zip(panels, tables, fronts, strict=True):
        _name_points(axes, study, table, front)
    caption = (
        f"Error against other costs. {BARS}. {FRONT}; none if only the cheapest would be on them. {NAMES}. "
        "Time is that of the machine named below."
    )
    return Drawing("pareto", caption, figure, pd.concat(tables))


def draw_widths(study: Study) -> Drawing | None:
    """Error against convolution parameters at equal depth, one line per network; None if no depth has two widths."""
    table = _points(study, "conv_parameters")
    models = {name: study.named[name].model for name in table["variant"]}
    table["width"] = [models[name].hidden_channels for name in table["variant"]]
    table["depth"] = [models[name].depth for name in table["variant"]]
    table = table[table.groupby("depth")["width"].transform("nunique") > 1]
    if table.empty:
        return None
    depths = sorted(table["depth"].unique())
    columns = min(3, len(depths))
    lines = -(-len(depths) // columns)
    figure = new_figure(max(SINGLE_INCHES * 1.2, DOUBLE_INCHES * columns / 3), 2.5 * lines + 0.3)
    panels = np.atleast_1d(figure.subplots(lines, columns, sharey=True)).ravel()
    styles = _family_styles(study)
    for axes, depth in zip(panels, depths, strict=False):
        for family, group in table[table["depth"] == depth].groupby("family"):
            colour, marker = styles[str(family)]
            line = group.sort_values("cost")
            axes.plot(line["cost"], line["mean"], color=colour, lw=0.8)
            _draw_bars(axes, line, colour, marker, str(family))
            for row in line.itertuples():
                axes.annotate(f"{row.width}", (row.cost, row.mean), (3, 4), textcoords="offset points", fontsize=6)
        _log_costs(axes, table.loc[table["depth"] == depth, "cost"])
        axes.set(xlabel="convolution parameters", title=f"depth {depth}")
    for axes in panels[::columns]:
        axes.set_ylabel(f"test {study.quantity}")
    for axes in panels[len(depths) :]:
        axes.remove()
    legend: dict[str, Any] = {}
    for axes in panels[: len(depths)]:
        handles, labels = axes.get_legend_handles_labels()
        legend |= dict(zip(labels, handles, strict=True))
    legend_below(figure, list(legend.values()), list(legend))
    caption = f"Error against parameters at equal depth; numbers at points: width in channels. {BARS}."
    return Drawing("widths", caption, figure, table)


def _points(study: Study, column: str, scale: float = 1.0) -> pd.DataFrame:
    """One row per variant that may be chosen: family, cost, mean error and half width of its interval."""
    table = study.variants[study.variants["variant"].isin(study.peers)]
    intervals = [study.interval(name) for name in table["variant"]]
    points = table[["variant", "line", "depth"]].assign(
        family=[study.families[name] for name in table["variant"]],
        cost=table[column].to_numpy(dtype=float) * scale,
        mean=[each.mean for each in intervals],
        half_width=[each.half_width for each in intervals],
    )
    return points.reset_index(drop=True)


def _draw_points(axes: Axes, study: Study, table: pd.DataFrame) -> list[str]:
    """Draw all points, each in the colour and with the marker of its family, and the front if it is one."""
    for family, (colour, marker) in _family_styles(study).items():
        _draw_bars(axes, table[table["family"] == family], colour, marker, family)
    front = shown_front(study, list(table["variant"]), list(table["cost"]))
    if len(front) > 1:
        steps = table.set_index("variant").loc[front]
        axes.step(steps["cost"], steps["mean"], where="post", color="black", lw=0.8, zorder=1)
    _log_costs(axes, table["cost"])
    axes.margins(y=0.08)
    return front


def _family_styles(study: Study) -> dict[str, tuple[str, str]]:
    return colour_of(sorted(set(study.families.values()), key=by_number))


def _draw_bars(axes: Axes, table: pd.DataFrame, colour: str, marker: str, label: str) -> None:
    if len(table):
        halves = table["half_width"].fillna(0.0)
        style: dict[str, Any] = {"capsize": 2, "elinewidth": 0.8, "linestyle": "none"}
        axes.errorbar(table["cost"], table["mean"], halves, marker=marker, color=colour, label=label, **style)


def _log_costs(axes: Axes, costs: pd.Series) -> None:
    """Make the axis of costs logarithmic, at least a factor of two wide, so that its ticks can be read."""
    low, high = float(costs.min()), float(costs.max())
    if low <= 0:  # a network without message passing has no convolution
        axes.set_xscale("symlog", linthresh=1000)
        return
    widen = max(1.15, (2 * low / high) ** 0.5)
    axes.set(xscale="log", xlim=(low / widen, high * widen))
    plain_log_ticks(axes)


def _name_points(
    axes: Axes, study: Study, table: pd.DataFrame, front: Sequence[str], levels: Sequence[float] = ()
) -> None:
    """Write the depths next to the points; of many points, those of the front and of the best."""
    important = {*front, study.best}
    first = table.assign(later=~table["variant"].isin(important)).sort_values(["later", "mean"])
    few = len(table) <= MOST_NAMES
    names = [_short_name(study, row.variant) if few or not row.later else "" for row in first.itertuples()]
    name_points(axes, first, names, levels)


def _short_name(study: Study, variant: str) -> str:
    """Name a point by its depth, and by its width if widths differ."""
    model = study.named[variant].model
    widths = {one.model.hidden_channels for one in study.named.values()}
    width = f", {model.hidden_channels} ch." if len(widths) > 1 else ""
    return f"{model.depth_letter} = {model.depth}{width}"
