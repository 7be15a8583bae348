"""Numbers of one set of predictions: error, RMSE and R2; for two classes ROC-AUC and base rate."""

from __future__ import annotations

import math

import numpy as np

from srcgcnn.records import record


@record
class Scores:
    """What predictions for one set of crystals are worth.

    Attributes:
        error: mean absolute error in the target's unit; of classes the error rate at a threshold of 0.5.
        rmse: root mean square error in the target's unit; None for classes.
        r2: 1 - sum of squares left / sum of squares around the mean of these crystals; None for classes, and if
            all targets are equal.
        roc_auc: chance that a crystal of class 1 is ranked above one of class 0; None for numbers, and if one class
            is missing.
        base_rate: share of class 1; None for numbers.
    """

    error: float
    rmse: float | None = None
    r2: float | None = None
    roc_auc: float | None = None
    base_rate: float | None = None


def scores_of(targets: np.ndarray, predictions: np.ndarray, task: str) -> Scores:
    """Score predictions [C] against targets [C]; of classes predictions are probabilities of class 1."""
    targets, predictions = np.asarray(targets, dtype=float), np.asarray(predictions, dtype=float)
    if task == "classification":
        wrong = float(np.mean((predictions > 0.5) != (targets > 0.5)))
        return Scores(wrong, roc_auc=roc_auc(targets, predictions), base_rate=float(np.mean(targets > 0.5)))
    left = predictions - targets
    r2 = None
    if np.ptp(targets):  # rounding makes the sum of squares of equal numbers 1e-33
        r2 = 1 - float(np.sum(left**2) / np.sum((targets - targets.mean()) ** 2))
    return Scores(float(np.mean(np.abs(left))), math.sqrt(float(np.mean(left**2))), r2)


def roc_auc(targets: np.ndarray, predictions: np.ndarray) -> float | None:
    """Area under the ROC curve, from ranks (Mann and Whitney); equal predictions count half."""
    from scipy.stats import rankdata

    positive = targets > 0.5
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return None
    ranks = rankdata(predictions)
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))
