"""Figures of a study: depth, cost, differences, parity, learning curves, damping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from srcgcnn.analysis.pareto import on_front
from srcgcnn.analysis.style import DOUBLE_INCHES, GREY, SINGLE_INCHES, Drawing, colour_of, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from srcgcnn.analysis.comparison import Comparison
    from srcgcnn.analysis.study import Study

COSTS = {
    "conv_parameters": ("convolution parameters", 1.0),
    "total_parameters": ("all parameters", 1.0),
    "seconds": ("training time per trial (s)", 1.0),
    "memory_mb": ("peak memory (GiB)", 1 / 1024),
}
MOST_PANELS = 12
MOST_NAMES = 16  # beside a panel; of more variants those on the front are named
INTERVAL = "95 % interval, as in the table"
BAND = f"bands: {INTERVAL}; small points: single trials"


def draw_depth(study: Study) -> Drawing:
    """Test error against depth, one line per norm, damping and model."""
    figure = new_figure(SINGLE_INCHES * 1.25, 2.9)
    axes = figure.add_subplot()
    rows = []
    for number, (line, (colour, marker)) in enumerate(colour_of(study.lines).items()):
        table = study.line_of(line)
        places = table["depth"] + 0.06 * (number - (len(study.lines) - 1) / 2)  # lines that meet stay visible
        intervals = [study.interval(name) for name in table["variant"]]
        low, high = (np.array([getattr(each, end) for each in intervals]) for end in ("low", "high"))
        means = [each.mean for each in intervals]
        axes.fill_between(places, low, high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(places, means, marker=marker, color=colour, label=line, zorder=3)
        for name, place in zip(table["variant"], places, strict=True):
            single = study.repeats(name).seed_means
            axes.plot([place] * len(single), single, ".", color=colour, markersize=2.5, alpha=0.7)
        rows.append(table[["line", "variant", "depth"]].assign(line=line, mean=means, low=low, high=high))
    axes.set_xlabel("depth: recurrent steps T, or layers L")
    axes.set_ylabel(f"test {study.quantity}")
    axes.set_xticks(sorted(study.variants["depth"].unique()))
    axes.legend()
    return Drawing("depth", f"Test error against depth. {BAND}.", figure, pd.concat(rows))


def draw_pareto(study: Study) -> Drawing:
    """Error against costs; the front is joined, dominated variants are grey.

    Memory only on a GPU: on a CPU it is the largest resident size of a process that also trained other trials.
    """
    table = study.variants.copy()
    intervals = [study.interval(name) for name in table["variant"]]
    table["mean"] = [each.mean for each in intervals]
    table["half_width"] = [each.half_width for each in intervals]
    styles = colour_of(study.lines)
    costs_known = {name: cost for name, cost in COSTS.items() if name != "memory_mb" or study.on_gpu}
    rows, columns = (2, 2) if len(costs_known) > 3 else (1, 3)
    figure = new_figure(DOUBLE_INCHES, 2.5 * rows + 0.4)
    panels = figure.subplots(rows, columns, sharey=True).ravel()
    for axes, letter, (column, (label, scale)) in zip(panels, "abcd", costs_known.items(), strict=False):
        costs = table[column].to_numpy(dtype=float) * scale
        table[f"{column}_front"] = front = on_front(costs, table["mean"].to_numpy())
        order = np.argsort(costs[front])
        axes.step(costs[front][order], table["mean"][front].to_numpy()[order], where="post", color="black", lw=0.8)
        for row, cost, best in zip(table.itertuples(), costs, front, strict=True):
            colour, marker = styles[row.line]
            colour = colour if best else GREY
            half = None if np.isnan(row.half_width) else row.half_width
            axes.errorbar(cost, row.mean, half, fmt=marker, color=colour, capsize=2, elinewidth=0.8)
        axes.set_xlabel(label)
        if column.endswith("parameters"):
            axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.locator_params(axis="x", nbins=4)
        axes.margins(x=0.08, y=0.08)
        axes.set_title(letter, loc="left", fontweight="bold")
        letters = [study.depth_letter(line) for line in table["line"]]
        _name_points(axes, table.assign(cost=costs, front=front, letter=letters))
    for axes in panels[::columns]:
        axes.set_ylabel(f"test {study.quantity}")
    handles = [panels[0].plot([], [], marker, color=colour, label=line)[0] for line, (colour, marker) in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    caption = (
        "Error against cost. Black steps: Pareto front of the means; grey: dominated. Bars: "
        f"{INTERVAL}. At the right the depths (of more than {MOST_NAMES} points, those on the front). Time is that of "
        "the machine named below."
    )
    return Drawing("pareto", caption, figure, table.drop(columns=["val_error", "test_error"]))


def _name_points(axes: Axes, table: pd.DataFrame) -> None:
    """Write the depths in a column beside the panel, as near to the height of their points as their size allows."""
    from scipy.optimize import isotonic_regression

    named = (table if len(table) <= MOST_NAMES else table[table["front"]]).sort_values(["mean", "cost"])
    low, high = axes.get_ylim()
    gaps = np.arange(len(named)) / MOST_NAMES
    heights = (named["mean"].to_numpy() - low) / (high - low)
    places = isotonic_regression(heights - gaps).x.clip(0, max(0, 1 - gaps[-1])) + gaps
    for row, place in zip(named.itertuples(), places, strict=True):
        axes.annotate(
            f"{row.letter} = {row.depth}",
            (row.cost, row.mean),
            xytext=(1.03, place),
            textcoords="axes fraction",
            fontsize=6.5,
            va="center",
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6, "ls": ":", "shrinkB": 3, "relpos": (0, 0.5)},
            zorder=0,
        )


def draw_differences(study: Study, comparisons: Sequence[Comparison], margin: float) -> Drawing:
    """Differences from the reference with their intervals."""
    figure = new_figure(SINGLE_INCHES * 1.4, 0.8 + 0.27 * len(comparisons))
    axes = figure.add_subplot()
    places = range(len(comparisons))
    axes.axvline(0, color="black", lw=0.6)
    axes.axvspan(-margin, margin, color=GREY, alpha=0.18, lw=0)
    for place, one in zip(places, comparisons, strict=True):
        half = one.difference.half_width if one.difference.known else None
        clear = one.verdict in ("worse", "better")
        axes.errorbar(
            one.difference.mean,
            place,
            xerr=half,
            fmt="o",
            capsize=2,
            color="#0072B2",
            markerfacecolor="#0072B2" if clear else "white",
        )
    axes.set_yticks(list(places), [one.variant for one in comparisons])
    axes.invert_yaxis()
    unit = "error rate" if study.task == "classification" else study.unit
    axes.set_xlabel(f"test error minus that of {comparisons[0].reference} ({unit})")
    caption = (
        f"Paired differences from {comparisons[0].reference} (lowest validation error). Bars: 95 % interval for new "
        f"seeds and crystals, not corrected; filled: significant at 5 % after Holm's correction; grey: ± {margin:.3g}."
    )
    columns = ("variant", "reference", "effect", "p_value", "p_corrected", "seeds", "verdict")
    data = pd.DataFrame([{name: getattr(one, name) for name in columns} for one in comparisons])
    ends = [(one.difference.mean, one.difference.low, one.difference.high) for one in comparisons]
    data[["difference", "low", "high"]] = ends
    return Drawing("differences", caption, figure, data)


def draw_parity(study: Study) -> Drawing | None:
    """Prediction against target on the test set, one panel per variant; None without predictions."""
    names, frames = [], []
    for name in study.variants["variant"]:
        tables = {result.key: study.predictions(result.key) for result in study.members[name]}
        found = [table.assign(key=key) for key, table in tables.items() if table is not None]
        if found:
            names.append(str(name))
            frames.append(pd.concat(found).assign(variant=name))
    if not names or study.task == "classification":
        return None
    data, left_out = pd.concat(frames, ignore_index=True), names[MOST_PANELS:]
    names, frames = names[:MOST_PANELS], frames[:MOST_PANELS]
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = new_figure(DOUBLE_INCHES * columns / 3 + 0.4, 2.2 * lines + 0.2)
    panels = np.atleast_1d(figure.subplots(lines, columns, sharex=True, sharey=True)).ravel()
    low, high = data[["target", "prediction"]].min().min(), data[["target", "prediction"]].max().max()
    low, high = low - 0.03 * (high - low), high + 0.03 * (high - low)
    drawn: Any = None
    for axes, name, frame in zip(panels, names, frames, strict=False):
        drawn = axes.hexbin(
            frame["target"],
            frame["prediction"],
            gridsize=40,
            extent=(low, high, low, high),
            bins="log",
            mincnt=1,
            vmin=1,
            cmap="viridis_r",
            linewidths=0.1,
            rasterized=True,
        )
        axes.plot([low, high], [low, high], color="black", lw=0.6)
        interval = study.interval(name)
        spread = f" ± {interval.half_width:.3f}" if interval.known else ""
        axes.set_title(f"{name}\nMAE {interval.mean:.3f}{spread}", loc="left", fontsize=7)
        axes.set_aspect("equal")
    for axes in panels[len(names) :]:
        axes.remove()
    unit = study.unit
    figure.supxlabel(f"target ({unit})", fontsize=8)
    figure.supylabel(f"prediction ({unit})", fontsize=8)
    figure.colorbar(drawn, ax=list(panels[: len(names)]), label="predictions per bin, all seeds", shrink=0.7, aspect=30)
    caption = "Test set: prediction against target, all seeds together. MAE ± 95 % interval for new seeds and crystals."
    if left_out:
        caption += f" Not drawn, but in the data: {', '.join(left_out)}."
    return Drawing("parity", caption, figure, data)


def draw_curves(study: Study) -> Drawing:
    """Validation error per epoch: mean over trials and their range, one panel per line."""
    lines = study.lines
    columns = min(3, len(lines))
    rows = -(-len(lines) // columns)
    figure = new_figure(max(SINGLE_INCHES, DOUBLE_INCHES * columns / 3), 2.5 * rows)
    panels = np.atleast_1d(figure.subplots(rows, columns, sharey=True)).ravel()
    by_key = {result.key: result.curves for result in study.results}
    data = []
    for axes, line in zip(panels, lines, strict=False):
        table = study.line_of(line)
        for name, (colour, _) in colour_of(list(table["variant"])).items():
            keys = study.trials.loc[study.trials["variant"] == name, "key"]
            frame = pd.DataFrame({key: pd.Series(by_key[key].val_error) for key in keys})
            epochs = frame.index + 1
            axes.fill_between(epochs, frame.min(axis=1), frame.max(axis=1), color=colour, alpha=0.18, lw=0)
            depth = int(table.loc[table["variant"] == name, "depth"].iloc[0])
            axes.plot(epochs, frame.mean(axis=1), color=colour, lw=1, label=f"{depth}")
            data.append(frame.melt(var_name="key", value_name="val_error", ignore_index=False).assign(variant=name))
        axes.set(xlabel="epoch", yscale="log", title=line)
        axes.legend(title="T or L", ncols=2)
    panels[0].set_ylabel(f"validation {study.quantity}")
    for axes in panels[len(lines) :]:
        axes.remove()
    caption = "Learning curves on the validation set: mean over trials, band from the lowest to the highest trial."
    return Drawing("curves", caption, figure, pd.concat(data).rename_axis("epoch").reset_index())


def draw_alphas(study: Study) -> Drawing | None:
    """Learned damping per step; None where nothing was learned."""
    learned = [one for one in study.results if str(one.config.model.alpha).startswith("learned") and one.alphas]
    if not learned:
        return None
    data = pd.DataFrame(
        {"variant": study.labels[one.config.variant], "key": one.key, "step": step + 1, "alpha": alpha}
        for one in learned
        for step, alpha in enumerate(one.alphas)
    )
    figure = new_figure(SINGLE_INCHES * 1.25, 2.7)
    axes = figure.add_subplot()
    for name, (colour, marker) in colour_of(sorted(data["variant"].unique())).items():
        chosen = data[data["variant"] == name]
        axes.plot(chosen["step"], chosen["alpha"], marker, color=colour, alpha=0.4, markersize=3)
        means = chosen.groupby("step")["alpha"].mean()
        axes.plot(means.index, means, color=colour, marker=marker, label=name)
    axes.axhline(0.7311, color=GREY, lw=0.8, ls="--")  # sigmoid(1), where training starts
    axes.set(xlabel="step t", ylabel="damping α (no unit)", ylim=(0, 1))
    axes.set_xticks(sorted(data["step"].unique()))
    axes.legend(fontsize=6)
    return Drawing("alphas", "Learned damping per step; dashed: where training starts (0.731).", figure, data)
