"""Result files: written once, atomically, by whoever trained the trial; read by everybody through `Run`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from srcgcnn.files import write_text
from srcgcnn.records import RecordError, UnknownKeyError, parse
from srcgcnn.run.damaged import set_aside
from srcgcnn.run.trial import RESULT_FORMAT, TrialResult

if TYPE_CHECKING:
    from pathlib import Path

    from srcgcnn.run.paths import RunPaths


class DamagedResultError(RecordError):
    """A result file holds no result, or not that of the trial that its name says."""


def finished_keys(paths: RunPaths) -> set[str]:
    """Return the keys of all finished trials, from the file names alone."""
    return {path.stem for path in paths.results.glob("*.json")}


def read_result(path: Path) -> TrialResult:
    """Read one result file.

    Raises:
        FileNotFoundError: it is not there.
        DamagedResultError: the file holds no result, or that of another trial.
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
    except ValueError as error:
        raise DamagedResultError(f"{path}: not a result ({error})") from None
    if not isinstance(data, dict) or not isinstance(data.get("format_version"), int):
        raise DamagedResultError(f"{path}: not a result")
    version = data["format_version"]
    if version != RESULT_FORMAT:
        raise RecordError(f"{path}: format_version={version}, this version of srcgcnn reads {RESULT_FORMAT}")
    try:
        result = parse(TrialResult, data, str(path))
    except UnknownKeyError as error:  # whole, with more in it: a later version has written it
        raise RecordError(f"{error}; it may be of a later version of srcgcnn: read it with that one") from None
    except RecordError as error:
        raise DamagedResultError(str(error)) from None
    if not path.stem == result.key == result.config.key:
        raise DamagedResultError(f"{path} holds trial {result.config.key}: a copy, or edited by hand")
    return result


def find_result(path: Path) -> TrialResult | None:
    """Read one result file; None where there is none. A damaged one is named on the terminal and set aside.

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
    write_text(paths.result(result.key), json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n")
    paths.failure(result.key).unlink(missing_ok=True)
    paths.failure_log(result.key).unlink(missing_ok=True)
    paths.stopped_trial(result.key).unlink(missing_ok=True)
