"""What a job runs: `python -m srcgcnn.launch.start KIND ...`.

Plain words instead of the pickled calls that submitit would write: anyone who can write a pickle into the folder of a
sweep could run programs as its owner, at every restart of a job.
"""

from __future__ import annotations

import json
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.files import write_private
from srcgcnn.records import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def head(out: str) -> object:
    """Run the head of a sweep."""
    from srcgcnn.launch.slurm.calls import HeadJob

    return HeadJob(out)()


def end_of_head(out: str, status: str) -> object:
    """Submit another head if the one in this job died."""
    from srcgcnn.launch.slurm.calls import EndOfHeadJob

    return EndOfHeadJob(out, int(status))()


def worker(out: str, kind: str) -> object:
    """Run a worker of a sweep."""
    from srcgcnn.launch.slurm.calls import WorkerJob

    return WorkerJob(out, int(kind))()


def gang(out: str) -> object:
    """Run one of the tasks of a job that holds head and workers."""
    from srcgcnn.launch.slurm.calls import GangJob

    return GangJob(out)()


def ask(name: str, call_file: str, answer_file: str) -> object:
    """Run one of the calls whose result is waited for, and write what it returns, or its error."""
    try:
        call = parse(_calls()[name], json.loads(Path(call_file).read_text(encoding="utf-8")), call_file)
        answer: dict[str, Any] = {"value": call()}
    except Exception as error:
        write_private(Path(answer_file), json.dumps({"error": f"{type(error).__name__}: {error}"}))
        raise
    write_private(Path(answer_file), json.dumps(answer))
    return "answered"


def _calls() -> dict[str, type[Callable[[], Any]]]:
    from srcgcnn.launch.slurm.site_check import NodeProbe
    from srcgcnn.launch.store_job import StoreJob

    return {kind.__name__: kind for kind in (NodeProbe, StoreJob)}


KINDS: dict[str, Callable[..., object]] = {
    "head": head,
    "end-of-head": end_of_head,
    "worker": worker,
    "gang": gang,
    "ask": ask,
}


def main(arguments: Sequence[str]) -> int:
    """Run one task of a job; its status tells SLURM and `srcgcnn logs` how it ended."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM's warning would end Python; what can leave early handles it
    print(f"{' '.join(arguments)} starts", flush=True)
    try:
        print(f"ends: {KINDS[arguments[0]](*arguments[1:])}", flush=True)
    except Exception:  # noqa: BLE001 - as Python would do, but flushed before Ray's threads are waited for
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
