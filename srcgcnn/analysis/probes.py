"""Figure of the depth probes: what each step of message passing does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from srcgcnn.analysis.style import DOUBLE_INCHES, Drawing, colour_of, legend_below, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from srcgcnn.analysis.study import Study
    from srcgcnn.run.trial_result import DepthProbes

MOST_VARIANTS = 8  # as many as there are colours
COLUMNS = 3
PROBES = {
    "size": "size of the states (root mean square)",
    "spread": "spread of the atoms of a crystal",
    "smoothness": "Dirichlet energy / mean square",
    "change": "change in step t, |Δh| / |h|",
    "gradient": "gradient by the states, |∂L/∂h|",
    "exit_error": "if read out after step t",
}
LOGARITHMIC = ("size", "change", "gradient", "exit_error")
EXPLODING = 1.5  # factor a step: two residuals double the states, one residual adds to them
ALIKE = 0.05  # spread below which the atoms of a crystal are nearly one
CAPTION = (
    "What each step does, on validation crystals with the weights of the best epoch: mean over trials, band from the "
    "lowest to the highest. Size of the atoms' states: exploding states grow by a factor with every step. Spread: "
    "variance of the atoms of a crystal over their mean square; 0 means all alike (oversmoothed). Dirichlet energy "
    "over the mean square: the same of neighbours. Change of the states: one that comes to rest goes to 0. Gradient "
    "of the loss by the states after step t, at the start of the first epoch. Error if the readout came after step t;"
    " it was trained for the last one. Beyond that step, where blocks are shared, the network continues as it is, with "
    "norm statistics re-estimated on training rows."
)


def draw_probes(study: Study) -> Drawing | None:
    """Size, spread, Dirichlet energy, change, gradient and early-exit error over steps; None if no trial has them.

    Of more than eight variants those with the lowest validation error are drawn; the data file has all.
    """
    data = probe_table(study)
    if data.empty:
        return None
    ranked = study.variants.sort_values("val_error")["variant"]
    best = [name for name in ranked if name in set(data["variant"])][:MOST_VARIANTS]
    colours = colour_of([name for name in study.variants["variant"] if name in best])
    probes = [name for name in PROBES if data[name].notna().any()]
    figure = new_figure(DOUBLE_INCHES, 2.9 if len(probes) <= COLUMNS else 4.8)
    panels = figure.subplots(-(-len(probes) // COLUMNS), COLUMNS, sharex=True, squeeze=False).flatten()
    for letter, axes, probe in zip("abcdef", panels, probes, strict=False):
        _draw(axes, data, probe, colours)
        axes.set_ylabel(f"{study.quantity} {PROBES[probe]}" if probe == "exit_error" else PROBES[probe])
        axes.set_title(letter, loc="left", fontweight="bold")
    for axes in panels[len(probes) :]:
        axes.remove()
    for axes in panels[max(0, len(probes) - COLUMNS) : len(probes)]:
        axes.set_xlabel("step t (0: embedding)")
    legend_below(figure, *panels[0].get_legend_handles_labels(), most=4, fontsize=6.5)
    return Drawing("probes", " ".join([CAPTION, *told_apart(data)]), figure, data)


def _draw(axes: Axes, data: pd.DataFrame, probe: str, colours: dict[str, tuple[str, str]]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    for name, (colour, marker) in colours.items():
        found = data[(data["variant"] == name) & data[probe].notna()].groupby("step")[probe]
        axes.fill_between(found.mean().index, found.min(), found.max(), color=colour, alpha=0.16, lw=0)
        axes.plot(found.mean(), color=colour, marker=marker, markersize=3, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if probe in LOGARITHMIC:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def told_apart(data: pd.DataFrame) -> list[str]:
    """Say which variants explode and which oversmooth, from means over their trials; nothing of a single step."""
    exploding, alike = [], []
    for name, trials in data[data["trained"]].groupby("variant", sort=False):
        steps = trials.groupby("step")[["size", "spread"]].mean()
        size, spread, last = steps["size"], steps["spread"].iloc[-1], steps.index[-1]
        if last < 2:  # the first step may as well leave the scale of the embedding
            continue
        growth = (size.iloc[-1] / size.iloc[1]) ** (1 / (last - 1))
        exploding += [f"{name} ({growth:.1f})"] if growth >= EXPLODING else []
        alike += [f"{name} ({spread:.2f})"] if spread < ALIKE else []
    sentences = [f"Exploding (factor a step): {', '.join(exploding)}."] if exploding else []
    return sentences + ([f"Oversmoothed (spread after the last step): {', '.join(alike)}."] if alike else [])


def probe_table(study: Study) -> pd.DataFrame:
    """One row per trial and step. Missing is what no step 0 has, what was not trained, and what older versions lacked.

    `gradient` is that of the first epoch.
    """
    variants = dict(zip(study.trials["key"], study.trials["variant"], strict=True))
    rows = [
        {"variant": variants[result.key], "key": result.key, "step": step, **reading}
        for result in study.results
        if result.probes
        for step, reading in enumerate(_readings(result.probes))
    ]
    return pd.DataFrame(rows).astype(dict.fromkeys(PROBES, float)) if rows else pd.DataFrame()


def _readings(probes: DepthProbes) -> list[dict[str, float | bool | None]]:
    columns: dict[str, Sequence[float | None]] = {
        "size": probes.size,
        "spread": probes.spread,
        "smoothness": [
            energy / size**2 if size else None for energy, size in zip(probes.energy, probes.size, strict=True)
        ],
        "change": (None, *probes.change),
        "gradient": probes.gradients[0] if probes.gradients else (),
        "exit_error": (*probes.exit_error, *probes.beyond),
    }
    return [
        {name: values[step] if step < len(values) else None for name, values in columns.items()}
        | {"trained": step < len(probes.spread)}
        for step in range(len(columns["exit_error"]))
    ]
