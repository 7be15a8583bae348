"""`OUT/matbench.json.gz`: the folds of one task, in the format that `MatbenchBenchmark.from_file` reads."""

from __future__ import annotations

import gzip
import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from srcgcnn.files import write_bytes
from srcgcnn.leaderboards.recipe import LeaderboardError

if TYPE_CHECKING:
    from pathlib import Path

    from srcgcnn.leaderboards.matbench_task import MatbenchTask

RECORD_FILE = "matbench.json.gz"
BENCHMARK = "matbench_v0.1"
VERSION = "0.6"  # of the package whose format this is; it warns of another and reads it
DATE_FORMAT = "%Y.%m.%d %H:%M.%S"

Fold = dict[str, Any]  # matbench's own: data {id: prediction}, parameters (free), scores {metric: value}


def read_folds(path: Path, task: MatbenchTask, recipe: dict[str, Any]) -> dict[str, Fold]:
    """Return the folds recorded so far, `fold_0` to `fold_4`; none if there is no file.

    Raises:
        LeaderboardError: the file is damaged, or is of another task, or its folds were trained by another recipe: five
            folds of one record are one method.
    """
    if not path.exists():
        return {}
    try:
        document = json.loads(gzip.decompress(path.read_bytes()))
        if document.pop("hash") != _hash(document):
            raise ValueError("its hash is not that of its contents")
        if task.name not in document["tasks"]:
            raise LeaderboardError(
                f"{path} is a record of {', '.join(document['tasks'])}; give {task.name} another --out"
            )
        folds: dict[str, Fold] = document["tasks"][task.name]["results"]
        other = [name for name, fold in folds.items() if fold["parameters"]["recipe"] != recipe]
    except LeaderboardError:
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise LeaderboardError(f"{path} is not a record of this program ({error}); give another --out") from None
    if other:
        raise LeaderboardError(f"{path}: {', '.join(other)} came from another recipe or data file; give another --out")
    return folds


def fold_errors(path: Path, task: str) -> dict[str, tuple[str, float]]:
    """Return what a record says of each fold of a task: the network and its MAE; of another task nothing.

    Raises:
        FileNotFoundError: there is no record.
        LeaderboardError: it is damaged, or not of this program.
    """
    try:
        tasks = json.loads(gzip.decompress(path.read_bytes()))["tasks"]
        folds = tasks[task]["results"] if task in tasks else {}
        return {name: (str(fold["parameters"]["model"]), float(fold["scores"]["mae"])) for name, fold in folds.items()}
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise LeaderboardError(f"{path} is not a record of this program ({error})") from None


def record_fold(path: Path, task: MatbenchTask, number: int, fold: Fold) -> dict[str, Fold]:
    """Add a fold to the record, or replace it, and return all folds. The file is complete at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):  # two folds may end at the same time
        folds = read_folds(path, task, fold["parameters"]["recipe"]) | {f"fold_{number}": fold}
        document = {
            "@module": "matbench.bench",
            "@class": "MatbenchBenchmark",
            "version": VERSION,
            "benchmark_name": BENCHMARK,
            "datestamp": datetime.now(UTC).strftime(DATE_FORMAT),
            "user_metadata": {},
            "tasks": {
                task.name: {
                    "@module": "matbench.task",
                    "@class": "MatbenchTask",
                    "benchmark_name": BENCHMARK,
                    "dataset_name": task.name,
                    "results": folds,
                }
            },
        }
        text = json.dumps({**document, "hash": _hash(document)}, sort_keys=True)
        write_bytes(path, gzip.compress(text.encode()))
    return folds


def _hash(document: dict[str, Any]) -> str:
    """Return matbench's hash: of the JSON with sorted keys."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
