"""`OUT/sweep.json`: what was asked for last, on which data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from srcgcnn.files import write_text
from srcgcnn.records import RecordError, as_dict, parse, record
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
        store: folder of the graph store.
        command: how it was started.
    """

    spec: SweepSpec
    data: DataRef
    store: str
    command: str


def write_record(paths: RunPaths, record: SweepRecord) -> None:
    """Write `OUT/sweep.json`."""
    write_text(paths.spec, json.dumps(as_dict(record), indent=1) + "\n")


def read_record(paths: RunPaths) -> SweepRecord:
    """Read `OUT/sweep.json`.

    Raises:
        RecordError: it is missing or damaged.
    """
    try:
        data = json.loads(paths.spec.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise RecordError(f"{paths.spec}: not readable ({error}); start the sweep again to write it") from None
    return parse(SweepRecord, data, str(paths.spec))
