"""Figures of a study for a page: SVG files, readable on a phone and on a dark page, that hold their numbers as text."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

from srcgcnn.analysis.comparison import compare
from srcgcnn.analysis.figures import draw_depth
from srcgcnn.analysis.style import GREY, Drawing, apart, colour_of, journal_style, new_figure, plain_log_ticks
from srcgcnn.models.config import USUAL_WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.axes import Axes

    from srcgcnn.analysis.study import Study

FILE_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: small files, and the reader's own fonts
    "svg.hashsalt": "srcgcnn",  # the same file from the same numbers
}
# A phone shows a figure of 4.6 inches on some 360 points: type as large as that of the page
LARGE_TYPE: dict[str, Any] = {
    "font.size": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9.5,
}
NARROWER = "untied, narrower layers"
NAME_GAP = 0.06  # of the panel's height, between names of points
COLUMN = 1.5  # points of parameters within this factor stand in a column


def draw_parameters(study: Study, names: list[str]) -> Drawing:
    """Error against convolution parameters: tied, untied, and untied and narrower, against one reference.

    The errors of two variants rise and fall together with the test crystals, so the bars are those of the paired
    differences from the reference: a bar that misses its line is a difference.

    Args:
        study: comparable trials.
        names: the reference.

    Raises:
        ValueError: the reference was not trained, or there is not exactly one.
    """
    if len(names) != 1:
        raise ValueError(f"the figure 'parameters' needs one reference, not {len(names)}: {'; '.join(names)}")
    reference, table = names[0], _points(study, names[0])
    figure = new_figure(4.6, 4.2)
    axes = figure.add_subplot()
    line = study.interval(reference)
    axes.axhline(line.mean, color="black", lw=0.8, ls=":", zorder=1)
    low, high = table["conv_parameters"].min(), table["conv_parameters"].max()
    room = max(1.8, (high / low) ** 0.45)  # for the names at the left
    axes.set(xscale="log", xlim=(low / room, high * 1.5), ylabel=f"test {study.quantity}")
    axes.set_xlabel("convolution parameters")
    plain_log_ticks(axes)
    for series, (colour, marker) in colour_of(sorted(set(table["series"]))).items():
        _draw_series(axes, table[table["series"] == series], series, colour, marker)
    for series in sorted(set(table["series"])):
        _name_points(axes, table[table["series"] == series])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", markerscale=1.1)
    known = f" (itself known to ± {line.half_width:.4f} {study.unit})" if line.known else ""
    caption = (
        "Test error against convolution parameters. Bars: 95 % interval, for new seeds and crystals, of the paired "
        f"difference from {reference}, the dotted line{known}."
    )
    return Drawing("parameters", caption, figure, table)


def _points(study: Study, reference: str) -> pd.DataFrame:
    """Return one row per variant, ordered by depth: its series, place, bar and name."""
    rows = []
    for row in study.variants.itertuples():
        model = study.named[row.variant].model
        bar = 0.0 if row.variant == reference else compare(study, row.variant, reference).difference.half_width
        tied, narrower = model.depth_letter == "T", model.hidden_channels < USUAL_WIDTH
        series = f"tied, T steps ({model.title})" if tied else f"untied, L layers ({model.title})"
        point = {
            "variant": row.variant,
            "series": NARROWER if narrower and not tied else series,
            "depth": row.depth,
            "conv_parameters": row.conv_parameters,
            "error": row.test_error,
            "half_width": bar,
            "name": f"{model.depth_letter} = {row.depth}" + (f", {model.hidden_channels} wide" if narrower else ""),
        }
        rows.append(point)
    return pd.DataFrame(rows).sort_values(["series", "depth", "conv_parameters"], ignore_index=True)


def _draw_series(axes: Axes, table: pd.DataFrame, series: str, colour: str, marker: str) -> None:
    """Draw the points of a series; those of one width are a line over depth."""
    style: dict[str, Any] = {"capsize": 2.5, "elinewidth": 1.1, "color": colour, "marker": marker, "ms": 6}
    style |= {"ls": "none", "mfc": "white"} if series == NARROWER else {"lw": 1.2}
    halves = table["half_width"].fillna(0.0)
    axes.errorbar(table["conv_parameters"], table["error"], halves, label=series, zorder=3, **style)


def _name_points(axes: Axes, table: pd.DataFrame) -> None:
    """Write the depths beside a series, narrower ones at its left; where points stand in a column, names are apart."""
    named = table.sort_values("error")
    left, sizes = (named["series"] == NARROWER).all(), named["conv_parameters"]
    low, high = axes.get_ylim()
    places = named["error"].to_numpy()
    if sizes.max() < COLUMN * sizes.min():
        places = apart((places - low) / (high - low), NAME_GAP) * (high - low) + low
    style: dict[str, Any] = {"ha": "left", "va": "bottom"}
    if left:
        style = {"ha": "right", "va": "center", "arrowprops": {"arrowstyle": "-", "color": GREY, "lw": 0.6, "ls": ":"}}
    for row, place in zip(named.itertuples(), places, strict=True):
        beside = sizes.min() / 1.15 if left else row.conv_parameters * 1.1
        axes.annotate(row.name, (row.conv_parameters, row.error), (beside, place), fontsize=8.5, zorder=0, **style)


def draw_depths(study: Study, names: list[str]) -> Drawing:
    """Error against depth on test and training rows: these lines of the study, or all.

    Raises:
        ValueError: a line is not known, or none has two depths.
    """
    if unknown := sorted(set(names) - set(study.lines)):
        raise ValueError(f"no line {', '.join(map(repr, unknown))}; available: {', '.join(study.lines)}")
    drawing = draw_depth(study, names)
    if drawing is None:
        raise ValueError("no line has two depths")
    return drawing


# What draws a kind of figure, and its type
KINDS: dict[str, tuple[Callable[[Study, list[str]], Drawing], dict[str, Any]]] = {
    "parameters": (draw_parameters, LARGE_TYPE),
    "depth": (draw_depths, {}),
}


def draw(study: Study, kind: str, names: list[str]) -> Drawing:
    """Draw a figure of a study in the style of a page.

    Raises:
        ValueError: no such kind, or these names do not fit it.
    """
    if kind not in KINDS:
        raise ValueError(f"no figure {kind!r}; available: {', '.join(KINDS)}")
    drawn, style = KINDS[kind]
    with _page_style(style):
        return drawn(study, names)


def svg_of(drawing: Drawing) -> bytes:
    """Return a figure as SVG, with its numbers in the description."""
    stream = io.BytesIO()
    metadata = {"Date": None, "Creator": None, "Description": numbers(drawing)}
    with _page_style({}):
        drawing.figure.savefig(stream, format="svg", metadata=metadata, facecolor="white")
    return stream.getvalue()


@contextmanager
def _page_style(style: dict[str, Any]) -> Iterator[None]:
    from matplotlib import rc_context

    with journal_style(), rc_context(FILE_STYLE | style):
        yield


def numbers(drawing: Drawing) -> str:
    """Return the numbers of a figure as its file holds them: CSV."""
    return drawing.data.to_csv(index=False, float_format="%.4f")
