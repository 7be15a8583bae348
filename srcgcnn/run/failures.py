"""Failure files: why a trial has no result. They go when the trial succeeds later."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcgcnn.files import write_text
from srcgcnn.records import as_dict, parse
from srcgcnn.run.trial import TrialConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srcgcnn.run.paths import RunPaths

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Failure:
    """A failed trial: its key, its name for people, why, and the log that tells more ("" if none)."""

    key: str
    label: str
    reason: str
    log: str


def write_failure(paths: RunPaths, config: TrialConfig, reason: str, log: str = "") -> None:
    """Record why a trial has no result."""
    record = {"key": config.key, "config": as_dict(config), "reason": reason.strip() or UNKNOWN, "log": log}
    write_text(paths.failure(config.key), json.dumps(record, indent=1) + "\n")


def read_failures(paths: RunPaths) -> Iterator[Failure]:
    """Yield all failures of a sweep, ordered by key."""
    for path in sorted(paths.failures.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        label = parse(TrialConfig, data["config"], str(path)).label if "config" in data else path.stem
        log = paths.failure_log(path.stem)  # not the name in the record: the folder may have moved since
        yield Failure(path.stem, label, str(data.get("reason", UNKNOWN)), str(log) if log.exists() else "")
