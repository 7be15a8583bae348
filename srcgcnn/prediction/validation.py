"""What the members of a choice predicted for the crystals that they all held out for validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from srcgcnn.prediction.seen import open_training_store, split_of
from srcgcnn.run.predictions import PREDICTION, TARGET, column_of, names_of
from srcgcnn.training.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np

    from srcgcnn.prediction.choice import Choice
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial_result import TrialResult


def validation_of(paths: RunPaths, choice: Choice, name: str | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """Return targets [R] and predictions [M, R] of the validation crystals; None if nothing has them.

    Args:
        paths: the sweep.
        choice: its trials.
        name: one of several targets: of the crystals that have it.
    """
    target, prediction = column_of(TARGET, name), column_of(PREDICTION, name)
    tables = [_table(paths, member) for member in choice.members]
    found = [table for table in tables if table is not None]
    if len(found) < len(tables):
        return None
    together = pd.concat([table.loc[table[target].notna(), prediction] for table in found], axis=1, join="inner")
    return found[0].loc[together.index, target].to_numpy(), together.to_numpy().T


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
    data = member.config.data
    columns = {}
    for index, (name, target) in enumerate(zip(names_of(data), data.each, strict=True)):
        columns[column_of(TARGET, name)] = store.target(target.name)[rows]
        columns[column_of(PREDICTION, name)] = predictions if name is None else predictions[:, index]
    return pd.DataFrame(columns, index=[store.ids[row] for row in rows])
