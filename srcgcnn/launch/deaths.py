"""How often heads of a sweep died, and when to give up: one that dies at every start must not be restarted for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from srcgcnn.exit_status import ERROR
from srcgcnn.launch.rendezvous import SweepEndRecord, read_jobs, write_record_file
from srcgcnn.records import read_if_whole, record
from srcgcnn.run.results import finished_keys

if TYPE_CHECKING:
    from srcgcnn.run.paths import RunPaths

MOST_DEATHS = 5


@record
class HeadDeaths:
    """Deaths of heads since the last new result.

    Attributes:
        deaths: how many.
        results: finished trials when they were counted.
        reason: of the last one.
    """

    deaths: int
    results: int
    reason: str


def read_deaths(paths: RunPaths) -> HeadDeaths:
    """Return the deaths since the last new result."""
    known, results = read_if_whole(HeadDeaths, paths.head_deaths), len(finished_keys(paths))
    return known if known and known.results >= results else HeadDeaths(0, results, "")


def next_is_too_many(paths: RunPaths) -> bool:
    """Whether one more death without a new result ends the sweep."""
    return read_deaths(paths).deaths + 1 >= MOST_DEATHS


def note_death(paths: RunPaths, reason: str) -> bool:
    """Count a death; returns True, and ends the sweep, if it was one too many without a single new result."""
    before = read_deaths(paths)
    now = HeadDeaths(before.deaths + 1, before.results, reason)
    write_record_file(paths.head_deaths, now)
    if now.deaths < MOST_DEATHS:
        return False
    why = f"the head died {now.deaths} times without a single new result; the last time: {reason}"
    write_record_file(paths.sweep_end, SweepEndRecord(ERROR, read_jobs(paths).head, why))
    return True
