"""The tasks of JARVIS-Leaderboard that a crystal graph network can enter: names, splits, targets.

A task is a file of that project, `benchmarks/AI/SinglePropertyPrediction/DATASET_PROPERTY.json.zip`: ids and targets of
training, validation and test set. It comes with the project's package `jarvis-leaderboard`, of which nothing is
imported; the crystals come from the data set.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.data.source import unit_of
from srcgcnn.data.sources.registry import open_source
from srcgcnn.leaderboards.recipe import LeaderboardError, few, own_validation
from srcgcnn.records import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srcgcnn.data.source import Source, SourceRow
    from srcgcnn.data.store import GraphStore
    from srcgcnn.leaderboards.recipe import Lists
    from srcgcnn.sweep.spec import SweepSpec

KIND = "AI-SinglePropertyPrediction"
FORM = f"{KIND}-PROPERTY-DATASET-test-mae"
MOST_BYTES = 2**30  # of an unpacked file; the largest of version 2024.10.30 has 24 MB packed
NEAR = 5


@dataclass(frozen=True)
class JarvisTask:
    """One task with its split.

    Attributes:
        name: as the leaderboard writes it, `AI-SinglePropertyPrediction-PROPERTY-DATASET-test-mae`.
        target: its property.
        dataset: where its crystals are, a name of jarvis-tools.
        train, val, test: target by id; `val` is empty if the task has none.
    """

    name: str
    target: str
    dataset: str
    train: dict[str, float]
    val: dict[str, float]
    test: dict[str, float]

    @property
    def targets(self) -> dict[str, float]:
        """All targets by id."""
        return self.train | self.val | self.test

    def source(self, data: str) -> Source:
        """Open the crystals of this task, with its own targets: a data set of another day may have others."""
        crystals, targets = open_source(data, None), self.targets

        def rows() -> Iterator[SourceRow]:
            for row in crystals.rows():
                if row.row_id in targets:
                    yield replace(row, targets={self.target: targets[row.row_id]})

        return replace(
            crystals,
            name=f"{self.dataset}-{self.target}",
            content_hash=digest([crystals.content_hash, self.target, sorted(targets.items())]),
            targets=(self.target,),
            units=(unit_of(self.target),),
            provenance=f"{crystals.provenance}; split and targets of {self.name}",
            count=None,
            rows=rows,
        )

    def lists(self, store: GraphStore, spec: SweepSpec) -> Lists:
        """Return the ids of training, validation and test set that the store has.

        A task without validation set gives up a share of its training set.

        Raises:
            LeaderboardError: a test crystal is missing, or all training crystals are.
        """
        known = set(store.ids)
        if missing := [name for name in self.test if name not in known]:
            raise LeaderboardError(
                f"{len(missing):,} of {len(self.test):,} test crystals of {self.name} are not in the data or cannot "
                f"be read ({few(missing)}), and the leaderboard requires a prediction for each: see rejected.csv in "
                f"{store.folder}, or give the data set of the benchmark's day with --data"
            )
        train, val = ([name for name in part if name in known] for part in (self.train, self.val))
        if not train:
            raise LeaderboardError(f"{self.name} has no training crystals: nothing can be learned from it")
        parts = (tuple(train), tuple(val)) if val else own_validation(train, spec)
        return (*parts, tuple(self.test))

    def missing(self, store: GraphStore) -> list[str]:
        """Return the ids of training and validation set that the store does not have."""
        known = set(store.ids)
        return [name for name in self.train | self.val if name not in known]


def find_task(name: str, benchmark: Path | None) -> JarvisTask:
    """Read a task.

    Args:
        name: of the task.
        benchmark: its file; by default that of the installed package.

    Raises:
        LeaderboardError: no such task or file, or one that is damaged or of another task; the message lists near ones.
    """
    name = name.removesuffix(".zip").removesuffix(".csv")
    parts = name.split("-")
    if len(parts) != len(FORM.split("-")) or (parts[:2], parts[4:]) != (KIND.split("-"), ["test", "mae"]):
        raise LeaderboardError(f"{name!r} is not a task for a network that predicts one number, {FORM}{_near(name)}")
    target, dataset = parts[2], parts[3]
    path = benchmark or _benchmarks() / f"{dataset}_{target}.json.zip"
    if not path.is_file():
        raise LeaderboardError(f"{name}: there is no {path}{_near(name)}")
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{dataset}_{target}.json")
            if member.file_size > MOST_BYTES:
                raise ValueError(f"unpacked it has {member.file_size / 2**30:.1f} GiB")
            found = json.loads(archive.read(member))
        split = {part: _numbers(found.get(part, {})) for part in ("train", "val", "test")}
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError) as error:
        raise LeaderboardError(f"{path} is not a benchmark file of {name}: {error}") from None
    if len(split["train"] | split["val"] | split["test"]) != sum(map(len, split.values())) or not split["test"]:
        raise LeaderboardError(f"{path}: an id is in two sets, or the test set is empty")
    return JarvisTask(name, target, dataset, **split)


def _numbers(values: dict[str, float | str]) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items()}


def _benchmarks() -> Path:
    """Return the folder of benchmark files of the installed package."""
    package = find_spec("jarvis_leaderboard")
    if package is None or not package.submodule_search_locations:
        raise LeaderboardError(
            "the tasks are files of the package jarvis-leaderboard: pip install --no-deps jarvis-leaderboard, or give "
            "the task's file with --benchmark DATASET_PROPERTY.json.zip"
        )
    return Path(package.submodule_search_locations[0], "benchmarks", *KIND.split("-"))


def _near(name: str) -> str:
    """Say which tasks of the installed package have names like this one."""
    try:
        files = sorted(_benchmarks().glob("*.json.zip"))
    except LeaderboardError:
        return ""
    tasks = {_short(task): task for task in (_task_of(path.name.removesuffix(".json.zip")) for path in files)}
    near = get_close_matches(_short(name), tasks, NEAR, cutoff=0.5)
    if not near:
        return f"; there are {len(tasks)} in {_benchmarks()}"
    return f"; near ones: {', '.join(tasks[short] for short in near)}"


def _short(task: str) -> str:
    return task.removeprefix(f"{KIND}-").removesuffix("-test-mae")


def _task_of(stem: str) -> str:
    """Return the task of a file: `dft_3d_ehull` is ehull of dft_3d."""
    from jarvis.db.figshare import get_db_info

    dataset = max((one for one in get_db_info() if stem.startswith(f"{one}_")), key=len, default="")
    dataset = dataset or stem.rpartition("_")[0]
    return f"{KIND}-{stem.removeprefix(f'{dataset}_')}-{dataset}-test-mae"
