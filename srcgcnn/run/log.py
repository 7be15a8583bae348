"""The logs of groups, found by the trials in them. `driver/group_log.py` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from time import localtime, strftime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from srcgcnn.run.paths import RunPaths

HEAD = "trial "  # a line per trial at the top: key and label


@dataclass(frozen=True)
class FoundLog:
    """A log file and its trials: key and label of each."""

    path: Path
    trials: tuple[tuple[str, str], ...]

    def matches(self, name: str) -> bool:
        """Whether a name matches: the beginning of a trial's or the group's key, or a part of a trial's label."""
        return self.path.stem.startswith(name) or any(
            key.startswith(name) or name.lower() in label.lower() for key, label in self.trials
        )


def find_log(paths: RunPaths, name: str) -> FoundLog:
    """Return the log of one trial; the last one if groups were formed again and there are several.

    Raises:
        FileNotFoundError: no trial, or more than one, matches; the message lists the candidates.
    """
    logs = [_read_head(path) for path in sorted(paths.logs.glob("*.log"))]
    exact = {key for log in logs for key, label in log.trials if name in (key, label)}
    found = [log for log in logs if any(key in exact for key, _ in log.trials)]
    found = found or [log for log in logs if log.matches(name)]
    if len(found) == 1 or len(exact) == 1:
        return max(found, key=lambda log: log.path.stat().st_mtime)
    last = {log.path: strftime("%Y-%m-%d %H:%M", localtime(log.path.stat().st_mtime)) for log in logs}
    lines = sorted((label, last[log.path], key) for log in found or logs for key, label in log.trials)
    known = "".join(f"\n  {key}  {label}  (last written {when})" for label, when, key in lines) or " none yet"
    meant = f"{len(found)} logs" if found else "no log"
    what = f"{meant} of a trial {name!r}; give" if name else "whose log? Give"
    raise FileNotFoundError(f"{what} the beginning of a key, or more of a label:{known}")


def _read_head(path: Path) -> FoundLog:
    pairs = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.startswith(HEAD):
                break
            key, _, label = line.removeprefix(HEAD).strip().partition(" ")
            pairs.append((key, label))
    return FoundLog(path, tuple(pairs))
