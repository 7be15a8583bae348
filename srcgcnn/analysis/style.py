"""How figures look: journal widths and type sizes, colours that colour-blind readers tell apart."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SINGLE_INCHES, DOUBLE_INCHES = 3.5, 7.2  # 89 and 183 mm columns
GREY = "#9a9a9a"
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F6A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DPI = 300
LEGEND_INCHES = 0.4  # height of a legend of two lines: figures have room for it
CHARACTERS_PER_INCH = 15  # of a legend or a label, with room to spare

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 7.5,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "savefig.dpi": DPI,
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption and its numbers.

    Attributes:
        name: stem of its files.
        caption: what is shown, with what the bars mean.
        figure: drawn with matplotlib.
        data: every number of the figure.
    """

    name: str
    caption: str
    figure: Figure
    data: pd.DataFrame


@contextmanager
def journal_style() -> Iterator[None]:
    """Draw in the style of this page, without a display, and leave matplotlib as it was."""
    from matplotlib import rc_context

    with rc_context(STYLE):  # type: ignore[arg-type]
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return a figure that no window manager knows: nothing to close, nothing global. Sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str], *, most: int = 3, **style: Any) -> None:
    """Put a legend below the panels, in as many columns as fit into the figure; a name that does not fit is wrapped.

    A long legend makes the figure higher, not the panels smaller.
    """
    for columns in (*range(min(most, len(labels)), 0, -1), 0):
        names = labels if columns else [wrapped(label, figure) for label in labels]
        legend = figure.legend(handles, names, loc="outside lower center", ncols=max(columns, 1), **style)
        extent = legend.get_window_extent()
        if extent.width <= figure.bbox.width or not columns:
            figure.set_figheight(figure.get_figheight() + max(0.0, extent.height / figure.dpi - LEGEND_INCHES))
            return
        legend.remove()


def wrapped(text: str, figure: Figure) -> str:
    """Break a text into lines that are not wider than a figure."""
    from textwrap import fill

    return fill(text, int(CHARACTERS_PER_INCH * figure.get_figwidth()))


def colour_of(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Give every name a colour and a marker."""
    return {name: (OKABE_ITO[i % len(OKABE_ITO)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def plain_log_ticks(axes: Axes, values: Sequence[float] = ()) -> None:
    """Write the ticks of a logarithmic axis of counts as plain numbers: at these values, or at 1, 2, 3 and 5."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter

    axis = axes.xaxis
    axis.set_major_locator(FixedLocator(list(values)) if values else LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    axis.set_major_formatter(lambda value, _: short_count(value))
    axis.set_minor_formatter(NullFormatter())


def apart(heights: np.ndarray, gap: float) -> np.ndarray:
    """Return places in [0, 1] at least a gap apart and as near to ascending heights as that allows, both [N]."""
    from scipy.optimize import isotonic_regression

    gaps = np.arange(len(heights)) * gap
    places: np.ndarray = isotonic_regression(heights - gaps).x.clip(0, max(0.0, 1 - gaps[-1])) + gaps
    return places


def short_count(value: float) -> str:
    """Write a count short: 500, 22.9k, 1.2M."""
    for least, unit, letter in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= least:
            return f"{value / unit:.3g}{letter}"
    return f"{value:,.0f}"
