"""Taking trials out of a sweep, with everything that was written for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from srcgcnn.run.folder import open_run
from srcgcnn.run.keys import SHORTEST_KEY
from srcgcnn.run.labels import labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial_result import TrialResult


def find_trials(paths: RunPaths, name: str) -> list[TrialResult]:
    """Return the finished trials that a label of a variant or trial, or the beginning of a key, selects.

    Raises:
        ValueError: there is none; the message lists the variants.
    """
    results = open_run(paths).results
    labels = labels_of(result.config.variant for result in results)
    found = [result for result in results if _is_meant(result, labels[result.config.variant], name)]
    if not found:
        known = ", ".join(sorted(labels.values())) or "none"
        raise ValueError(f"no trial {name!r} in {paths.out}; variants there: {known}")
    return found


def _is_meant(result: TrialResult, label: str, name: str) -> bool:
    config = result.config
    names = (config.label, config.model.label, label, f"{label}{config.repeat}")
    return name in names or (len(name) >= SHORTEST_KEY and result.key.startswith(name))


def remove_trials(paths: RunPaths, keys: Sequence[str]) -> None:
    """Remove trials while no driver works on their sweep.

    Raises:
        RuntimeError: a driver does.
    """
    try:
        with FileLock(paths.driver_lock, timeout=0, mode=0o600):
            for key in keys:
                _remove_trial(paths, key)
    except Timeout:
        raise RuntimeError(
            f"{paths.out}: a driver is running this sweep; stop it first: srcgcnn cancel {paths.out}"
        ) from None


def _remove_trial(paths: RunPaths, key: str) -> None:
    """Remove the files of a trial. The result goes first: without it the trial counts as never trained."""
    for path in (
        paths.result(key),
        paths.predictions(key),
        paths.model(key),
        paths.failure(key),
        paths.failure_log(key),
        paths.stopped_trial(key),
    ):
        path.unlink(missing_ok=True)
