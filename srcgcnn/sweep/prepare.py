"""The data of a sweep: find its graph store, or build it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from srcgcnn.data.build import default_store
from srcgcnn.data.graph import GraphSettings
from srcgcnn.data.limited_store import GraphLimits
from srcgcnn.data.manifest import MANIFEST_FILE, REJECTED_FILE, Manifest, StoreError
from srcgcnn.data.materials_project.query import MP_TARGETS, MpFilter, MpQuery
from srcgcnn.data.materials_project.snapshot import default_snapshot, is_complete
from srcgcnn.data.source import SourceError, units_given
from srcgcnn.data.store import GraphStore
from srcgcnn.models.own import described, is_own
from srcgcnn.models.published import settings_of
from srcgcnn.models.registry import block_of
from srcgcnn.run.training_config import DepthRecipe
from srcgcnn.run.trial import DataRef, Target
from srcgcnn.sweep.space import variants_of
from srcgcnn.sweep.spec import MATERIALS_PROJECT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.data.build import BuildReport
    from srcgcnn.data.materials_project.snapshot import Snapshot
    from srcgcnn.data.source import Source
    from srcgcnn.sweep.spec import DataSpec, SweepSpec

NOT_BUILT = "not-built"
LEAST_ROWS = 3  # one for each set
MOST_TRIED = 20  # networks of one's own: depths and widths of one class


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


class Builder(Protocol):
    """Makes what is missing, and may show its progress."""

    def build(self, source: Source, out: Path, settings: GraphSettings, *, strict: bool) -> BuildReport:
        """Build or find the store `out`."""

    def fetch(self, query: MpQuery, folder: Path) -> Snapshot:
        """Fetch or find a snapshot of the Materials Project."""


class QuietBuilder:
    """A `Builder` that shows nothing."""

    def build(self, source: Source, out: Path, settings: GraphSettings, *, strict: bool) -> BuildReport:
        """Build or find a store."""
        from srcgcnn.data.build import build_store

        return build_store(source, out, settings=settings, strict=strict)

    def fetch(self, query: MpQuery, folder: Path) -> Snapshot:
        """Fetch or find a snapshot."""
        from srcgcnn.data.materials_project.snapshot import fetch_snapshot

        return fetch_snapshot(query, folder)


def find_data(spec: DataSpec, stores: Path, builder: Builder | None, *, strict: bool) -> FoundData:
    """Return the store of a sweep's data.

    Args:
        spec: source, target and unit; a source that is the folder of a store is opened as it is.
        stores: where stores are kept.
        builder: fetches and builds what is missing; None leaves it missing.
        strict: treat bad rows as an error.
    """
    folder = Path(spec.source)
    if (folder / MANIFEST_FILE).exists():
        found = _of_store(GraphStore(folder), spec)
        if strict and found.manifest and found.manifest.rejected:
            raise StoreError(f"--strict: {found.manifest.rejected:,} bad rows, listed in {folder / REJECTED_FILE}")
        return found
    if spec.source == MATERIALS_PROJECT:
        if builder is None and not is_complete(default_snapshot(_query(spec))):
            names = _query(spec).targets
            units = [MP_TARGETS[name].unit for name in names]
            reference = DataRef.of(NOT_BUILT, MATERIALS_PROJECT, _targets(names, units, spec))
            return FoundData(reference, stores / MATERIALS_PROJECT, None)
        spec = fetch_materials(spec, builder or QuietBuilder())
    source = source_of(spec)
    if spec.targets:  # `gap` may have found `gap [eV]`
        spec = replace(spec, target=source.targets)
    folder = default_store(stores, source, spec.graph)
    if not (folder / MANIFEST_FILE).exists():
        _refuse_few_rows(source, spec)
    if builder is not None:
        return build_data(source, spec, stores, builder, strict=strict)
    if (folder / MANIFEST_FILE).exists():
        return _of_store(GraphStore(folder), spec)
    count = len(spec.targets) or 1
    targets = _targets(source.targets[:count], source.units[:count], spec)
    return FoundData(DataRef.of(NOT_BUILT, source.name, targets), folder, None)


def _refuse_few_rows(source: Source, spec: DataSpec) -> None:
    rows = source.count
    if rows is None:
        rows = sum(1 for _ in islice(source.rows(), LEAST_ROWS))
    if rows < LEAST_ROWS:
        raise SourceError(f"{spec.source}: {rows} rows are too few for a training, a validation and a test set")


def build_data(source: Source, spec: DataSpec, stores: Path, builder: Builder, *, strict: bool = False) -> FoundData:
    """Return the store of a source that is open, built if it is missing; arguments as those of `find_data`."""
    folder = default_store(stores, source, spec.graph)
    return _of_store(builder.build(source, folder, spec.graph, strict=strict).store, spec)


def source_of(spec: DataSpec) -> Source:
    """Open the source of a sweep: the listed crystals of it, if some are listed."""
    from srcgcnn.data.id_list import only, read_ids
    from srcgcnn.data.sources.registry import open_source

    source = open_source(spec.source, spec.targets, spec.unit)
    if len(source.targets) < len(spec.targets):
        raise ValueError(f"target={list(spec.targets)} names a column of {spec.source} twice")
    return source if spec.ids is None else only(source, read_ids(Path(spec.ids)))


def with_own_networks(spec: SweepSpec) -> SweepSpec:
    """Return a spec with what plans must know about user-defined networks; each is imported and tried once.

    Raises:
        ValueError: one may not be imported, or does not work; the message says why.
    """
    names = sorted({name for axes in spec.axes for name in axes.models if is_own(name)})
    if not names:
        return spec if not spec.networks else replace(spec, networks=())
    from srcgcnn.models.own_network import try_out

    spec = replace(spec, networks=tuple(described(name) for name in names))
    variants = [variant for variant in variants_of(spec) if variant.model.own]
    if any(variant.training.depth != DepthRecipe() for variant in variants):
        raise ValueError(f"[training.depth] needs networks whose steps are known, not {', '.join(names)}: leave it out")
    for network in list(dict.fromkeys(variant.model for variant in variants))[:MOST_TRIED]:
        try_out(network)
    return spec


def refuse_missing_edges(spec: SweepSpec, found: FoundData) -> None:
    """Check that the graphs of a sweep have all that its networks need.

    Raises:
        StoreError: a network of the sweep needs vectors to neighbours, and the store has distances only.
        ValueError: a trial uses more neighbours than the graphs have.
    """
    graph = found.manifest.graph if found.manifest else spec.data.graph
    for axes in spec.axes:
        usual = asdict(spec.training.graph)
        varied = [axes.named.get(f"training.graph.{name}", (value,)) for name, value in usual.items()]
        for values in product(*varied):
            GraphLimits(*values).of(graph)
    names = {name for axes in spec.axes for name in axes.models}
    if found.manifest and any("vectors" in block_of(settings_of(name)["family"]).needs for name in names):
        GraphStore(found.folder).require_vectors()


def fetch_materials(spec: DataSpec, builder: Builder) -> DataSpec:
    """Return the spec with `mp` replaced by the folder of its snapshot, fetched here if need be; any other as it is."""
    if spec.source != MATERIALS_PROJECT:
        return spec
    folder = default_snapshot(_query(spec)).absolute()
    if not is_complete(folder):
        builder.fetch(_query(spec), folder)
    return replace(spec, source=str(folder), mp=None, ids=None)


def _query(spec: DataSpec) -> MpQuery:
    from srcgcnn.data.id_list import read_ids

    ids = () if spec.ids is None else read_ids(Path(spec.ids))
    return MpQuery(spec.targets, spec.mp or MpFilter(), ids)


def _of_store(store: GraphStore, spec: DataSpec) -> FoundData:
    manifest = store.manifest
    if spec.ids is not None:
        raise StoreError(
            f"{store.folder} is a graph store and used as a whole: give --ids with the source that it was built from"
        )
    if spec.graph not in (GraphSettings(), manifest.graph):
        raise StoreError(
            f"{store.folder} holds graphs of {manifest.graph}, [data.graph] asks for {spec.graph}: leave it out, or "
            "name the source instead of the store"
        )
    columns = [manifest.target(name) for name in spec.targets] or [manifest.targets[0]]
    names, units = [column.name for column in columns], [column.unit for column in columns]
    if len(columns) < len(manifest.targets) and any(column.missing for column in columns):
        store.targets(names)  # refuses crystals that have none of them
    reference = DataRef.of(manifest.data_hash, manifest.source, _targets(names, units, spec))
    return FoundData(reference, store.folder, manifest)


def _targets(names: Sequence[str], units: Sequence[str], spec: DataSpec) -> list[Target]:
    """Return targets in the units that the sweep gives, or else in their own."""
    units = units if spec.unit is None else units_given(spec.unit, names)
    return [Target(*each) for each in zip(names, units, strict=True)]
