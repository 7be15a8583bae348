"""Result files: written once, atomically, by the process that trained the trial; read through `Run`.

A file ends with a digest of the rest of it, so no changed number goes unnoticed. Files of older versions have none.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from srcgcnn.files import write_text
from srcgcnn.records import RecordError, UnknownKeyError, digest, parse
from srcgcnn.run.damaged import set_aside
from srcgcnn.run.trial_result import RESULT_FORMAT, TrialResult

if TYPE_CHECKING:
    from pathlib import Path

    from srcgcnn.run.paths import RunPaths


DIGEST = "digest"  # the one key of a file that is not part of the record


class DamagedResultError(RecordError):
    """A result file holds no result, not that of the trial that its name says, or not what was written into it."""


def finished_keys(paths: RunPaths) -> set[str]:
    """Return the keys of all finished trials, from the file names alone."""
    return {path.stem for path in paths.results.glob("*.json")}


def read_result(path: Path) -> TrialResult:
    """Read one result file.

    Raises:
        FileNotFoundError: it is not there.
        DamagedResultError: the file holds no result, that of another trial, or one that was changed since.
        RecordError: it cannot be read now, or was written by a version whose results this one does not read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:  # of the disk or the network, not of the file
        raise RecordError(f"{path}: not readable ({error})") from None
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedResultError(f"{path}: not a result ({error})") from None
    if not isinstance(data, dict) or not isinstance(data.get("format_version"), int):
        raise DamagedResultError(f"{path}: not a result")
    has_digest = _check_digest(path, data)
    version = data["format_version"]
    if version != RESULT_FORMAT:
        raise RecordError(f"{path}: format_version={version}, this version of srcgcnn reads {RESULT_FORMAT}")
    try:
        result = parse(TrialResult, data, str(path))
    except UnknownKeyError as error:
        if not has_digest:  # a later version would have written one
            raise DamagedResultError(str(error)) from None
        raise RecordError(f"{error}; it may come from a later version of srcgcnn: read it with that one") from None
    except RecordError as error:
        raise DamagedResultError(str(error)) from None
    if not path.stem == result.key == result.config.key:
        raise DamagedResultError(f"{path} holds trial {result.config.key}: a copy, or edited by hand")
    return result


def _check_digest(path: Path, data: dict[str, Any]) -> bool:
    """Take the digest out of what a file holds, and compare; returns whether there was one."""
    written = data.pop(DIGEST, None)
    try:
        fits = written is None or written == digest(data)
    except ValueError:  # not a finite number
        fits = False
    if not fits:
        raise DamagedResultError(
            f"{path}: its digest does not fit what it holds: it was damaged, or edited by hand after it was written"
        )
    return written is not None


def find_result(path: Path) -> TrialResult | None:
    """Read one result file; None if there is none. A damaged one is named on the terminal and set aside.

    Raises:
        RecordError: it was written by a version whose results this one does not read.
    """
    try:
        return read_result(path)
    except FileNotFoundError:  # somebody else has set it aside or removed it
        return None
    except DamagedResultError as error:
        set_aside(path, error, "its trial counts as not trained")
        return None


def write_result(paths: RunPaths, result: TrialResult) -> None:
    """Write a result. This is the last file of a trial: once it exists, the trial is finished."""
    write_text(paths.result(result.key), result_text(result))
    paths.failure(result.key).unlink(missing_ok=True)
    paths.failure_log(result.key).unlink(missing_ok=True)
    paths.stopped_trial(result.key).unlink(missing_ok=True)


def result_text(result: TrialResult, indent: int | None = 1) -> str:
    """Return the content of a result file: the record as JSON, and its digest."""
    data = result.to_dict()
    return json.dumps({**data, DIGEST: digest(data)}, indent=indent, allow_nan=False) + "\n"
