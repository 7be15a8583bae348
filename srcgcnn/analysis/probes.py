"""Figure of the depth probes: what each step of message passing does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from srcgcnn.analysis.style import DOUBLE_INCHES, Drawing, colour_of, new_figure

if TYPE_CHECKING:
    from srcgcnn.analysis.study import Study

MOST_VARIANTS = 8  # as many as there are colours
PROBES = {
    "change": "change of the atoms in step t, |Δh| / |h|",
    "spread": "spread of the atoms of a crystal",
    "exit_error": "if read out after step t",
}


def draw_probes(study: Study) -> Drawing | None:
    """Change, spread and early-exit error against the step; None where no trial recorded them.

    Of more than eight variants those with the lowest validation error are drawn; the data file has all.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    data = probe_table(study)
    if data.empty:
        return None
    ranked = study.variants.sort_values("val_error")["variant"]
    best = [name for name in ranked if name in set(data["variant"])][:MOST_VARIANTS]
    shown = [name for name in study.variants["variant"] if name in best]
    figure = new_figure(DOUBLE_INCHES, 2.9)
    panels = figure.subplots(1, len(PROBES), sharex=True)
    for number, (axes, (probe, label)) in enumerate(zip(panels, PROBES.items(), strict=True)):
        for name, (colour, marker) in colour_of(shown).items():
            found = data[(data["variant"] == name) & data[probe].notna()].groupby("step")[probe]
            axes.fill_between(found.mean().index, found.min(), found.max(), color=colour, alpha=0.16, lw=0)
            axes.plot(found.mean(), color=colour, marker=marker, markersize=3, label=name)
        axes.set(xlabel="step t (0: embedding)", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=4)
        axes.set_title("abc"[number], loc="left", fontweight="bold")
    panels[-1].set_ylabel(f"{study.quantity} {PROBES['exit_error']}")
    for axes in (panels[0], panels[-1]):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=6.5)
    caption = (
        "What each step does, on validation crystals with the weights of the best epoch: mean over trials, band from "
        "the lowest to the highest. a: relative change of the atoms' states; one that comes to rest goes to 0. b: "
        "variance of the atoms of a crystal over their mean square; 0 means all alike (oversmoothed). c: error if the "
        "readout came after step t; it was trained for the last one. Beyond that step, where blocks are shared, the "
        "network goes on as it is, with norms estimated anew on training rows."
    )
    return Drawing("probes", caption, figure, data)


def probe_table(study: Study) -> pd.DataFrame:
    """One row per trial and step; `change` of step 0 is missing, and both probes of steps that were not trained."""
    variants = dict(zip(study.trials["key"], study.trials["variant"], strict=True))
    rows = [
        {
            "variant": variants[result.key],
            "key": result.key,
            "step": step,
            "change": result.probes.change[step - 1] if 0 < step < len(result.probes.spread) else None,
            "spread": result.probes.spread[step] if step < len(result.probes.spread) else None,
            "exit_error": exit_error,
            "trained": step < len(result.probes.spread),
        }
        for result in study.results
        if result.probes
        for step, exit_error in enumerate((*result.probes.exit_error, *result.probes.beyond))
    ]
    return pd.DataFrame(rows).astype({"change": float, "spread": float}) if rows else pd.DataFrame()
