"""The tasks of matbench v0.1 that crystals can enter: targets, folds, ids and scores, as that package defines them.

The package itself is not needed: it does not install with ours. Names and sizes are those of its metadata; folds come
from scikit-learn with its arguments, and are the published ones (docs/predictions.md says how that was checked).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from srcgcnn.data.sources.collections import MATBENCH_UNITS
from srcgcnn.leaderboards.recipe import LeaderboardError

if TYPE_CHECKING:
    import numpy as np

FOLDS = 5
FOLD_SEED = 18012019  # scripts/mvb01_generate_validation.py of materialsproject/matbench
SMALLEST_SHARE_TARGET = 1e-5  # matbench leaves smaller targets out of MAPE


@dataclass(frozen=True)
class MatbenchTask:
    """One dataset of matbench with what is to be predicted.

    Attributes:
        name: its name, with `matbench_` before it.
        target: column of the target.
        rows: crystals; a file with another number has other folds.
        input: what a row is described by.
        kind: of the target.
    """

    name: str
    target: str
    rows: int
    input: Literal["structure", "composition"] = "structure"
    kind: Literal["regression", "classification"] = "regression"

    @property
    def unit(self) -> str:
        """Unit of the target."""
        return MATBENCH_UNITS[self.name]

    def id_of(self, row: int) -> str:
        """Return matbench's id of a row, counted from 0: `mb-mp-e-form-000001` is row 0."""
        prefix = self.name.replace("matbench", "mb").replace("_", "-")
        return f"{prefix}-{row + 1:0{len(str(self.rows))}d}"

    def test_rows(self, fold: int) -> np.ndarray:
        """Return the rows of a fold's test set, int64 [R], ascending.

        Raises:
            LeaderboardError: there is no such fold.
        """
        if not 0 <= fold < FOLDS:
            raise LeaderboardError(f"--fold {fold}: matbench has folds 0 to {FOLDS - 1}")
        import numpy as np
        from sklearn.model_selection import KFold

        folds = KFold(FOLDS, shuffle=True, random_state=FOLD_SEED).split(np.zeros(self.rows))
        test: np.ndarray = list(folds)[fold][1]
        return test


_TASKS = (
    MatbenchTask("matbench_dielectric", "n", 4764),
    MatbenchTask("matbench_expt_gap", "gap expt", 4604, "composition"),
    MatbenchTask("matbench_expt_is_metal", "is_metal", 4921, "composition", "classification"),
    MatbenchTask("matbench_glass", "gfa", 5680, "composition", "classification"),
    MatbenchTask("matbench_jdft2d", "exfoliation_en", 636),
    MatbenchTask("matbench_log_gvrh", "log10(G_VRH)", 10987),
    MatbenchTask("matbench_log_kvrh", "log10(K_VRH)", 10987),
    MatbenchTask("matbench_mp_e_form", "e_form", 132752),
    MatbenchTask("matbench_mp_gap", "gap pbe", 106113),
    MatbenchTask("matbench_mp_is_metal", "is_metal", 106113, kind="classification"),
    MatbenchTask("matbench_perovskites", "e_form", 18928),
    MatbenchTask("matbench_phonons", "last phdos peak", 1265),
    MatbenchTask("matbench_steels", "yield strength", 312, "composition"),
)


def find_task(name: str) -> MatbenchTask:
    """Return a task by name.

    Raises:
        LeaderboardError: there is none, or it is not for a crystal graph network with one number as its answer.
    """
    usable = [task.name for task in _TASKS if task.input == "structure" and task.kind == "regression"]
    task = next((task for task in _TASKS if task.name == name), None)
    if task is None:
        raise LeaderboardError(f"{name!r} is not a task of matbench v0.1; those with crystals are: {', '.join(usable)}")
    if task.input == "composition":
        raise LeaderboardError(f"{name} has compositions but no crystals; those with crystals are: {', '.join(usable)}")
    if task.kind == "classification":
        raise LeaderboardError(
            f"{name} is a classification task, which is not recorded here; available: {', '.join(usable)}"
        )
    return task


def scores(targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Return the scores that matbench gives to one fold, from targets and predictions [R] in the target's unit."""
    import numpy as np
    from sklearn.metrics import max_error, mean_absolute_error, root_mean_squared_error

    counted = np.abs(targets) > SMALLEST_SHARE_TARGET
    shares = np.abs((targets[counted] - predictions[counted]) / targets[counted])
    return {
        "mae": float(mean_absolute_error(targets, predictions)),
        "rmse": float(root_mean_squared_error(targets, predictions)),
        "mape": float(np.mean(shares)),
        "max_error": float(max_error(targets, predictions)),
    }
