"""Result files: written once, atomically, by whoever trained the trial; read by everybody.

A file that a disk or a hand damaged is set aside where it is met, with a warning: its trial is trained again, and no
command ends for it.
"""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from srcgcnn.files import write_text
from srcgcnn.records import RecordError, parse
from srcgcnn.run.trial import RESULT_FORMAT, TrialResult

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from srcgcnn.run.paths import RunPaths


class DamagedResultError(RecordError):
    """The file does not hold what was written."""


def finished_keys(paths: RunPaths) -> set[str]:
    """Return the keys of all finished trials, from the file names alone."""
    return {path.stem for path in paths.results.glob("*.json")}


def read_result(path: Path) -> TrialResult:
    """Read one result file.

    Raises:
        DamagedResultError: the file does not hold what was written.
        RecordError: it cannot be read now, is of another format version, or not the one that its name says.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: not readable ({error})") from None
    try:
        data = json.loads(content)
    except ValueError as error:
        raise DamagedResultError(f"{path}: not a result ({error})") from None
    if not isinstance(data, dict):
        raise DamagedResultError(f"{path}: not a result (no JSON object)")
    version = data.get("format_version")
    if version != RESULT_FORMAT:
        raise RecordError(f"{path}: format_version={version}, this version of srcgcnn reads {RESULT_FORMAT}")
    try:
        result = parse(TrialResult, data, str(path))
    except RecordError as error:
        raise DamagedResultError(str(error)) from None
    if not path.stem == result.key == result.config.key:
        raise RecordError(f"{path} holds trial {result.config.key}: a copy, or edited by hand; remove it")
    return result


def read_results(paths: RunPaths) -> Iterator[TrialResult]:
    """Yield all results of a sweep, ordered by key; damaged files are set aside."""
    for path in sorted(paths.results.glob("*.json")):
        result = find_result(path)
        if result is not None:
            yield result


def find_result(path: Path) -> TrialResult | None:
    """Read one result file; None where there is none. A damaged file is set aside, with a warning.

    Raises:
        RecordError: as `read_result`, but for damage.
    """
    try:
        return read_result(path)
    except DamagedResultError as error:
        aside = path.with_name(f"{path.name}.damaged")
        with suppress(OSError):  # somebody else's folder, or somebody else was faster
            path.replace(aside)
        warnings.warn(f"{error}; kept as {aside.name}, and the trial is trained again", stacklevel=2)
    except RecordError:
        if path.exists():
            raise
    return None


def write_result(paths: RunPaths, result: TrialResult) -> None:
    """Write a result. This is the last file of a trial: once it exists, the trial is finished."""
    write_text(paths.result(result.key), json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n")
    paths.failure(result.key).unlink(missing_ok=True)
    paths.failure_log(result.key).unlink(missing_ok=True)
    paths.stopped_trial(result.key).unlink(missing_ok=True)
