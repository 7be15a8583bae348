"""The commands of `srcgcnn data`: fetch, build, info, verify, export."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_command, add_group

if TYPE_CHECKING:
    from srcgcnn.data.graph import GraphSettings
    from srcgcnn.data.limits import SourceLimits
    from srcgcnn.data.manifest import Manifest

SOURCES_HELP = (
    "demo | a snapshot (srcgcnn data fetch mp) | jarvis:NAME | matbench:NAME | "
    "a folder of CIF or POSCAR files with id_prop.csv or another table | "
    "a table .csv/.tsv(.gz)/.parquet with a cif column | a matbench .json.gz | .jsonl(.gz) with pymatgen structures | "
    ".extxyz and what ASE reads"
)
FORMATS = ("csv", "cgcnn", "matbench")
LIMIT_FLAGS: dict[str, tuple[type, str, str]] = {  # fields of SourceLimits
    "atoms": (int, "N", "atoms in a cell"),
    "symmetry_operations": (int, "N", "symmetry operations that a CIF lists"),
    "cell_angstrom": (float, "A", "longest cell vector, in angstrom"),
    "text_mib": (float, "MIB", "size of a CIF or JSON object, in 2^20 characters"),
    "seconds": (float, "S", "processor time of a row"),
    "memory_gib": (float, "GIB", "memory of a worker process, in 2^30 bytes"),
    "unpacked_gib": (float, "GIB", "size of a compressed file when unpacked, in 2^30 bytes; beyond it nothing is read"),
}


def add_data_commands(commands: Any) -> None:
    """Add `data` to a parser's subparsers."""
    inner = add_group(commands, "data", "fetch and export crystals; build, describe and check graph stores")
    _add_fetch(inner)
    build = add_command(
        inner,
        "build",
        "build a graph store",
        _build,
        description="Turn crystals into graphs, once. A sweep builds its store itself; this builds it beforehand.",
        examples="srcgcnn data build my_table.csv.gz --target band_gap --out stores/mine",
    )
    build.add_argument("source", metavar="SOURCE", help=SOURCES_HELP)
    build.add_argument("--out", type=Path, required=True, metavar="STORE", help="folder of the store")
    _add_target(build)
    _add_ids(build)
    build.add_argument("--strict", action="store_true", help="treat bad rows as an error")
    build.add_argument("--processes", type=int, help="default: all cores")
    graph = build.add_argument_group("graphs", "different graphs need a different store, which has its own results")
    graph.add_argument(
        "--neighbours", metavar="K", default="12", help="nearest neighbours to keep, or all (default 12)"
    )
    graph.add_argument("--cutoff", type=float, default=8.0, metavar="A", help="of neighbours, in angstrom (default 8)")
    graph.add_argument("--whole-shells", action="store_true", help="keep the whole shell of the K-th neighbour")
    _add_limits(build)
    info = add_command(
        inner,
        "info",
        "describe a store or a snapshot, and say how to cite it",
        _info,
        description="Print what a graph store or a snapshot of the Materials Project holds, and how to cite it.",
        examples="srcgcnn data info stores/demo-480",
    )
    info.add_argument("folder", type=Path, metavar="STORE")
    info.add_argument("--json", action="store_true", help="print the manifest")
    verify = add_command(
        inner,
        "verify",
        "check every byte of a store",
        _verify,
        description="Compare every file of a store with the checksums in its manifest.",
        examples="srcgcnn data verify stores/demo-480",
    )
    verify.add_argument("store", type=Path, metavar="STORE")
    export = add_command(
        inner,
        "export",
        "write the crystals of a source as files for other programs",
        _export,
        description="Write crystals and targets for other codes.",
        examples="srcgcnn data export demo --format cgcnn --out demo_cgcnn",
    )
    export.add_argument("source", metavar="SOURCE", help=SOURCES_HELP)
    export.add_argument("--format", choices=FORMATS, required=True, help="table with CIFs, CGCNN folder, matbench JSON")
    export.add_argument("--out", type=Path, required=True, metavar="PATH", help=".csv(.gz) | folder | .json(.gz)")
    _add_target(export)


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", action="append", default=[], help="target column; may be given several times")
    parser.add_argument("--unit", help="unit of the target; default: guessed from its name")


def _add_ids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ids", type=Path, metavar="FILE", help="only these: one id per line, or the first column")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every limit; a row beyond one is a bad row."""
    from srcgcnn.data.limits import SourceLimits

    limits = parser.add_argument_group("limits", "of a row; one beyond them is listed as a bad row (docs/security.md)")
    usual = SourceLimits()
    for name, (kind, metavar, what) in LIMIT_FLAGS.items():
        flag = f"--max-{name.replace('_', '-')}"
        value = getattr(usual, name)
        limits.add_argument(
            flag, type=kind, metavar=metavar, default=value, dest=f"max_{name}", help=f"{what} (default {value:g})"
        )


def _graph_of(options: argparse.Namespace) -> GraphSettings:
    from srcgcnn.data.graph import GraphSettings
    from srcgcnn.records import parse

    neighbours = int(options.neighbours) if options.neighbours.isdecimal() else options.neighbours
    values = {"neighbours": neighbours, "cutoff_angstrom": options.cutoff, "whole_shells": options.whole_shells}
    return parse(GraphSettings, values, "graph")


def _limits_of(options: argparse.Namespace) -> SourceLimits:
    from srcgcnn.data.limits import SourceLimits

    return SourceLimits(**{name: getattr(options, f"max_{name}") for name in LIMIT_FLAGS})


def _add_fetch(commands: Any) -> None:
    """Add the flags of a query; their names are the keys of `[data.mp]` in a sweep definition."""
    parser = add_command(
        commands,
        "fetch",
        "fetch crystals from the Materials Project",
        _fetch,
        description="Fetch a snapshot, page by page; an interrupted one is resumed. The API key is read from "
        "MP_API_KEY or from pymatgen's configuration (PMG_MAPI_KEY).",
        examples="""
        srcgcnn data fetch mp --target band_gap --stable-only --limit 1000 --out snapshots/gaps
        srcgcnn data fetch mp --target formation_energy --ids published.txt --out snapshots/published
        """,
    )
    parser.add_argument("database", choices=["mp"], help="the Materials Project")
    parser.add_argument("--target", action="append", default=[], help="may be given several times")
    parser.add_argument("--out", type=Path, metavar="SNAPSHOT", help="default: a folder per query in the user's cache")
    parser.add_argument(
        "--ids", type=Path, metavar="FILE", help="exactly these: one id per line; lost and renamed ones are listed"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N by material id, compared as text")
    parser.add_argument("--stable-only", action="store_true", help="on the convex hull")
    parser.add_argument(
        "--theoretical", action=argparse.BooleanOptionalAction, default=None, help="never made, or made (default: both)"
    )
    parser.add_argument("--gnome", action="store_true", help="with GNoME's materials (CC BY-NC)")
    parser.add_argument("--elements", nargs="+", default=[], metavar="EL", help="all of these")
    parser.add_argument("--exclude-elements", nargs="+", default=[], metavar="EL", help="none of these")
    for name, unit in (("band-gap", "eV"), ("formation-energy", "eV/atom"), ("above-hull", "eV/atom")):
        for end in ("min", "max"):
            key = f"{end}_{name.replace('-', '_')}_ev"
            parser.add_argument(f"--{end}-{name}", type=float, metavar="E", help=f"in {unit}", dest=key)
    parser.add_argument("--min-sites", type=int, metavar="N", help="atoms in the cell")
    parser.add_argument("--max-sites", type=int, metavar="N")


def _fetch(options: argparse.Namespace) -> int:
    from dataclasses import fields

    from srcgcnn.cli.building import fetch_with_progress
    from srcgcnn.data.id_list import read_ids
    from srcgcnn.data.materials_project.query import MpFilter, MpQuery
    from srcgcnn.data.materials_project.snapshot import default_snapshot

    values = {field.name: getattr(options, field.name) for field in fields(MpFilter)}
    values |= {name: tuple(values[name]) for name in ("elements", "exclude_elements")}
    ids = () if options.ids is None else read_ids(options.ids)
    query = MpQuery(tuple(options.target), MpFilter(**values), ids)
    folder = options.out or default_snapshot(query)
    fetch_with_progress(query, folder)
    print(_describe_snapshot(folder))
    return 0


def _build(options: argparse.Namespace) -> int:
    from srcgcnn.cli.building import build_with_progress
    from srcgcnn.data.id_list import only, read_ids
    from srcgcnn.data.sources.registry import open_source

    source = open_source(options.source, options.target, options.unit, _limits_of(options))
    if options.ids is not None:
        source = only(source, read_ids(options.ids))
    report = build_with_progress(
        source, options.out, settings=_graph_of(options), processes=options.processes, strict=options.strict
    )
    print(describe(report.store.manifest))
    return 0


def _info(options: argparse.Namespace) -> int:
    from srcgcnn.data.materials_project.snapshot import is_snapshot, read_snapshot
    from srcgcnn.data.store import GraphStore
    from srcgcnn.records import as_dict

    if is_snapshot(options.folder):
        snapshot = read_snapshot(options.folder)
        print(json.dumps(as_dict(snapshot), indent=1) if options.json else _describe_snapshot(options.folder))
        return 0
    manifest = GraphStore(options.folder).manifest
    print(json.dumps(as_dict(manifest), indent=1) if options.json else describe(manifest))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from srcgcnn.data.store import GraphStore

    store = GraphStore(options.store, check_hashes=True)
    print(f"{options.store}: intact ({len(store):,} crystals, {len(store.manifest.shards)} shards, all hashes agree)")
    return 0


def _export(options: argparse.Namespace) -> int:
    from srcgcnn.data.export import export_source
    from srcgcnn.data.sources.registry import open_source

    source = open_source(options.source, options.target, options.unit)
    report = export_source(source, options.format, options.out)
    for line in report.left_out[:3]:
        print(f"left out {line}")
    print(f"{report.crystals:,} crystals in {options.out}, {len(report.left_out)} rows left out")
    print(source.provenance)
    return 0


def describe(manifest: Manifest) -> str:
    """Describe a store in a few lines."""
    from srcgcnn.data.source import with_unit

    size = sum(shard.bytes for shard in manifest.shards) + sum(stored.bytes for stored in manifest.geometry)
    lines = [
        f"data hash    {manifest.data_hash}",
        f"source       {manifest.source} ({manifest.provenance})",
        f"crystals     {manifest.crystals:,} with {manifest.atoms:,} atoms, {manifest.rejected:,} rows rejected",
        f"graphs       {_graph_line(manifest)}",
        f"size         {size / 2**20:.1f} MiB in {len(manifest.shards)} shards",
    ]
    lines += [
        f"target       {with_unit(target.name, target.unit)}: mean {target.mean:.4f}, "
        f"deviation {target.std:.4f}, range {target.minimum:.4f} .. {target.maximum:.4f}"
        + (f"; missing in {target.missing:,} crystals" if target.missing else "")
        for target in manifest.targets
    ]
    return "\n".join(lines)


def _graph_line(manifest: Manifest) -> str:
    graph = manifest.graph
    nearest = "all" if graph.neighbours == "all" else f"{graph.neighbours} nearest"
    shells = ", whole shells" if graph.whole_shells else ""
    lacking = "fewer" if graph.fixed_degree else "none"
    vectors = "vectors" if manifest.geometry else "distances only"
    return (
        f"{nearest} within {graph.cutoff_angstrom:g} angstrom{shells}, {manifest.padded_atoms:,} atoms have {lacking}; "
        f"{vectors}"
    )


def _describe_snapshot(folder: Path) -> str:
    """Describe a snapshot in the same way, from its documents as they came."""
    import numpy as np

    from srcgcnn.data.columns import is_number
    from srcgcnn.data.materials_project.snapshot import IDS_FILE, open_snapshot, read_snapshot
    from srcgcnn.data.source import with_unit

    snapshot, source = read_snapshot(folder), open_snapshot(folder)
    rows = [row.targets for row in source.rows()]
    size = sum((folder / page.file).stat().st_size for page in snapshot.pages) / 2**20
    lines = [
        f"source       {source.provenance}",
        f"materials    {snapshot.expected:,}",
        f"size         {size:.1f} MiB in {len(snapshot.pages)} pages",
    ]
    if snapshot.query.ids:
        lines.append(
            f"listed ids   {len(snapshot.query.ids):,}, of which {len(snapshot.lost):,} are lost and "
            f"{len(snapshot.renamed):,} renamed: {folder / IDS_FILE}"
        )
    for name, unit in zip(source.targets, source.units, strict=True):
        values = np.array([row[name] for row in rows if is_number(row.get(name))], dtype=np.float64)
        spread = (
            f"mean {values.mean():.4f}, deviation {values.std(ddof=1) if len(values) > 1 else 0:.4f}, "
            f"range {values.min():.4f} .. {values.max():.4f}"
            if len(values)
            else "none"
        )
        lines.append(f"target       {with_unit(name, unit)}: {len(values):,} values, {spread}")
    return "\n".join(lines)
