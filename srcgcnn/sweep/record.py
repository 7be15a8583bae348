"""`OUT/sweep.json`: the last request, and its data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from srcgcnn.files import write_text
from srcgcnn.records import RecordError, as_dict, read_record_file, record
from srcgcnn.run.trial import DataRef
from srcgcnn.sweep.spec import SweepSpec

if TYPE_CHECKING:
    from srcgcnn.run.paths import RunPaths


@record
class SweepRecord:
    """A sweep as it was last started.

    Attributes:
        spec: the definition with all flags applied.
        data: the numbers it trains on.
        store: folder of the graph store; empty in an archive.
        command: how it was started; empty in an archive.
    """

    spec: SweepSpec
    data: DataRef
    store: str
    command: str

    @property
    def archived(self) -> bool:
        """Whether it describes the folder of `srcgcnn archive`, which has no graph store and trains nothing."""
        return not self.store


def write_record(paths: RunPaths, record: SweepRecord) -> None:
    """Write `OUT/sweep.json`."""
    write_text(paths.spec, json.dumps(as_dict(record), indent=1) + "\n")


def read_record(paths: RunPaths) -> SweepRecord:
    """Read `OUT/sweep.json`.

    Raises:
        RecordError: it is missing or damaged.
    """
    again = "start the sweep again to write it"
    try:
        return read_record_file(SweepRecord, paths.spec)
    except FileNotFoundError:
        raise RecordError(f"{paths.spec}: there is no such file; {again}") from None
    except RecordError as error:
        raise RecordError(f"{error}; {again}") from None


def job_name(sweep: str) -> str:
    """Return the name that jobs of a sweep carry in the queue."""
    return f"srcgcnn-{sweep}"
