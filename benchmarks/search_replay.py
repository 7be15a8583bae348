"""How many proposals a search needs, replayed on a finished grid: `python benchmarks/search_replay.py OUT`.

Every proposal is answered with the result that the grid has for it, so that a search costs seconds and many seeds can
be compared. OUT must hold a grid that is finished over all its axes.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.proposals import read_proposals
from srcgcnn.sweep.record import read_record
from srcgcnn.sweep.search import Search
from srcgcnn.sweep.search_spec import SearchSpec


def replay(grid: RunPaths, search: SearchSpec) -> list[tuple[float, ...]]:
    """Return the values of all proposals, in their order."""
    record = read_record(grid)
    spec = replace(record.spec, search=search)
    with tempfile.TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder))
        paths.results.mkdir()
        study = Search(plan_sweep(spec, record.data, paths), paths)
        while not study.over:
            for group in study.advance():
                for trial in group.trials:
                    shutil.copy(grid.result(trial.key), paths.result(trial.key))
                study.group_ended(group)
        found = read_proposals(paths)
        return [proposal.values for proposal in found.proposals] if found else []


def best_known(grid: RunPaths, objectives: tuple[str, ...]) -> list[tuple[float, ...]]:
    """Return the values of every variant of the grid that no other one dominates."""
    record = read_record(grid)
    search = SearchSpec("random", 1, objectives)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder))
        shutil.copytree(grid.results, paths.results)
        Search(plan_sweep(replace(record.spec, search=search), record.data, paths), paths).advance()
        found = read_proposals(paths)
        return sorted({proposal.values for proposal in found.proposals if proposal.best}) if found else []


def main() -> None:
    """Print, per method, how often and after how many proposals the optimum, or the front, of the grid was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--proposals", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    grid = RunPaths(options.out)
    for method, objectives in (
        ("random", ("val_error",)),
        ("tpe", ("val_error",)),
        ("random", ("val_error", "conv_params")),
        ("tpe", ("val_error", "conv_params")),
        ("nsga2", ("val_error", "conv_params")),
    ):
        best = best_known(grid, objectives)
        shares, distinct, regrets = [], [], []
        for seed in range(options.seeds):
            values = replay(grid, SearchSpec(method, options.proposals, objectives, seed))  # type: ignore[arg-type]
            shares.append(len(set(best) & set(values)) / len(best))
            distinct.append(len(set(values)))
            regrets.append(min(value[0] for value in values) - min(value[0] for value in best))
        print(
            f"{method:7} {'+'.join(objectives):22} of the grid's best ({len(best)}): "
            f"{statistics.fmean(shares):5.0%} found, {statistics.fmean(distinct):4.1f} variants trained, "
            f"best error above the grid's by {statistics.fmean(regrets):.4f} on average"
        )


if __name__ == "__main__":
    main()
