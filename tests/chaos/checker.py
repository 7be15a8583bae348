"""What must be true after a sweep, whatever happened to it; and what is there to be looked at.

`observe` reads files, the MLflow store, processes; `check` is pure: an observation and the numbers of a calm run give a
list of violations. The files are read here with nothing but `json`, so that a reader that mends too much hides nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.processes import describe, marked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from srcgcnn.run.paths import RunPaths

COMPARED = ("metrics", "curves", "alphas")
CURVES = {"train_loss": "epoch/train_loss", "val_error": "epoch/val_mae", "learning_rate": "epoch/learning_rate"}
KEY_TAG = "srcgcnn.trial_key"
SWEEP_TAG = "srcgcnn.sweep_id"
DEBRIS = ("*.tmp", "checkpoints/*", "failures/*")

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One MLflow run of a trial: `curves` maps a metric to its (step, value) pairs as the store has them."""

    key: str
    run_id: str
    status: str
    metrics: Mapping[str, float]
    curves: Mapping[str, tuple[tuple[int, float], ...]]


@dataclass(frozen=True)
class Observation:
    """What a sweep left.

    Attributes:
        results: numbers of every file in `OUT/results`, by the file's stem; None for one that cannot be read.
        runs: MLflow runs of trials that are not deleted.
        parents: status of every MLflow run of the sweep itself.
        tracking_error: why the MLflow store cannot be read.
        processes: ours that are still there.
        jobs: ours that the scheduler still has.
        folders: what lies in our temporary folder.
        debris: files in OUT that a finished sweep does not have.
        hands: what a person had to do, and why; starting a killed local driver again is not counted.
        status: how the sweep says it ended; None where it never did.
    """

    results: Mapping[str, Numbers | None]
    runs: tuple[Run, ...] = ()
    parents: tuple[str, ...] = ("FINISHED",)
    tracking_error: str = ""
    processes: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    debris: tuple[str, ...] = ()
    hands: tuple[str, ...] = ()
    status: int | None = 0


@dataclass(frozen=True)
class Violation:
    """Something that must not be: which rule, and what was found."""

    rule: str
    found: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.rule}: {self.found}"


def check(seen: Observation, calm: Mapping[str, Numbers]) -> list[Violation]:
    """Compare what a sweep left with the numbers of a calm run; an empty list is a pass."""
    found = [Violation("lost key", key) for key in sorted(calm.keys() - seen.results.keys())]
    found += [Violation("stray result", key) for key in sorted(seen.results.keys() - calm.keys())]
    for key, numbers in sorted(seen.results.items()):
        if numbers is None:
            found.append(Violation("unreadable result", key))
        elif key in calm:
            found += [Violation("other number", f"{key}: {place}") for place in differences(numbers, calm[key])]
    found += _check_tracking(seen, calm)
    for rule, things in (
        ("process left", seen.processes),
        ("job left", seen.jobs),
        ("folder left", seen.folders),
        ("file left", seen.debris),
        ("hand needed", seen.hands),
    ):
        found += [Violation(rule, thing) for thing in things]
    if seen.status != 0:
        found.append(Violation("not over" if seen.status is None else "ended badly", f"status {seen.status}"))
    return found


def differences(one: Any, other: Any, place: str = "") -> Iterable[str]:
    """Yield the places where two JSON values differ in any bit; JSON's numbers keep every bit of a double."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            yield from differences(one.get(name), other.get(name), f"{place}.{name}" if place else name)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for at, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, f"{place}[{at}]")
    elif json.dumps(one) != json.dumps(other):
        yield f"{place} is {one!r:.60}, calm {other!r:.60}"


def _check_tracking(seen: Observation, calm: Mapping[str, Numbers]) -> Iterable[Violation]:
    if seen.tracking_error:
        yield Violation("no MLflow", seen.tracking_error)
        return
    if seen.parents != ("FINISHED",):
        yield Violation("MLflow's sweep", f"{len(seen.parents)} runs: {', '.join(seen.parents)}")
    for key in sorted(calm.keys() | {run.key for run in seen.runs}):
        runs = [run for run in seen.runs if run.key == key]
        if len(runs) != 1 or key not in calm:
            yield Violation("MLflow's runs", f"{len(runs)} of {key}, {int(key in calm)} wanted")
        elif numbers := seen.results.get(key):
            yield from (Violation("MLflow differs", f"{key}: {what}") for what in _run_differences(runs[0], numbers))


def _run_differences(run: Run, numbers: Numbers) -> Iterable[str]:
    if run.status != "FINISHED":
        yield f"is {run.status}"
    for name, value in numbers["metrics"].items():
        if value is not None and run.metrics.get(name) != float(value):
            yield f"{name} is {run.metrics.get(name)}, in the file {value}"
    for name, metric in CURVES.items():
        expected = tuple(enumerate(numbers["curves"][name]))
        logged = run.curves.get(metric, ())
        if logged != expected:
            yield f"{metric} has {len(logged)} points, in the file {len(expected)}, or others"


def read_numbers(results: Path) -> dict[str, Numbers | None]:
    """Return what is compared of every result file in a folder."""
    return {path.stem: _numbers_of(path) for path in sorted(results.glob("*.json"))}


def _numbers_of(path: Path) -> Numbers | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {name: data[name] for name in COMPARED} if data["key"] == path.stem else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def observe(
    paths: RunPaths,
    *,
    mark: str,
    temp: Path | None,
    jobs: Iterable[str] = (),
    hands: Iterable[str] = (),
    status: int | None = 0,
) -> Observation:
    """Look at what a sweep left.

    Args:
        paths: the sweep's folder.
        mark: what the environment of all its processes holds.
        temp: the temporary folder that it alone used.
        jobs: what the scheduler still has of it.
        hands: what a person had to do.
        status: how it says it ended.
    """
    runs, parents, error = _read_tracking(paths)
    return Observation(
        results=read_numbers(paths.results),
        runs=runs,
        parents=parents,
        tracking_error=error,
        processes=tuple(describe(process) for process in marked(mark)),
        jobs=tuple(jobs),
        folders=tuple(sorted(path.name for path in temp.iterdir())) if temp and temp.exists() else (),
        debris=tuple(sorted(str(path.relative_to(paths.out)) for path in _debris(paths))),
        hands=tuple(hands),
        status=status,
    )


def _debris(paths: RunPaths) -> set[Path]:
    found = {path for pattern in DEBRIS for path in paths.out.rglob(pattern)}
    return {path for path in found if path.suffix != ".damaged"}  # evidence, kept on purpose


def _read_tracking(paths: RunPaths) -> tuple[tuple[Run, ...], tuple[str, ...], str]:
    from mlflow import MlflowClient

    if not paths.mlflow_db.exists():
        return (), (), "there is no store"
    try:
        client = MlflowClient(paths.default_tracking_uri)
        experiments = [one.experiment_id for one in client.search_experiments() if one.name.startswith("srcgcnn/")]
        found = client.search_runs(experiments, max_results=1000) if experiments else []
        runs = tuple(
            Run(
                run.data.tags[KEY_TAG],
                run.info.run_id,
                run.info.status,
                dict(run.data.metrics),
                {metric: _history(client, run.info.run_id, metric) for metric in CURVES.values()},
            )
            for run in found
            if KEY_TAG in run.data.tags
        )
    except Exception as error:  # noqa: BLE001 - MLflow's, SQLAlchemy's, SQLite's: whatever a damaged store leads to
        return (), (), f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return runs, tuple(run.info.status for run in found if SWEEP_TAG in run.data.tags), ""


def _history(client: Any, run_id: str, metric: str) -> tuple[tuple[int, float], ...]:
    points = client.get_metric_history(run_id, metric)
    return tuple(sorted((point.step, point.value) for point in points))
