"""Source to store: parse and build graphs in parallel processes, list bad rows, publish by one rename.

A build works in a folder next to its destination and renames it at the end, under a lock: a killed build leaves nothing
that a reader accepts, and two builders of one store do the work once.
"""

from __future__ import annotations

import csv
import math
import os
import re
import shutil
import warnings
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from multiprocessing import current_process
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from srcgcnn.data.columns import is_missing, number_of
from srcgcnn.data.graph import CrystalGraph, GraphSettings, build_graph
from srcgcnn.data.limits import SourceLimits
from srcgcnn.data.manifest import CONTENT_VERSION, MANIFEST_FILE, REJECTED_FILE, StoreError
from srcgcnn.data.parsing import parse_structure
from srcgcnn.data.row_workers import OutOfTimeError, RowWorkers, WorkerStartError, time_limit
from srcgcnn.data.source import RowError, Source, SourceRow
from srcgcnn.data.store import GraphStore
from srcgcnn.data.store_writer import StoreWriter
from srcgcnn.records import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

ROWS_PER_TASK = 64
SERIAL_ROWS = 256  # below this, starting processes costs more than it saves


class BuildError(ValueError):
    """A store could not be built; the message says why."""


@dataclass(frozen=True)
class BuiltRow:
    """A usable row: graph, reduced formula and target values, NaN where one of several is missing."""

    row_id: str
    graph: CrystalGraph
    formula: str
    targets: tuple[float, ...]


@dataclass(frozen=True)
class RejectedRow:
    """A row that cannot be used, with the reason."""

    row_id: str
    reason: str


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes:
        store: the opened store.
        found: it was there already.
        rejected: bad rows (empty when found; see `rejected.csv`).
    """

    store: GraphStore
    found: bool
    rejected: tuple[RejectedRow, ...]


def build_key(source: Source, settings: GraphSettings) -> str:
    """Return the hash of everything that determines a store, known before it is built."""
    # limits only if they are not the default ones: keys of stores that were built without them stay what they are
    limits = [] if source.limits == SourceLimits() else [asdict(source.limits)]
    targets = [list(source.targets), list(source.units)]
    gaps = ["gaps"] if len(source.targets) > 1 else []  # earlier stores of several targets lack the rows with gaps
    return digest([CONTENT_VERSION, source.content_hash, *targets, settings.identity, *limits, *gaps])


def default_store(root: Path, source: Source, settings: GraphSettings | None = None) -> Path:
    """Return where the store of a source is by default."""
    name = "".join(char if char.isalnum() or char in "-_" else "-" for char in source.name)
    return root / f"{name[:40]}-{build_key(source, settings or GraphSettings())}"


def build_store(
    source: Source,
    out: Path,
    *,
    settings: GraphSettings | None = None,
    processes: int | None = None,
    strict: bool = False,
    shard_bytes: int | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> BuildReport:
    """Build the store of a source at `out`, or find it there.

    Args:
        source: where the crystals come from.
        out: folder of the store; it must not exist, or hold the same store.
        settings: what a graph is.
        processes: worker processes; default all cores of this process.
        strict: treat bad rows as an error.
        shard_bytes: start a new shard beyond this size.
        on_rows: called with the number of rows that were just finished.

    Call it under `if __name__ == "__main__":` in a script, since worker processes import the script again.

    Raises:
        BuildError: no usable row, bad rows with `strict`, or no process to work.
        StoreError: `out` holds something else, or a damaged store.
    """
    if getattr(current_process(), "_inheriting", False):  # a worker process is importing the caller's script
        raise BuildError('build_store was called while a worker started: put it under `if __name__ == "__main__":`')
    if processes is not None and processes < 1:
        raise BuildError(f"processes={processes} must be 1 or more")
    settings = settings or GraphSettings()
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.with_name(f".{out.name}.lock")):
        existing = _existing(out, build_key(source, settings))
        if existing and strict and existing.manifest.rejected:
            listing = out / REJECTED_FILE
            raise BuildError(f"--strict: {existing.manifest.rejected} bad rows in {out}; all are listed in {listing}")
        if existing:
            return BuildReport(existing, found=True, rejected=())
        _remove_leftovers(out)
        scratch = out.with_name(f".{out.name}.{os.getpid()}.building")
        scratch.mkdir()
        try:
            rejected = _fill(scratch, source, settings, _processes(processes, source), shard_bytes, on_rows)
            _refuse(rejected, strict=strict, out=out)
            scratch.rename(out)
        except WorkerStartError as error:
            raise BuildError(str(error)) from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return BuildReport(GraphStore(out), found=False, rejected=tuple(rejected))


def _existing(out: Path, key: str) -> GraphStore | None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MANIFEST_FILE).exists():
        raise StoreError(f"{out} exists and is not a graph store; choose another --out")
    store = GraphStore(out)
    if store.manifest.build_key != key:
        raise StoreError(
            f"{out} holds another store (source {store.manifest.source!r}, build {store.manifest.build_key}, "
            f"requested {key}); choose another --out or delete it"
        )
    return store


def _remove_leftovers(out: Path) -> None:
    """Delete what killed builds of this store left; the lock ensures that no other build runs now."""
    ours = re.compile(rf"\.{re.escape(out.name)}\.\d+\.building")  # not those of `<name>.v2`, under its own lock
    for leftover in out.parent.iterdir():
        if ours.fullmatch(leftover.name):
            shutil.rmtree(leftover, ignore_errors=True)
    if out.is_dir():
        out.rmdir()


def _processes(requested: int | None, source: Source) -> int:
    if requested is not None:
        return requested
    small = source.count is not None and source.count <= SERIAL_ROWS
    return 1 if small else len(os.sched_getaffinity(0))


def _fill(
    scratch: Path,
    source: Source,
    settings: GraphSettings,
    processes: int,
    shard_bytes: int | None,
    on_rows: Callable[[int], None] | None,
) -> list[RejectedRow]:
    """Write shards, manifest and `rejected.csv` into the scratch folder."""
    writer = StoreWriter(scratch, source, settings, build_key(source, settings), shard_bytes)
    rejected: list[RejectedRow] = []
    seen: set[str] = set()
    for finished in _build_rows(source, settings, processes):
        for row in finished:
            if row.row_id in seen:
                rejected.append(RejectedRow(row.row_id, "duplicate id: the first row with this id was kept"))
            elif isinstance(row, RejectedRow):
                rejected.append(row)
            else:
                seen.add(row.row_id)
                writer.add(row.row_id, row.formula, row.graph, row.targets)
        if on_rows:
            on_rows(len(finished))
    write_rejected(scratch / REJECTED_FILE, rejected)
    if writer.crystals == 0:
        raise BuildError(f"{source.name}: no usable row. {_summary(rejected)}")
    if empty := writer.empty_targets:
        raise BuildError(f"{source.name}: no usable row has a value of {', '.join(map(repr, empty))}")
    writer.finish(rejected=len(rejected))
    return rejected


def _build_rows(source: Source, settings: GraphSettings, processes: int) -> Iterator[list[BuiltRow | RejectedRow]]:
    """Yield finished rows in source order, with a bounded number of tasks under way."""
    tasks = _tasks(source.rows())
    work = partial(_build_row, targets=source.targets, settings=settings, limits=source.limits)
    if processes == 1:
        _import_parsers()
        for task in tasks:
            yield [work(row) for row in task]
        return
    with RowWorkers(processes, work, _lost, source.limits, prepare=_import_parsers) as workers:
        yield from workers.map(tasks)


def _import_parsers() -> None:
    """Import what the first row needs, whose time limit must not include it."""
    import pymatgen.core
    import pymatgen.io.cif
    import pymatgen.optimization.neighbors  # noqa: F401


def _lost(row: SourceRow, reason: str) -> RejectedRow:
    return RejectedRow(row.row_id, reason)


def _tasks(rows: Iterable[SourceRow]) -> Iterator[list[SourceRow]]:
    iterator = iter(rows)
    while task := list(islice(iterator, ROWS_PER_TASK)):
        yield task


def _build_row(
    row: SourceRow, targets: tuple[str, ...], settings: GraphSettings, limits: SourceLimits
) -> BuiltRow | RejectedRow:
    try:
        with time_limit(limits.seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns about rounding in nearly every CIF
            structure = parse_structure(
                row, limits
            )  # first: a row that its source could not read has no targets either
            values = _target_values(row, targets)
            graph = build_graph(structure, settings)
            formula = structure.composition.reduced_formula
    except RowError as error:
        return RejectedRow(row.row_id, str(error))
    except OutOfTimeError:
        return RejectedRow(row.row_id, f"took more than {limits.seconds:g} s of processor time")
    except MemoryError:
        return RejectedRow(row.row_id, f"needs more than {limits.memory_gib:g} GiB of memory")
    return BuiltRow(row.row_id, graph, formula, values)


def _target_values(row: SourceRow, names: tuple[str, ...]) -> tuple[float, ...]:
    """Return the targets of a row. Of several some may be missing, which are NaN; the only one may not."""
    if len(names) == 1:
        return (_target_value(names[0], row.targets.get(names[0])),)
    found = {name: raw for name in names if not _is_gap(raw := row.targets.get(name))}
    if not found:
        raise RowError(f"has none of the targets {', '.join(map(repr, names))}")
    return tuple(_target_value(name, found[name]) if name in found else math.nan for name in names)


def _is_gap(raw: Any) -> bool:
    return is_missing(raw) or (isinstance(raw, float) and math.isnan(raw))


def _target_value(name: str, raw: Any) -> float:
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        raise RowError(f"missing target {name!r}")
    try:
        value = number_of(raw)
    except ValueError:
        raise RowError(f"target {name!r} is not a number: {raw!r}") from None
    if not math.isfinite(value):
        raise RowError(f"target {name!r} is {value}")
    return value


def write_rejected(path: Path, rejected: Iterable[RejectedRow]) -> None:
    """Write the list of bad rows."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "reason"])
        writer.writerows((row.row_id, row.reason) for row in rejected)


def _refuse(rejected: list[RejectedRow], *, strict: bool, out: Path) -> None:
    if strict and rejected:
        listing = out.with_name(f"{out.name}.rejected.csv")
        write_rejected(listing, rejected)
        raise BuildError(f"--strict: {_summary(rejected)} All are listed in {listing}")


def _summary(rejected: list[RejectedRow]) -> str:
    if not rejected:
        return "It has no rows."
    first = "; ".join(f"{row.row_id[:80]}: {row.reason}" for row in rejected[:3])
    return f"{len(rejected)} bad rows ({first}{' ...' if len(rejected) > 3 else ''})."
