"""The data of a sweep: find its graph store, or build it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.data.build import default_store
from srcgcnn.data.manifest import MANIFEST_FILE, Manifest
from srcgcnn.data.mp_query import MP_TARGETS, MpFilter, MpQuery
from srcgcnn.data.mp_snapshot import default_snapshot, is_complete
from srcgcnn.data.store import GraphStore
from srcgcnn.sweep.spec import MATERIALS_PROJECT
from srcgcnn.training.trial import DataRef

if TYPE_CHECKING:
    from srcgcnn.sweep.spec import DataSpec

NOT_BUILT = "not-built"


@dataclass(frozen=True)
class FoundData:
    """Where the graphs are.

    Attributes:
        reference: what trials record of their data; its hash is `not-built` in a dry run before the first build.
        folder: the store.
        manifest: its contents, None before the first build.
    """

    reference: DataRef
    folder: Path
    manifest: Manifest | None


def find_data(spec: DataSpec, stores: Path, *, build: bool, strict: bool) -> FoundData:
    """Return the store of a sweep's data.

    Args:
        spec: source, target and unit; a source that is the folder of a store is opened as it is.
        stores: where stores are kept.
        build: fetch and build what is missing.
        strict: bad rows are an error.
    """
    folder = Path(spec.source)
    if (folder / MANIFEST_FILE).exists():
        return _of_store(GraphStore(folder), spec)
    if spec.source == MATERIALS_PROJECT:
        fetched = _fetched(spec, fetch=build)
        if fetched is None:
            target = spec.target or ""
            reference = DataRef(NOT_BUILT, MATERIALS_PROJECT, target, spec.unit or MP_TARGETS[target].unit)
            return FoundData(reference, stores / MATERIALS_PROJECT, None)
        spec = replace(spec, source=str(fetched), mp=None)
    from srcgcnn.data.sources import open_source

    source = open_source(spec.source, [spec.target] if spec.target else [], spec.unit)
    folder = default_store(stores, source)
    if build:
        from srcgcnn.data.progress import build_with_progress

        return _of_store(build_with_progress(source, folder, strict=strict).store, spec)
    if (folder / MANIFEST_FILE).exists():
        return _of_store(GraphStore(folder), spec)
    return FoundData(DataRef(NOT_BUILT, source.name, source.targets[0], source.units[0]), folder, None)


def _fetched(spec: DataSpec, *, fetch: bool) -> Path | None:
    """Return the snapshot of a sweep's materials, None if it is not there and must not be fetched."""
    query = MpQuery((spec.target,) if spec.target else (), spec.mp or MpFilter())
    folder = default_snapshot(query)
    if fetch:
        from srcgcnn.data.progress import fetch_with_progress

        fetch_with_progress(query, folder)
    return folder if is_complete(folder) else None


def _of_store(store: GraphStore, spec: DataSpec) -> FoundData:
    manifest = store.manifest
    column = manifest.target(spec.target) if spec.target else manifest.targets[0]
    reference = DataRef(manifest.data_hash, manifest.source, column.name, spec.unit or column.unit)
    return FoundData(reference, store.folder, manifest)
