"""The one figure to touch: every trial, with its key on hover. Plotly, inlined once into the page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from srcgcnn.analysis.style import colour_of

if TYPE_CHECKING:
    from srcgcnn.analysis.study import Study

AXES: dict[str, tuple[str, dict[str, Any]]] = {  # title, and what the axis is like
    "conv_parameters": ("convolution parameters", {"type": "log", "dtick": None}),
    "depth": ("depth T or L", {"type": "linear", "dtick": 1}),
    "total_parameters": ("all parameters", {"type": "log", "dtick": None}),
    "seconds": ("seconds per trial", {"type": "linear", "dtick": None}),
    "train_error": ("training error", {"type": "linear", "dtick": None}),
    "val_error": ("validation error", {"type": "linear", "dtick": None}),
}
FIRST = "conv_parameters"
HOVER = "<b>%{customdata[1]}</b><br>seed %{customdata[2]}, split %{customdata[3]}<br>test %{y:.4f}<br>%{customdata[0]}"


def trials_json(study: Study) -> str:
    """Return the figure of all trials as JSON that is safe inside a script element."""
    traces = []
    styles = colour_of(study.lines)
    for line, rows in study.trials.groupby("line", sort=True):
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": str(line),
                "x": rows[FIRST].tolist(),
                "y": rows["test_error"].tolist(),
                "customdata": rows[["key", "variant", "seed", "split"]].to_numpy().tolist(),
                "hovertemplate": HOVER + "<extra></extra>",
                "marker": {"size": 9, "color": styles[str(line)][0], "opacity": 0.8},
            }
        )
    shown = {name: axis for name, axis in AXES.items() if study.trials[name].notna().all()}
    columns = {name: [rows[name].tolist() for _, rows in study.trials.groupby("line", sort=True)] for name in shown}
    buttons = [
        {
            "label": label,
            "method": "update",
            "args": [
                {"x": columns[name]},
                {"xaxis.title.text": label, "xaxis.autorange": True}
                | {f"xaxis.{key}": one for key, one in kind.items()},
            ],
        }
        for name, (label, kind) in shown.items()
    ]
    layout = {
        "xaxis": {"title": {"text": AXES[FIRST][0]}, "automargin": True, **AXES[FIRST][1]},
        "yaxis": {"title": {"text": f"test {study.quantity}"}, "automargin": True},
        "updatemenus": [
            {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.2, "yanchor": "top", "bgcolor": "#f6f8fa"}
        ],
        "margin": {"l": 50, "r": 10, "t": 70, "b": 45},
        "legend": {"orientation": "h", "y": -0.22},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
    text = json.dumps({"data": traces, "layout": layout}, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def plotly_source() -> str:
    """Return plotly.js (MIT licence), as the Python package ships it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
