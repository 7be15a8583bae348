"""What the members of a choice predicted for the crystals that they all held out for validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from srcgcnn.prediction.seen import open_training_store, split_of
from srcgcnn.training.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np

    from srcgcnn.prediction.choice import Choice
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import TrialResult


def validation_of(paths: RunPaths, choice: Choice) -> tuple[np.ndarray, np.ndarray] | None:
    """Return targets [R] and predictions [M, R] of the validation crystals; None where nothing has them."""
    tables = [_table(paths, member) for member in choice.members]
    found = [table for table in tables if table is not None]
    if len(found) < len(tables):
        return None
    together = pd.concat([table["prediction"] for table in found], axis=1, join="inner")
    return found[0].loc[together.index, "target"].to_numpy(), together.to_numpy().T


def _table(paths: RunPaths, member: TrialResult) -> pd.DataFrame | None:
    path = paths.predictions(member.key)
    if path.exists():
        table = pd.read_parquet(path)
        if "set" in table:
            return table[table["set"] == "validation"].set_index("id")
    return _predicted_again(paths, member)


def _predicted_again(paths: RunPaths, member: TrialResult) -> pd.DataFrame | None:
    """Predict the validation crystals from weights and store: trials of older versions recorded the test set only."""
    store = open_training_store(paths, member.config)
    if store is None:
        return None
    rows = split_of(store, member.config).val
    predictor = Predictor.load(paths.model(member.key))
    graphs = [store.graph(row, vectors=predictor.needs_vectors) for row in rows.tolist()]
    predictions = predictor.predict_graphs(graphs)
    columns = {"target": store.target(member.config.data.target)[rows], "prediction": predictions}
    return pd.DataFrame(columns, index=[store.ids[row] for row in rows])
