"""What a store costs: bytes on disk, time to open, memory of one reader and of four.

    python benchmarks/graph_store.py STORE

Size is compared with the features that the original code holds per crystal: 12 x 41 Gaussians (float32), 12 indices
(int64) and 92 element features (float32) per atom; it is computed for the whole store, and measured on a sample that is
really saved. Memory is the PSS of readers that have gathered every crystal once, batch by batch, from the mapped files:
a page that several processes share counts for each of them in part, so the sum over the readers is what the node pays.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    import numpy as np

    from srcgcnn.data.store import GraphStore

MIB = 2**20
SAMPLE = 300  # crystals that are really saved in the original's form
OPENINGS = 7
BATCH = 256
FIELDS = ("Pss", "Pss_File", "Pss_Anon", "Pss_Shmem")
spawn = get_context("spawn")  # fresh interpreters: nothing is inherited from this one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", metavar="STORE", type=Path)
    folder = parser.parse_args().store
    report_memory(folder, [1, 4])  # first, while this process has not mapped anything that the readers map
    report_opening(folder)
    report_size(folder)


# size


def report_size(folder: Path) -> None:
    from srcgcnn.data.store import GraphStore

    store = GraphStore(folder)
    manifest, keep = store.manifest, store.manifest.graph.neighbours
    ours = sum(path.stat().st_size for path in folder.iterdir())
    per_atom = keep * 41 * 4 + keep * 8 + 92 * 4
    measured, sampled = saved_bytes(store)
    print(f"\n### Size: {manifest.crystals:,} crystals, {manifest.atoms:,} atoms\n")
    print("| form | bytes per atom | MiB | of the store |")
    print("|---|---|---|---|")
    rows = [
        ("store (all files)", ours),
        ("original's features, computed", per_atom * manifest.atoms),
        (f"original's features, {sampled} crystals saved and scaled by atoms", measured * manifest.atoms),
    ]
    for name, size in rows:
        print(f"| {name} | {size / manifest.atoms:,.0f} | {size / MIB:,.1f} | {size / ours:.1f} x |")


def saved_bytes(store: GraphStore) -> tuple[float, int]:
    """Save a sample as the original's arrays, one .npz per crystal; return bytes per atom and the sample's size."""
    import numpy as np

    rows = np.unique(np.linspace(0, len(store) - 1, SAMPLE).astype(int))
    atoms = size = 0
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            path = Path(folder) / f"{row}.npz"
            np.savez(path, **original_arrays(store, int(row)))
            atoms += len(store.graph(int(row)).atomic_numbers)
            size += path.stat().st_size
    return size / atoms, len(rows)


def original_arrays(store: GraphStore, row: int) -> dict[str, np.ndarray]:
    import numpy as np

    graph = store.graph(row)
    distances = np.where(np.isinf(graph.distances), 9.0, graph.distances)
    gaussians = np.exp(-((distances[..., None] - np.arange(41) * 0.2) ** 2) / 0.2**2)
    return {
        "atoms": store.element_features[graph.atomic_numbers].astype(np.float32),
        "edges": gaussians.astype(np.float32),
        "indices": graph.neighbours.astype(np.int64),
    }


# opening


def report_opening(folder: Path) -> None:
    timings = [in_fresh_process(folder) for _ in range(OPENINGS)]
    print(f"\n### Opening, in fresh processes, files in the page cache (median of {OPENINGS})\n")
    print("| step | ms | slowest |")
    print("|---|---|---|")
    names = ("open: manifest, sizes of the files", "map, and make the tensors", "imports (torch), not part of it")
    for name, values in zip(names, zip(*timings, strict=True), strict=True):
        print(f"| {name} | {1e3 * median(values):,.1f} | {1e3 * max(values):,.1f} |")


def in_fresh_process(folder: Path) -> tuple[float, float, float]:
    here, there = spawn.Pipe()
    process = spawn.Process(target=time_opening, args=(there, folder))
    process.start()
    timing = here.recv()
    process.join()
    return timing


def time_opening(parent: Connection, folder: Path) -> None:
    start = time.perf_counter()
    import torch

    from srcgcnn.data.store import GraphStore
    from srcgcnn.training.graphset import GraphSet

    imported = time.perf_counter()
    store = GraphStore(folder)
    opened = time.perf_counter()
    GraphSet.of_store(store, torch.device("cpu"))
    parent.send((opened - imported, time.perf_counter() - opened, imported - start))


# memory


def report_memory(folder: Path, counts: list[int]) -> None:
    data = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    print(f"### Memory: sum over the readers in MiB; the store's arrays have {data / MIB:.1f} MiB\n")
    print("| readers | state | PSS | file-backed | of it the store's files | anonymous | shared memory |")
    print("|---|---|---|---|---|---|---|")
    for count in counts:
        for state, sums in memory_of_readers(folder, count):
            total, backed, anonymous, shared, store = (value / 1024 for value in sums)
            print(f"| {count} | {state} | {total:.1f} | {backed:.1f} | {store:.1f} | {anonymous:.1f} | {shared:.1f} |")


def memory_of_readers(folder: Path, count: int) -> list[tuple[str, list[int]]]:
    """Return, per state, the sums over readers: all FIELDS, then PSS of the store's own files, in kiB."""
    pipes = [spawn.Pipe() for _ in range(count)]
    readers = [spawn.Process(target=read_all, args=(there, folder)) for _, there in pipes]
    for reader in readers:
        reader.start()
    states = []
    for state in ("imports done", "all crystals read"):
        for here, _ in pipes:
            here.recv()
        measured = [memory_of(reader.pid, folder) for reader in readers]
        states.append((state, [sum(values) for values in zip(*measured, strict=True)]))
        for here, _ in pipes:
            here.send("go on")
    for reader in readers:
        reader.join()
    return states


def read_all(parent: Connection, folder: Path) -> None:
    """Gather every crystal once, in a shuffled order as training does."""
    import torch

    from srcgcnn.data.store import GraphStore
    from srcgcnn.training.graphset import GraphSet

    torch.set_num_threads(1)
    parent.send("imports done")
    parent.recv()
    store = GraphStore(folder)
    graphs = GraphSet.of_store(store, torch.device("cpu"))
    for rows in torch.randperm(len(store)).split(BATCH):
        graphs.batch(rows[None])
    for column in store.manifest.targets:
        store.target(column.name)
    parent.send("all crystals read")
    parent.recv()


def memory_of(pid: int | None, folder: Path) -> list[int]:
    process = Path(f"/proc/{pid}")
    rollup = process.joinpath("smaps_rollup").read_text()
    sums = {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB", rollup, re.MULTILINE)}
    return [*(sums[name] for name in FIELDS), mapped(process.joinpath("smaps").read_text(), folder)]


def mapped(smaps: str, folder: Path) -> int:
    """Return the PSS in kiB of the mappings of files in a folder."""
    total, ours = 0, False
    for line in smaps.splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            ours = str(folder.resolve()) in line
        elif ours and line.startswith("Pss:"):
            total += int(line.split()[1])
    return total


if __name__ == "__main__":
    main()
