"""Figures of a study: depth, differences, parity, curves over epochs and training rows, damping."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from srcgcnn.analysis.baselines import baselines_of
from srcgcnn.analysis.style import (
    DOUBLE_INCHES,
    GREY,
    SINGLE_INCHES,
    Drawing,
    colour_of,
    legend_below,
    new_figure,
    plain_log_ticks,
    wrapped,
)
from srcgcnn.analysis.tradeoff import interval_words
from srcgcnn.run.labels import labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from srcgcnn.analysis.comparison import Comparison
    from srcgcnn.analysis.study import Study
    from srcgcnn.run.training_config import SplitConfig

MOST_PANELS = 12
BAND = "bands: 95 % interval, as in the table; small points: single trials"


def draw_depth(study: Study, names: Sequence[str] = ()) -> Drawing | None:
    """Error against depth on test and training rows, one line per network and recipe; None if no line has two.

    Results of older versions have no training error; if all are of those, there is the test error only.

    Args:
        study: comparable trials.
        names: lines of it; all if none is named.
    """
    lines = {line: study.line_of(line) for line in names or study.lines}
    if all(table["depth"].nunique() < 2 for table in lines.values()):
        return None
    trained = study.variants["train_error"].notna().any()
    figure = new_figure(DOUBLE_INCHES if trained else SINGLE_INCHES * 1.25, 2.9)
    panels = figure.subplots(1, 2 if trained else 1, sharey=True, squeeze=False).ravel()
    rows = []
    for number, (line, style) in enumerate(colour_of(list(lines)).items()):
        places = lines[line]["depth"] + 0.06 * (number - (len(lines) - 1) / 2)  # lines that meet stay visible
        ends = _draw_errors(panels[0], study, lines[line], places, line, style)
        if trained:
            _draw_training(panels[1], study, lines[line], places, style)
        rows.append(lines[line][["variant", "depth", "train_error"]].assign(line=line, **ends))
    for axes, what, letter in zip(panels, ("test", "training"), "ab", strict=False):
        axes.set_xlabel("depth: recurrent steps T, or layers L")
        axes.set_ylabel(f"{what} {study.quantity}")
        axes.set_xticks(sorted(pd.concat(lines.values())["depth"].unique()))
        axes.tick_params(labelleft=True)
        axes.set_title(letter if trained else "", loc="left", fontweight="bold")
    legend_below(figure, *panels[0].get_legend_handles_labels())
    of_training = " b: the same weights on the training rows, mean over trials." if trained else ""
    caption = f"Error against depth, {'a: ' if trained else ''}test rows, {BAND}.{of_training}"
    return Drawing("depth", caption, figure, pd.concat(rows))


def _draw_errors(
    axes: Axes, study: Study, table: pd.DataFrame, places: pd.Series, label: str, style: tuple[str, str]
) -> dict[str, Any]:
    """Draw a line of test errors with its band and its single trials; returns mean, low and high."""
    colour, marker = style
    intervals = [study.interval(name) for name in table["variant"]]
    ends = {end: np.array([getattr(each, end) for each in intervals]) for end in ("mean", "low", "high")}
    axes.fill_between(places, ends["low"], ends["high"], color=colour, alpha=0.16, linewidth=0)
    axes.plot(places, ends["mean"], marker=marker, color=colour, label=label, zorder=3)
    for name, place in zip(table["variant"], places, strict=True):
        single = study.repeats(name).seed_means
        axes.plot([place] * len(single), single, ".", color=colour, markersize=2.5, alpha=0.7)
    return ends


def _draw_training(axes: Axes, study: Study, table: pd.DataFrame, places: pd.Series, style: tuple[str, str]) -> None:
    """Draw a line of training errors and its single trials."""
    colour, marker = style
    axes.plot(places, table["train_error"], marker=marker, color=colour, zorder=3)
    for name, place in zip(table["variant"], places, strict=True):
        single = study.trials.loc[study.trials["variant"] == name, "train_error"]
        axes.plot([place] * len(single), single, ".", color=colour, markersize=2.5, alpha=0.7)


def draw_train_sizes(study: Study) -> Drawing | None:
    """Test error against the number of training rows, one line per variant; None if they did not differ."""
    rows = [
        {"variant": name, "network": _without_size(study, name), "rows": study.members[name][0].rows[0]}
        for name in study.variants["variant"]
    ]
    table = pd.DataFrame(rows).merge(study.variants[["variant", "train_error"]], on="variant")
    if table["rows"].nunique() < 2:
        return None
    figure = new_figure(DOUBLE_INCHES, 2.9)
    panels = figure.subplots(1, 2)
    ends = []
    for (network, group), style in zip(table.groupby("network", sort=False), _styles(table["network"]), strict=True):
        line = group.sort_values("rows")
        ends.append(line.assign(**_draw_errors(panels[0], study, line, line["rows"], str(network), style)))
        _draw_training(panels[1], study, line, line["rows"], style)
    for axes, what, letter in zip(panels, ("test", "training"), "ab", strict=True):
        axes.set(xlabel="training rows", ylabel=f"{what} {study.quantity}", xscale="log", yscale="log")
        axes.set_title(letter, loc="left", fontweight="bold")
        plain_log_ticks(axes, sorted(table["rows"].unique()))
    for split, size in _splits_of(study).items():
        for number, baseline in enumerate(baselines_of(study, split)[1:]):
            label = "linear on composition" if size == table["rows"].max() and not number else None
            panels[0].plot(size, baseline.test.mean, "_", color=GREY, markersize=9, label=label)
    legend_below(figure, *panels[0].get_legend_handles_labels())
    caption = (
        f"Learning curves: error against training rows; validation and test rows stay the same. a: test rows, {BAND}. "
        "b: the same weights on the training rows."
    )
    return Drawing("train_sizes", caption, figure, pd.concat(ends))


def _styles(names: pd.Series) -> list[tuple[str, str]]:
    return list(colour_of(list(dict.fromkeys(names))).values())


def _without_size(study: Study, name: str) -> str:
    """Name a variant among those that share its training rows, that is without their number."""
    variant = study.named[name]
    split = replace(variant.training.split, train_size=None)
    all_rows = [
        replace(one, training=replace(one.training, split=replace(one.training.split, train_size=None)))
        for one in study.labels
    ]
    return labels_of(all_rows)[replace(variant, training=replace(variant.training, split=split))]


def _splits_of(study: Study) -> dict[SplitConfig, int]:
    return {result.config.training.split: result.rows[0] for result in study.results}


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
    reference = comparisons[0].reference
    label = f"test error minus that of {reference} ({unit})"
    figure.supxlabel(wrapped(label, figure), fontsize=8)  # below names too: there is more room than below the panel
    chosen = " (lowest validation error)" if reference == study.best else ""
    caption = (
        f"Paired differences from {reference}{chosen}; positive is worse. Given as "
        f"{interval_words(one.difference for one in comparisons)}, not corrected; filled: significant at 5 % after "
        f"Holm's correction; grey: ± {margin:.3g}."
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
    words = interval_words(study.interval(name) for name in names)
    caption = f"Test set: prediction against target, all seeds together. MAE: {words}."
    if left_out:
        caption += f" Not drawn, but in the data: {', '.join(left_out)}."
    return Drawing("parity", caption, figure, data)


def draw_curves(study: Study) -> Drawing | None:
    """Validation error per epoch: mean over trials and their range, one panel per line; None for one of several."""
    lines = study.lines
    if not any(result.curves.val_error for result in study.results):
        return None
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
            frame.index += 1  # epochs are counted from 1
            axes.fill_between(frame.index, frame.min(axis=1), frame.max(axis=1), color=colour, alpha=0.18, lw=0)
            depth = int(table.loc[table["variant"] == name, "depth"].iloc[0])
            axes.plot(frame.index, frame.mean(axis=1), color=colour, lw=1, label=f"{depth}")
            data.append(frame.melt(var_name="key", value_name="val_error", ignore_index=False).assign(variant=name))
        axes.set(xlabel="epoch", yscale="log", title=line)
        axes.legend(title="T or L", ncols=2)
    panels[0].set_ylabel(f"validation {study.quantity}")
    for axes in panels[len(lines) :]:
        axes.remove()
    caption = "Learning curves on the validation set: mean over trials, band from the lowest to the highest trial."
    return Drawing("curves", caption, figure, pd.concat(data).rename_axis("epoch").reset_index())


def draw_alphas(study: Study) -> Drawing | None:
    """Learned damping per step; None if nothing was learned."""
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
