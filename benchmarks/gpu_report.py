#!/usr/bin/env python3
"""Everything that docs/performance.md says about GPUs, in one call (about nine minutes on a data-centre GPU).

    python benchmarks/gpu_report.py STORE --target formation_energy_per_atom [--authors SR-CGCNN] [--out gpu-report]

Needs torch, torch-geometric, numpy and safetensors only: neither Ray nor MLflow nor pymatgen. STORE comes from
`srcgcnn data build` on any machine; 10,000 crystals are 20 MB. Every part runs in a process of its own with a time
limit, and writes OUT/<part>.json when it is done: a part that fails loses nothing of the others. `--device cpu --tiny`
tries the script where there is no GPU; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
import types
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

PROCESS_START = time.time()
CRYSTALS, EPOCHS = 10_000, 300
LIMITS_S = {
    "start": 60, "trial": 120, "authors": 90, "paper": 150, "group": 60, "memory": 40, "throughput": 120,
}  # fmt: skip
GROUP_SIZE = 16
PAPER_MODELS = (("cgcnn", 3), ("srcgcnn", 3), ("cgcnn", 1), ("srcgcnn", 5))


class Bench:
    """One process's view: store, device, and trials on a fixed choice of crystals."""

    def __init__(self, options: argparse.Namespace) -> None:
        import_started = time.time()
        import torch

        from srcgcnn.data.store import GraphStore
        from srcgcnn.training.group import GroupTrainer  # noqa: F401 - its import is part of a worker's start

        self.import_s = time.time() - import_started
        self.torch, self.tiny = torch, options.tiny
        self.device = torch.device(options.device)
        self.store = GraphStore(options.store)
        self.target = options.target or self.store.manifest.targets[0].name
        self.crystals = min(len(self.store), 60 if self.tiny else CRYSTALS)
        generator = torch.Generator().manual_seed(0)
        rows = torch.randperm(len(self.store), generator=generator)[: self.crystals].tolist()
        ids = [self.store.ids[row] for row in rows]
        cuts = (int(0.6 * self.crystals), int(0.8 * self.crystals))
        self.lists = (tuple(ids[: cuts[0]]), tuple(ids[cuts[0] : cuts[1]]), tuple(ids[cuts[1] :]))

    def trial(self, family: str, depth: int, seed: int = 0, epochs: int = EPOCHS, **training: Any) -> Any:
        from srcgcnn.models.config import ModelConfig
        from srcgcnn.training.trial import DataRef, Seeds, SplitConfig, TrainingConfig, TrialConfig

        data = DataRef(self.store.manifest.data_hash, "benchmark", self.target, "")
        split = SplitConfig("lists", lists=self.lists)
        recipe = TrainingConfig(epochs=2 if self.tiny else epochs, split=split, **training)
        return TrialConfig(ModelConfig(family, depth).canonical(), recipe, Seeds(seed, seed, 0), data)

    def trainer(self, *trials: Any) -> Any:
        from srcgcnn.training.group import GroupTrainer

        return GroupTrainer(trials, self.store, device=self.device)

    def synchronised(self) -> float:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()
        return time.perf_counter()

    def epoch_times(self, trials: list[Any]) -> tuple[float, float]:
        """Seconds of the first epoch (with compilation) and the median of the others, evaluation included."""
        trainer = self.trainer(*trials)
        times = [self.synchronised()]
        trainer.train(on_epoch=lambda _: times.append(self.synchronised()))
        steps = [after - before for before, after in pairwise(times)]
        return steps[0], median(steps[1:])

    def peak_mb(self, depth: int) -> float:
        from srcgcnn.training.provenance import peak_memory_mb

        trainer = self.trainer(self.trial("srcgcnn", depth, epochs=2))
        trainer.train()
        return peak_memory_mb(self.device)


def start(bench: Bench, _: argparse.Namespace) -> dict[str, Any]:
    """A worker's start to its first training steps, from the start of the process."""
    data_started = time.time()
    trainer = bench.trainer(bench.trial("srcgcnn", 3, epochs=2))
    data_s = time.time() - data_started
    first: list[float] = []
    began = bench.synchronised()
    trainer.train(on_epoch=lambda _: first.append(bench.synchronised() - began))
    return {
        "import_s": bench.import_s,
        "data_s": data_s,
        "first_epoch_s": first[0],
        "second_epoch_s": first[1] - first[0],
        "process_to_end_of_first_epoch_s": time.time() - PROCESS_START - (first[1] - first[0]),
    }


def trial(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """One whole trial, from the start of the process to its result file."""
    from srcgcnn.sweep.paths import RunPaths
    from srcgcnn.sweep.results import write_result
    from srcgcnn.training.outcome import conclude, save_member

    trainer = bench.trainer(bench.trial("srcgcnn", 3))
    trainer.train()
    (outcome,) = conclude(trainer)
    paths = RunPaths(options.out / "trial")
    save_member(trainer, 0, bench.store, paths.model(outcome.result.key))
    write_result(paths, outcome.result)
    return {
        "process_to_result_s": time.time() - PROCESS_START,
        "epochs": trainer.progress.epoch,
        "test_mae": outcome.result.metrics.test_mae,
        "structures_per_second": outcome.result.cost.structures_per_second,
    }


def authors(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """The authors' epochs on the same device, T = 3, their loader with graphs in memory; extrapolated to the recipe."""
    if options.authors is None:
        return {"skipped": "--authors was not given"}
    torch = bench.torch
    for name in ("pymatgen", "pymatgen.core", "pymatgen.core.structure"):  # imported there, needed for CIF files only
        if importlib.util.find_spec("pymatgen") is None:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].Structure = None  # type: ignore[attr-defined]
    sys.path.insert(0, str(options.authors))
    data, model = importlib.import_module("cgcnn.data"), importlib.import_module("cgcnn.model")
    network = model.CrystalGraphConvNet(
        92, 41, n_conv=3, h_fea_len=128, conv_mode="shared_recurrent", n_recurrent_steps=3
    )
    network.to(bench.device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    train, validation = (authors_items(bench, ids) for ids in bench.lists[:2])
    seconds = []
    for _ in range(2 if bench.tiny else 3):
        began = bench.synchronised()
        for items, training in ((train, True), (validation, False)):
            network.train(training)
            loader = torch.utils.data.DataLoader(items, 256, shuffle=training, collate_fn=data.collate_pool)
            for (atoms, bonds, neighbours, crystals), wanted, _ in loader:
                inputs = (atoms.to(bench.device), bonds.to(bench.device), neighbours.to(bench.device))
                with torch.set_grad_enabled(training):
                    found = network(*inputs, [rows.to(bench.device) for rows in crystals])
                    loss = torch.nn.functional.mse_loss(found, wanted.to(bench.device))
                if training:
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                loss.item()  # as their loop does, for its running average
        seconds.append(bench.synchronised() - began)
    return {"epoch_s": median(seconds[1:]), "trial_s": EPOCHS * median(seconds[1:]), "graphs": "in memory, not counted"}


def authors_items(bench: Bench, ids: tuple[str, ...]) -> list[Any]:
    torch = bench.torch
    row_of = {name: row for row, name in enumerate(bench.store.ids)}
    values = bench.store.target(bench.target)
    features = torch.from_numpy(bench.store.element_features.copy())
    items = []
    for name in ids:
        graph = bench.store.graph(row_of[name])
        distances = torch.from_numpy(graph.distances.copy())[..., None]
        gaussians = torch.exp(-(((distances - torch.arange(41) * 0.2) / 0.2) ** 2))
        atoms = features[torch.from_numpy(graph.atomic_numbers.astype("int64"))].float()
        neighbours = torch.from_numpy(graph.neighbours.astype("int64"))
        items.append(((atoms, gaussians, neighbours), torch.tensor([values[row_of[name]]]).float(), name))
    return items


def paper(bench: Bench, _: argparse.Namespace) -> dict[str, Any]:
    """The paper's Tables 2 and 3: four networks on two targets; the second target costs what the first does."""
    seconds = {}
    epochs = 2 if bench.tiny else 40
    for family, depth in PAPER_MODELS:
        first, other = bench.epoch_times([bench.trial(family, depth, epochs=epochs)])
        seconds[f"{family} {depth}"] = first + (EPOCHS - 1) * other
    return {"epochs_measured": epochs, "trial_s": seconds, "eight_trainings_s": 2 * sum(seconds.values())}


def group(bench: Bench, _: argparse.Namespace) -> dict[str, Any]:
    """A group of 16 seeds against 16 times one."""
    epochs = 2 if bench.tiny else 6
    _, alone = bench.epoch_times([bench.trial("srcgcnn", 3, epochs=epochs)])
    members = [bench.trial("srcgcnn", 3, seed, epochs) for seed in range(2 if bench.tiny else GROUP_SIZE)]
    _, together = bench.epoch_times(members)
    return {"alone_epoch_s": alone, "group_epoch_s": together, "ratio": len(members) * alone / together}


def memory(bench: Bench, _: argparse.Namespace) -> dict[str, Any]:
    """Peak device memory of deep against shallow."""
    peaks = {depth: bench.peak_mb(depth) for depth in ((1, 2) if bench.tiny else (1, 10, 64))}
    deep = max(depth for depth in peaks if depth <= 10)
    return {"peak_mb": peaks, "ratio_of_10_to_1": peaks[deep] / peaks[1]}


def throughput(bench: Bench, _: argparse.Namespace) -> dict[str, Any]:
    """Training structures per second, evaluation included, against T, M and batch size."""
    choices = [(1, 1, 256), (3, 1, 256), (10, 1, 256), (3, 4, 256), (3, 16, 256), (3, 32, 256), (3, 1, 1024)]
    found = {}
    for depth, members, batch_size in choices[:2] if bench.tiny else choices:
        trials = [bench.trial("srcgcnn", depth, seed, 4, batch_size=batch_size) for seed in range(members)]
        _, seconds = bench.epoch_times(trials)
        found[f"T={depth} M={members} batch={batch_size}"] = members * len(bench.lists[0]) / seconds
    return {"structures_per_second": found}


PARTS = {part.__name__: part for part in (start, trial, authors, paper, group, memory, throughput)}


def run_part(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one part in a process of its own; a failure is its result."""
    command = [sys.executable, *sys.argv, "--part", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMITS_S[name], check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {LIMITS_S[name]} s"}
    if done.returncode:
        return {"failed": done.stderr[-1500:]}
    return json.loads((options.out / f"{name}.json").read_text(encoding="utf-8"))


def main() -> None:
    """Run all parts, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, metavar="STORE")
    parser.add_argument("--target", help="default: the first")
    parser.add_argument("--authors", type=Path, help="a checkout of the authors' code (github sata-deep/SR-CGCNN)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="60 crystals, 2 epochs: does the script work?")
    parser.add_argument("--out", type=Path, default=Path("gpu-report"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part:
        found = PARTS[options.part](Bench(options), options)
        (options.out / f"{options.part}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        return
    report = {}
    for name in options.parts:
        report[name] = run_part(name, options)
        print(f"{name}: {json.dumps(report[name])}", flush=True)
    if "trial_s" in report.get("authors", {}) and "process_to_result_s" in report.get("trial", {}):
        report["trial against authors"] = report["authors"]["trial_s"] / report["trial"]["process_to_result_s"]
        print(f"one trial against the authors' code (their graphs given): {report['trial against authors']:.0f}x")
    (options.out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
