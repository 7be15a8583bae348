"""Result files: written once, atomically, by whoever trained the trial; read by everybody."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from srcgcnn.files import write_text
from srcgcnn.records import RecordError, parse
from srcgcnn.run.trial import RESULT_FORMAT, TrialResult

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from srcgcnn.run.paths import RunPaths


def finished_keys(paths: RunPaths) -> set[str]:
    """Return the keys of all finished trials, from the file names alone."""
    return {path.stem for path in paths.results.glob("*.json")}


def read_result(path: Path) -> TrialResult:
    """Read one result file.

    Raises:
        RecordError: the file is not a result of this format version, or not the one that its name says.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{path}: not a readable result ({error}); delete it, and the trial is trained again"
        ) from None
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != RESULT_FORMAT:
        raise RecordError(f"{path}: format_version={version}, this version of srcgcnn reads {RESULT_FORMAT}")
    result = parse(TrialResult, data, str(path))
    if not path.stem == result.key == result.config.key:
        raise RecordError(f"{path} holds trial {result.config.key}: a copy, or edited by hand; remove it")
    return result


def read_results(paths: RunPaths) -> Iterator[TrialResult]:
    """Yield all results of a sweep, ordered by key."""
    for path in sorted(paths.results.glob("*.json")):
        yield read_result(path)


def write_result(paths: RunPaths, result: TrialResult) -> None:
    """Write a result. This is the last file of a trial: once it exists, the trial is finished."""
    write_text(paths.result(result.key), json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n")
    paths.failure(result.key).unlink(missing_ok=True)
    paths.failure_log(result.key).unlink(missing_ok=True)
    paths.stopped_trial(result.key).unlink(missing_ok=True)
