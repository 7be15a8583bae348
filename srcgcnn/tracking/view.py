"""How MLflow's page of an experiment opens: the columns of the table, and the charts behind its chart button.

MLflow keeps shared views in tags of the experiment (`mlflow.sharedViewState.<key>`) and opens them by
`?viewStateShareKey=<key>`; without one, its table shows no metric at all. The names within are those of the
page's own state in MLflow 3.17; it fills in the rest.
"""

from __future__ import annotations

from typing import Any

from srcgcnn.records import canonical_json

VIEW_KEY = "srcgcnn"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
# Without a type, MLflow opens the pages of language models wherever it was used for those before.
RUNS_QUERY = f"workflowType=machine_learning&viewStateShareKey={VIEW_KEY}"
METRICS = ("val_mae", "conv_params", "depth", "test_mae", "alpha", "seconds")
PARAMS = ("variant", "seed_init", "norm")
ERROR = "val_mae"
PRICES = ("conv_params", "depth", "seconds")  # what an error is bought with
TRADE_OFF, CURVES = "Trade-off", "epoch"
# MLflow adds a bar chart for every other metric, some twenty: those sections stay closed until they are requested.
SECTIONS = {TRADE_OFF: True, CURVES: True, "Model metrics": False, "System metrics": False}


def runs_view() -> str:
    """Return the view: best validation error first, all runs visible, and the trade-off as the first charts."""
    columns = [f"params.`{name}`" for name in PARAMS] + [f"metrics.`{name}`" for name in METRICS]
    view = {
        "orderByKey": f"metrics.`{ERROR}`",
        "orderByAsc": True,
        "searchFilter": "",
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [*(_scatter(name, ERROR) for name in PRICES), _curve(f"{CURVES}/{ERROR}")],
        "compareRunSections": [{"uuid": name, "name": name, "display": open_} for name, open_ in SECTIONS.items()],
        "isAccordionReordered": True,  # else MLflow sorts the sections by name
    }
    return canonical_json(view)


def _scatter(across: str, up: str) -> dict[str, Any]:
    return {
        "type": "SCATTER",
        "uuid": f"{up} against {across}",
        "metricSectionId": TRADE_OFF,
        "xaxis": {"key": across, "type": "METRIC"},
        "yaxis": {"key": up, "type": "METRIC"},
    }


def _curve(name: str) -> dict[str, Any]:
    """Return a chart over the epochs, logarithmic: a deep network may start at a hundred times its final error."""
    return {
        "type": "LINE",
        "uuid": name,
        "metricSectionId": CURVES,
        "metricKey": name,
        "scaleType": "log",
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": True,
        "xAxisKey": "step",
        "yAxisKey": "metric",
    }
