"""Failure files: why a trial has no result. They go when the trial succeeds later."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcgcnn.files import write_text
from srcgcnn.records import RecordError, as_dict, parse, read_json
from srcgcnn.run.trial import TrialConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srcgcnn.run.paths import RunPaths

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Failure:
    """A failed trial: its key, what it was, why it failed, the log with more details ("" if none), and its name.

    `config` is None if the file does not hold it.
    """

    key: str
    config: TrialConfig | None
    reason: str
    log: str
    label: str


def write_failure(paths: RunPaths, config: TrialConfig, reason: str, log: str = "", label: str = "") -> None:
    """Record why a trial has no result, by the name that it has among the trials of its sweep."""
    name = label or config.label
    record = {"key": config.key, "label": name, "config": as_dict(config), "reason": reason.strip() or UNKNOWN}
    record["log"] = log
    write_text(paths.failure(config.key), json.dumps(record, indent=1) + "\n")


def read_failures(paths: RunPaths) -> Iterator[Failure]:
    """Yield all failures of a sweep, ordered by key."""
    for path in sorted(paths.failures.glob("*.json")):
        if failure := read_failure(paths, path.stem):
            yield failure


def read_failure(paths: RunPaths, key: str) -> Failure | None:
    """Read why a trial failed; None if it did not, or has finished since.

    A damaged file only tells that the trial failed.
    """
    if paths.result(key).exists():
        return None
    path, log = paths.failure(key), paths.failure_log(key)
    log_path = str(log) if log.exists() else ""  # not the name in the record: the folder may have moved since
    try:
        data = read_json(path)
        config = parse(TrialConfig, data["config"], str(path)) if "config" in data else None
        label = str(data.get("label") or (config.label if config else key))
        return Failure(key, config, str(data.get("reason", UNKNOWN)), log_path, label)
    except FileNotFoundError:
        return None
    except (RecordError, TypeError, AttributeError):
        return Failure(key, None, f"{UNKNOWN}: {path.name} is damaged", log_path, key)
