"""What a trial leaves behind: the unit of truth of a sweep (docs/design.md).

One small file, named by the key of the trial. All else (MLflow, tables, figures) can be rebuilt from these files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from srcgcnn.records import as_dict, record
from srcgcnn.run.trial import TrialConfig

RESULT_FORMAT = 1
SETS = ("train", "val", "test")


@record
class Metrics:
    """Errors at the best validation epoch, in the target's unit. Classification fills accuracy and leaves the rest.

    With several targets an error is the mean of theirs, each over its target's standard deviation (`TargetResult`).
    `test_*` is read once, with the weights of `best_epoch`. `train_*` is the error on the training rows with the same
    weights, in evaluation mode; None in results of older versions.
    """

    best_epoch: int
    train_loss: float
    val_mae: float | None = None
    val_rmse: float | None = None
    test_mae: float | None = None
    test_rmse: float | None = None
    val_accuracy: float | None = None
    test_accuracy: float | None = None
    train_mae: float | None = None
    train_rmse: float | None = None
    train_accuracy: float | None = None


@record
class Curves:
    """One number per epoch, epoch 0 first. `val_error` is MAE in the target's unit, or 1 - accuracy."""

    train_loss: tuple[float, ...]
    val_error: tuple[float, ...]
    learning_rate: tuple[float, ...]


@record
class Cost:
    """What the trial used. A trial of a group of M carries 1/M of the group's seconds.

    `seconds` counts training and evaluation over all attempts; `peak_memory_mb` is device memory on a GPU, else the
    process's largest resident size; `structures_per_second` counts training structures, evaluation time included.
    """

    seconds: float
    peak_memory_mb: float
    structures_per_second: float
    group_size: int
    resumes: int


@record
class Provenance:
    """Where the numbers came from.

    `path` is the backend of the network (`models/backend.py`); results of older versions have other names, or "".
    """

    finished_at: str
    git_commit: str
    versions: dict[str, str]
    hardware: str
    hostname: str
    threads: int
    path: str = ""


@record
class DepthProbes:
    """What each step t of message passing does, on validation crystals, at the best epoch (`training/probes.py`).

    Attributes:
        change: relative change of the atoms' states, t = 1 .. T.
        spread: how much the atoms of a crystal differ, from 0 (all alike) to 1, t = 0 (the embedding) .. T.
        exit_error: error of the trained readout after step t = 0 .. T; the last one is the validation error.
        beyond: the same after steps T + 1 .. 2T, which were not trained (`training/unrolled.py`); of networks whose
            blocks go in cycles.
        size: root mean square of the atoms' states, t = 0 .. T.
        energy: Dirichlet energy per edge and channel, mean of (h_i - h_j)^2 / 2 over the edges, t = 0 .. T. Over
            `size`^2 it is 0 where neighbours are alike, about 1 where they have nothing in common.
        gradients: norm of the gradient of the loss by the atoms' states after step t = 0 .. T, on the first training
            batch of each of the first epochs. Empty if one is not finite.

    Those from `beyond` on are empty in results of older versions.
    """

    change: tuple[float, ...]
    spread: tuple[float, ...]
    exit_error: tuple[float, ...]
    beyond: tuple[float, ...] = ()
    size: tuple[float, ...] = ()
    energy: tuple[float, ...] = ()
    gradients: tuple[tuple[float, ...], ...] = ()


@record
class TargetResult:
    """One of several targets: its errors in its unit, on the crystals that have it.

    Attributes:
        name: column of the target.
        mean, std: by which it was standardised.
        deviation: standard deviation of the training rows (all of the split, also if `train_size` takes fewer): its
            error in this unit enters the common one.
        rows: training, validation and test crystals that have it.
    """

    name: str
    mean: float
    std: float
    deviation: float
    rows: tuple[int, int, int]
    train_mae: float
    train_rmse: float
    val_mae: float
    val_rmse: float
    test_mae: float
    test_rmse: float

    def errors(self) -> dict[str, Any]:
        """Return the errors by the names of `Metrics`."""
        return {f"{rows}_{kind}": getattr(self, f"{rows}_{kind}") for rows in SETS for kind in ("mae", "rmse")}


@record
class TrialResult:
    """The outcome of one finished trial; `OUT/results/<key>.json` holds exactly this.

    `probes` is None in results of older versions, and if a probe is not finite. `targets` are those of a network
    that predicts several; `target_mean` is then 0 and `target_std` 1.
    """

    key: str
    config: TrialConfig
    metrics: Metrics
    curves: Curves
    conv_parameters: int
    total_parameters: int
    target_mean: float
    target_std: float
    rows: tuple[int, int, int]
    alphas: tuple[float, ...]
    cost: Cost
    provenance: Provenance
    format_version: int = RESULT_FORMAT
    probes: DepthProbes | None = None
    targets: tuple[TargetResult, ...] = ()

    def of_target(self, name: str) -> TrialResult:
        """Return this trial's result for one of its targets, in its unit, like that of a network for it alone.

        Curves and probes are of the common error, and stay out.
        """
        (one,) = (target for target in self.targets if target.name == name)
        (target,) = (target for target in self.config.data.targets if target.name == name)
        data = replace(self.config.data, target=name, unit=target.unit, targets=())
        return replace(
            self,
            config=replace(self.config, data=data),
            metrics=replace(self.metrics, **one.errors()),
            curves=replace(self.curves, val_error=()),
            target_mean=one.mean,
            target_std=one.std,
            rows=one.rows,
            probes=None,
            targets=(),
        )

    @property
    def val_error(self) -> float:
        """Validation error at the best epoch: MAE in the target's unit, or 1 - accuracy."""
        return self._error("val")

    @property
    def test_error(self) -> float:
        """Test error with the weights of the best epoch: MAE in the target's unit, or 1 - accuracy."""
        return self._error("test")

    @property
    def train_error(self) -> float | None:
        """Error on the training rows with the same weights; None in results of older versions."""
        if self.metrics.train_mae is None and self.metrics.train_accuracy is None:
            return None
        return self._error("train")

    def _error(self, rows: str) -> float:
        mae, accuracy = getattr(self.metrics, f"{rows}_mae"), getattr(self.metrics, f"{rows}_accuracy")
        if mae is None and accuracy is None:
            raise ValueError(f"result {self.key} has neither {rows}_mae nor {rows}_accuracy")
        return float(mae) if mae is not None else 1 - float(accuracy)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return as_dict(self)
