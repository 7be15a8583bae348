#!/usr/bin/env python3
"""Everything that docs/performance.md says about GPUs, in one call that ends within its minutes (nine by default).

    python benchmarks/gpu_report.py STORE --target formation_energy_per_atom [--authors SR-CGCNN] [--out gpu-report]

Needs torch, torch-geometric, numpy and safetensors only: neither Ray nor MLflow nor pymatgen. STORE comes from
`srcgcnn data build` on any machine; 10,000 crystals are 20 MB. Every part runs in a process of its own with a time
limit, prints each figure and writes it to OUT/<part>.json as soon as it has it: a part that fails or is too slow loses
nothing of what came before. The parts come in the order of their importance; those for which no time is left are
skipped and listed. Every figure says whether it was measured or extrapolated. `--device cpu --tiny` tries the script
without a GPU; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import subprocess
import sys
import time
import types
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

PROCESS_START = time.time()
CRYSTALS, EPOCHS = 10_000, 300
LIMITS_S = {
    "start": 60, "agreement": 100, "trial": 100, "paper": 90, "group": 90, "ways": 120, "memory": 60, "authors": 60,
    "throughput": 90,
}  # fmt: skip
SHORTEST_S = 20  # of which a process needs half for its imports and the device
GROUP_SIZE = 16
SETTLED = 3  # epochs until every size of batch was compiled and recorded
PAPER_MODELS = (("cgcnn", 3), ("srcgcnn", 3), ("cgcnn", 1), ("srcgcnn", 5))
MEASURED = "measured"


class EnoughEpochs(Exception):  # noqa: N818 - no error
    """Ends a training that was only to be timed."""


class Bench:
    """One process's view: store, device, trials on a fixed choice of crystals, and the figures found so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.path, self.figures = options.out / f"{options.part}.json", {}
        import_started = time.time()
        import torch

        from srcgcnn.data.store import GraphStore
        from srcgcnn.training.trainer import GroupTrainer  # noqa: F401 - its import is part of a worker's start

        self.import_s = time.time() - import_started
        self.torch, self.tiny = torch, options.tiny
        self.device = torch.device(options.device)
        self.figures = {"machine": self.machine()}
        self.write()
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
        from srcgcnn.run.training_config import SplitConfig, TrainingConfig
        from srcgcnn.run.trial import DataRef, Seeds, TrialConfig

        data = DataRef(self.store.manifest.data_hash, "benchmark", self.target, "")
        split = SplitConfig("lists", lists=self.lists)
        recipe = TrainingConfig(epochs=5 if self.tiny else epochs, split=split, **training)
        return TrialConfig(ModelConfig(family, depth), recipe, Seeds(seed, seed, 0), data)

    def trainer(self, *trials: Any, checkpoint: Path | None = None, way: str = "") -> Any:
        """Return a trainer; `way` is a backend, launched kernel by kernel, or `BACKEND recorded`."""
        from srcgcnn.training.trainer import GroupTrainer

        backend = way.split(maxsplit=1)[0] if way else None
        trainer = GroupTrainer(trials, self.store, device=self.device, checkpoint=checkpoint, backend=backend)
        if way and "recorded" not in way:
            trainer.repeat_with(None)
        return trainer

    def machine(self) -> dict[str, Any]:
        from srcgcnn.training.provenance import git_commit, hardware_name

        torch = self.torch
        return {
            "device": hardware_name(self.device),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
            "commit": git_commit(),
        }

    def note(self, name: str, value: Any, unit: str, how: str = MEASURED) -> None:
        """Keep one figure: print it and write all so far."""
        self.figures[name] = {"value": value, "unit": unit, "how": how}
        print(f"  {name}: {value:.4g} {unit} ({how})" if unit else f"  {name}: {value}", flush=True)
        self.write()

    def write(self) -> None:
        self.path.write_text(json.dumps(self.figures, indent=1), encoding="utf-8")

    def synchronised(self) -> float:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()
        return time.perf_counter()

    def epoch_times(self, trainer: Any, epochs: int) -> tuple[float, float]:
        """Train `epochs` of a longer recipe: seconds of the first three, and the median of the others."""
        times = [self.synchronised()]

        def after_epoch(_: Any) -> None:
            times.append(self.synchronised())
            if len(times) > epochs + SETTLED:
                raise EnoughEpochs

        with suppress(EnoughEpochs):
            trainer.train(on_epoch=after_epoch)
        return times[SETTLED] - times[0], median(after - before for before, after in pairwise(times[SETTLED:]))


def start(bench: Bench, _: argparse.Namespace) -> None:
    """A worker's start to its first training steps, from the start of the process."""
    bench.note("import", bench.import_s, "s")
    data_started = time.time()
    trainer = bench.trainer(bench.trial("srcgcnn", 3))
    bench.note("data and network", time.time() - data_started, "s")
    began, ends = bench.synchronised(), []

    def after_epoch(_: Any) -> None:
        ends.append(bench.synchronised())
        if len(ends) == 1:
            bench.note("process to the end of the first epoch", time.time() - PROCESS_START, "s")
        if len(ends) == SETTLED:
            raise EnoughEpochs

    with suppress(EnoughEpochs):
        trainer.train(on_epoch=after_epoch)
    for number, (before, after) in enumerate(pairwise([began, *ends]), 1):
        bench.note(f"epoch {number}", after - before, "s")


def agreement(bench: Bench, options: argparse.Namespace) -> None:
    """All ways give the same losses to rounding; recordings are really used; a checkpoint continues."""
    config = bench.trial("srcgcnn", 3, epochs=6)
    checkpoint = options.out / "agreement.pt"
    checkpoint.unlink(missing_ok=True)
    losses: dict[str, list[float]] = {}
    for way in ("plain", "plain recorded", "plain recorded resumed", "inductor recorded"):
        began = bench.synchronised()
        trainer = bench.trainer(config, checkpoint=checkpoint if "recorded" in way else None, way=way)
        if way == "plain recorded":
            trainer.train(on_epoch=lambda reports, one=trainer: one.save() if reports[0].epoch == 2 else None)
        else:
            trainer.train()
        losses[way] = trainer.progress.members[0].train_loss
        difference = max(abs(one / other - 1) for one, other in zip(losses[way], losses["plain"], strict=True))
        bench.note(f"{way}: losses differ at most by", difference, "of 1")
        bench.note(f"{way}: recordings", trainer.recordings, "")
        bench.note(f"{way}: 6 epochs", bench.synchronised() - began, "s, compilation included")
        if way.endswith("resumed"):
            checkpoint.unlink()


def trial(bench: Bench, options: argparse.Namespace) -> None:
    """One whole trial, from the start of the process to its result file."""
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.results import write_result
    from srcgcnn.training.outcome import conclude, save_member

    trainer = bench.trainer(bench.trial("srcgcnn", 3))
    trainer.train()
    (outcome,) = conclude(trainer)
    paths = RunPaths(options.out / "trial")
    save_member(trainer, 0, paths.model(outcome.result.key))
    write_result(paths, outcome.result)
    bench.note("process to result", time.time() - PROCESS_START, "s")
    bench.note("epochs", trainer.progress.epoch, "")
    bench.note("backend", trainer.network.backend, "")
    bench.note("recordings", trainer.recordings, "")
    bench.note("test MAE", outcome.result.metrics.test_mae, "target's unit")
    bench.note("rate", outcome.result.cost.structures_per_second, "structures/s")
    bench.note("peak memory", outcome.result.cost.peak_memory_mb, "MB")


def authors(bench: Bench, options: argparse.Namespace) -> None:
    """The authors' epochs on the same device, T = 3, their loader with graphs in memory; extrapolated to the recipe."""
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
            for (atoms, bonds, neighbours, crystals), targets, _ in loader:
                inputs = (atoms.to(bench.device), bonds.to(bench.device), neighbours.to(bench.device))
                with torch.set_grad_enabled(training):
                    outputs = network(*inputs, [rows.to(bench.device) for rows in crystals])
                    loss = torch.nn.functional.mse_loss(outputs, targets.to(bench.device))
                if training:
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                loss.item()  # as their loop does, for its running average
        seconds.append(bench.synchronised() - began)
        bench.note(f"epoch {len(seconds)}", seconds[-1], "s, graphs in memory")
    epoch_s = median(seconds[1:])
    bench.note("trial", EPOCHS * epoch_s, "s", f"extrapolated from {len(seconds) - 1} epochs, graphs not counted")


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


def paper(bench: Bench, _: argparse.Namespace) -> None:
    """The paper's Tables 2 and 3: four networks on two targets; the second target costs what the first does."""
    total, epochs = 0.0, 2 if bench.tiny else 20
    for family, depth in PAPER_MODELS:
        first, other = bench.epoch_times(bench.trainer(bench.trial(family, depth)), epochs)
        seconds = first + (EPOCHS - SETTLED) * other
        total += seconds
        bench.note(f"{family} {depth}, first {SETTLED} epochs", first, "s")
        bench.note(f"{family} {depth}", seconds, "s", f"extrapolated from {epochs} epochs")
    bench.note("eight trainings", 2 * total, "s", f"extrapolated from {epochs} epochs of four trainings")


def group(bench: Bench, _: argparse.Namespace) -> None:
    """A group of 16 seeds against 16 times one."""
    epochs, size = (2, 2) if bench.tiny else (8, GROUP_SIZE)
    _, alone = bench.epoch_times(bench.trainer(bench.trial("srcgcnn", 3)), epochs)
    bench.note("epoch of one", alone, "s")
    trainer = bench.trainer(*(bench.trial("srcgcnn", 3, seed) for seed in range(size)))
    first, together = bench.epoch_times(trainer, epochs)
    bench.note(f"backend of {size}", trainer.network.backend, "")
    bench.note(f"first {SETTLED} epochs of {size}", first, "s")
    bench.note(f"epoch of {size}", together, "s")
    bench.note("group against one by one", size * alone / together, "times")


def ways(bench: Bench, _: argparse.Namespace) -> None:
    """What compiling (its cache warm from `agreement`) and recording cost and save (training/backend.py)."""
    epochs = 2 if bench.tiny else 5
    steps = -(-len(bench.lists[0]) // 256)
    for size in (1, 2) if bench.tiny else (1, GROUP_SIZE):
        for way in ("plain", "plain recorded", "inductor", "inductor recorded"):
            trainer = bench.trainer(*(bench.trial("srcgcnn", 3, seed) for seed in range(size)), way=way)
            first, other = bench.epoch_times(trainer, epochs)
            name = f"M={size} {way}"
            bench.note(f"{name}: start", first - SETTLED * other, "s more than settled epochs")
            bench.note(f"{name}: epoch", other, f"s of {steps} steps and a validation")


def memory(bench: Bench, _: argparse.Namespace) -> None:
    """Peak device memory of deep against shallow."""
    from srcgcnn.training.provenance import peak_memory_mb

    peaks = {}
    for depth in (1, 2) if bench.tiny else (1, 10, 64):
        trainer = bench.trainer(bench.trial("srcgcnn", depth))
        bench.epoch_times(trainer, 1)
        peaks[depth] = peak_memory_mb(bench.device)
        bench.note(f"T={depth} ({trainer.network.backend})", peaks[depth], "MB")
        bench.note(f"T={depth} against T=1", peaks[depth] / peaks[1], "times")
        del trainer


def throughput(bench: Bench, _: argparse.Namespace) -> None:
    """Training structures per second, evaluation included, against T, M and batch size."""
    choices = [(1, 1, 256), (3, 4, 256), (3, 16, 256), (3, 1, 1024), (10, 1, 256), (3, 32, 256)]
    for depth, members, batch_size in choices[:2] if bench.tiny else choices:
        trials = [bench.trial("srcgcnn", depth, seed, batch_size=batch_size) for seed in range(members)]
        _, seconds = bench.epoch_times(bench.trainer(*trials), 3)
        rate = members * len(bench.lists[0]) / seconds
        bench.note(f"T={depth} M={members} batch={batch_size}", rate, "structures/s")


PARTS = {part.__name__: part for part in (start, agreement, trial, paper, group, ways, memory, authors, throughput)}


def run_part(name: str, options: argparse.Namespace, left_s: float) -> dict[str, Any]:
    """Run one part in a process of its own; what it found before it failed is kept."""
    written, limit_s = options.out / f"{name}.json", min(LIMITS_S[name], left_s)
    written.unlink(missing_ok=True)
    if limit_s < SHORTEST_S:
        return {"skipped": f"{left_s:.0f} s are left"}
    if name == "authors" and options.authors is None:
        return {"skipped": "--authors was not given"}
    command, log = [sys.executable, *sys.argv, "--part", name], options.out / f"{name}.log"
    with log.open("w", encoding="utf-8") as errors:  # a pipe would wait for inductor's processes, too
        try:
            code = subprocess.run(command, stderr=errors, timeout=limit_s, check=False).returncode
            failed = f"exit status {code}" if code else ""
        except subprocess.TimeoutExpired:
            failed = f"not done in {limit_s:.0f} s"
    if failed:
        failed = f"{failed}\n{log.read_text(encoding='utf-8')[-3000:]}"
    found = json.loads(written.read_text(encoding="utf-8")) if written.exists() else {}
    return {**found, "failed": failed} if failed else found


def main() -> None:
    """Run all parts, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, metavar="STORE")
    parser.add_argument("--target", help="default: the first")
    parser.add_argument("--authors", type=Path, help="a checkout of the authors' code (github sata-deep/SR-CGCNN)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0, help="of all parts together (9)")
    parser.add_argument("--tiny", action="store_true", help="60 crystals, 5 epochs: does the script work?")
    parser.add_argument("--out", type=Path, default=Path("gpu-report"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part:
        PARTS[options.part](Bench(options), options)
        return
    report: dict[str, Any] = {}
    for name in options.parts:
        began = time.time()
        print(f"{name}: {PARTS[name].__doc__}", flush=True)
        report[name] = run_part(name, options, PROCESS_START + 60 * options.minutes - began)
        for reason in ("failed", "skipped"):
            if reason in report[name]:
                print(f"  {reason}: {report[name][reason]}", flush=True)
        print(f"  ({time.time() - began:.0f} s)", flush=True)
        (options.out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    compare(report)
    (options.out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


def compare(report: dict[str, Any]) -> None:
    """Add what follows from two parts."""
    theirs, ours = report.get("authors", {}).get("trial"), report.get("trial", {}).get("process to result")
    if theirs and ours:
        ratio = theirs["value"] / ours["value"]
        report["trial against authors"] = {"value": ratio, "unit": "times", "how": theirs["how"]}
        print(f"one trial against the authors' code: {ratio:.0f} times ({theirs['how']})")


if __name__ == "__main__":
    main()
