"""Names next to the points of a figure: where they cover no other mark, with a short line if they stand a bit away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

MARK_POINTS = 3.0  # half the size of a marker, and of the cap of a bar
NEAR_POINTS = 4.0
FAR_POINTS = (9.0, 14.0)  # with a line to the point
SIDES = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1))  # of a point, the best first
LINE: dict[str, Any] = {"arrowstyle": "-", "color": "#cccccc", "lw": 0.5, "shrinkA": 0, "shrinkB": 3}


def name_points(axes: Axes, table: pd.DataFrame, names: Sequence[str], levels: Sequence[float] = ()) -> None:
    """Write names next to points, as far as there is room.

    Args:
        axes: whose layout is final except for the names, which do not change it.
        table: all points, the most important first, with the columns `cost`, `mean` and `half_width` (NaN: no bar).
        names: one per point; an empty one is not written.
        levels: heights of lines across the panel.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()
    marks = [_marks(axes, row.cost, row.mean, row.half_width) for row in table.itertuples()]
    panel = _points(axes, axes.bbox.get_points()).ravel()
    heights = [_points(axes, axes.transData.transform((1.0, level)))[1] for level in levels]
    taken = [np.array([panel[0], height - 1, panel[2], height + 1]) for height in heights]
    for at, (row, name) in enumerate(zip(table.itertuples(), names, strict=True)):
        others = np.array([*taken, *(box for other, boxes in enumerate(marks) if other != at for box in boxes)])
        if name:
            taken += _write(axes, name, (row.cost, row.mean), np.reshape(others, (-1, 4)), marks[at], panel)


def _points(axes: Axes, pixels: Any) -> np.ndarray:
    """Turn pixels into points, 1/72 inch."""
    figure: Any = axes.figure
    return np.asarray(pixels, dtype=float) * 72 / figure.dpi


def _marks(axes: Axes, cost: float, mean: float, half_width: float) -> np.ndarray:
    """Return what a point covers, its marker and its bar: left, bottom, right and top, in points [2, 4]."""
    half = np.nan_to_num(half_width)
    places = axes.transData.transform([(cost, mean), (cost, mean - half), (cost, mean + half)])
    (x, y), (_, low), (_, high) = _points(axes, places)
    left, right = x - MARK_POINTS, x + MARK_POINTS
    return np.array([(left, y - MARK_POINTS, right, y + MARK_POINTS), (left, low, right, high)])


def _write(
    axes: Axes, name: str, place: tuple[float, float], others: np.ndarray, own: np.ndarray, panel: np.ndarray
) -> list[np.ndarray]:
    """Write a name on the first side of its point that is free; returns what it covers, nothing if none is."""
    text = axes.annotate(name, place, (0, 0), textcoords="offset points", fontsize=6.5, va="bottom")
    text.set_in_layout(False)
    size = _points(axes, text.get_window_extent().size)
    point = _points(axes, axes.transData.transform(place))
    for distance in (NEAR_POINTS, *FAR_POINTS):
        for side in np.array(SIDES):
            start = point + side * distance + (side - 1) * size / 2
            if not side[0]:  # above or below the bar
                start[1] = own[1, 3] + 1 if side[1] > 0 else own[1, 1] - 1 - size[1]
            box = np.concatenate([start, start + size])
            outside = (box[:2] < panel[:2]).any() or (box[2:] > panel[2:]).any()
            if outside or _covers(box, np.concatenate([others, own])):
                continue
            end = np.clip(point, start, start + size)
            if distance > NEAR_POINTS:
                if any(_covers(np.tile(one, 2), others) for one in np.linspace(point, end, 9)[1:]):
                    continue
                line = axes.annotate("", place, end - point, textcoords="offset points", arrowprops=LINE, zorder=0)
                line.set_in_layout(False)
            text.set_position(tuple(start - point))
            return [box]
    text.remove()
    return []


def _covers(box: np.ndarray, others: np.ndarray) -> bool:
    """Whether a box [4] overlaps one of others [N, 4]."""
    return bool(((box[:2] < others[:, 2:]) & (box[2:] > others[:, :2])).all(axis=1).any())
