"""The MLflow model registry: a trial's model under a name, with its trade-off as tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from srcgcnn.sweep.record import read_record
from srcgcnn.tracking.fields import target_errors
from srcgcnn.tracking.store import KEY_TAG, SweepStore

if TYPE_CHECKING:
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial_result import TrialResult


def register(paths: RunPaths, result: TrialResult, name: str, tracking_uri: str | None) -> int:
    """Register the logged model of a trial under a name and return its version.

    Raises:
        RuntimeError: the store cannot be used, or does not hold the trial's model.
    """
    try:
        store = SweepStore(paths, read_record(paths).spec.name, tracking_uri, None)
        child = store.children.get(result.key)
        model_id = store.log_model(result.key) if child is not None else None
        if child is None or model_id is None:
            option = f" --tracking-uri {tracking_uri}" if tracking_uri else ""
            raise RuntimeError(f"MLflow has no model of {result.config.label}: run `srcgcnn track {paths.out}{option}`")
        if not store.client.search_registered_models(f"name = '{name}'"):
            store.client.create_registered_model(name)
        source = store.client.get_logged_model(model_id).artifact_location
        version = store.client.create_model_version(name, source, child.run_id, tags_of(result), model_id=model_id)
    except MlflowException as error:
        raise RuntimeError(f"MLflow at {tracking_uri or paths.default_tracking_uri}: {error}") from None
    return int(version.version)


def tags_of(result: TrialResult) -> dict[str, str]:
    """Return the trade-off of a trial: what it predicts, how well, and with how many parameters."""
    config, metrics = result.config, result.metrics
    errors = {"val_mae": metrics.val_mae, "test_mae": metrics.test_mae}
    errors |= {"val_accuracy": metrics.val_accuracy, "test_accuracy": metrics.test_accuracy}
    errors |= {name: value for name, value in target_errors(result).items() if name.startswith(("val_mae", "test_mae"))}
    return {
        KEY_TAG: result.key,
        "model": config.model.label,
        "target": config.data.target,
        "unit": config.data.unit,
        "conv_params": str(result.conv_parameters),
        "total_params": str(result.total_parameters),
        **{error: f"{value:.6g}" for error, value in errors.items() if value is not None},
    }
