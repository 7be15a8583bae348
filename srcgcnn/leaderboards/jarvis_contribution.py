"""The folder of a contribution to JARVIS-Leaderboard: predictions of each task, `metadata.json`, `run.sh`.

Its checker (`jarvis_leaderboard/rebuild.py`, `tests/test_build.py`) wants these files and keys, and a prediction for
every test crystal.
"""

from __future__ import annotations

import io
import json
import platform
import shlex
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from srcgcnn.files import write_bytes, write_text
from srcgcnn.leaderboards.recipe import LeaderboardError, mean_predictions, results_of
from srcgcnn.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from srcgcnn.leaderboards.jarvis_task import JarvisTask
    from srcgcnn.leaderboards.recipe import RecipeRun
    from srcgcnn.run.paths import RunPaths

METADATA_FILE = "metadata.json"
RECIPE_FILE = "recipe.toml"
OWN_KEY = "srcgcnn"  # of the metadata: what the leaderboard does not ask for
TAKEN_OUT = ("data_hash", "validation_seed")  # of a recipe: they differ from task to task


@dataclass(frozen=True)
class Author:
    """Who contributes.

    Attributes:
        team: name of the team or the method.
        email: an address that the leaderboard may publish.
        url: publication or page of the method.
    """

    team: str
    email: str
    url: str

    def __post_init__(self) -> None:
        """Refuse what the leaderboard's checker refuses."""
        if "@" not in self.email:
            raise LeaderboardError(f"--email {self.email}: the leaderboard requires an address with an @")


def check_folder(folder: Path, run: RecipeRun) -> None:
    """Check that a folder may take a task trained by this recipe.

    Raises:
        LeaderboardError: its metadata are damaged or not of this program, or its tasks were trained by another recipe.
    """
    _own_metadata(folder, _method(run))


def add_task(
    folder: Path,
    task: JarvisTask,
    run: RecipeRun,
    paths: RunPaths,
    author: Author,
    recipe: str,
    flags: Sequence[str],
    database: str,
) -> float:
    """Add the predictions of a trained recipe to a contribution.

    Args:
        folder: the contribution; created if missing, otherwise extended.
        task: what was predicted.
        run: what was trained.
        paths: where it was trained.
        author: who contributes.
        recipe: text of the sweep definition, which is copied into the folder.
        flags: what the command line changed of it, for run.sh.
        database: where the crystals came from.

    Returns:
        the score: mean absolute error on the test set, in the target's unit.

    Raises:
        LeaderboardError: the folder has tasks that were trained by another recipe.
    """
    results = results_of(run, paths)
    predicted = mean_predictions(results, paths)[list(task.test)].to_numpy()
    actual = np.array(list(task.test.values()))
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        before = _own_metadata(folder, _method(run))
        method = {"recipe": _method(run), "tasks": before.get(OWN_KEY, {}).get("tasks", {})}
        method["tasks"][task.name] = {
            "command": shlex.join(["srcgcnn", "jarvis", task.name, "--sweep", RECIPE_FILE, *flags]),
            "trials": [result.key for result in results],
            "validation_mae": [result.metrics.val_mae for result in results],
            "rows_train_validation_test": list(results[0].rows),
        }
        seconds = sum(result.cost.seconds for result in results)
        provenance = results[0].provenance
        metadata = {
            "model_name": results[0].config.model.label,
            "project_url": author.url,
            "date_submitted": datetime.now(UTC).strftime("%m-%d-%Y"),
            "author_email": author.email,
            "database_version": database,
            "team_name": author.team,
            "time_taken_seconds": before.get("time_taken_seconds", {}) | {f"{task.name}.csv.zip": round(seconds, 1)},
            "language": "python",
            "os": platform.system().lower(),
            "software_used": ",".join(map(" ".join, provenance.versions.items())),
            "hardware_used": provenance.hardware,
            "git_url": before.get("git_url", []),
            OWN_KEY: method,
        }
        write_bytes(folder / f"{task.name}.csv.zip", _zipped(f"{task.name}.csv", _csv(task, predicted)))
        write_text(folder / RECIPE_FILE, recipe)
        write_text(folder / "run.sh", _script([one["command"] for one in method["tasks"].values()], author))
        write_text(folder / METADATA_FILE, json.dumps(metadata, indent=2) + "\n")
    return float(np.abs(actual - predicted).mean())


def _method(run: RecipeRun) -> dict[str, Any]:
    return {name: value for name, value in run.recipe.items() if name not in TAKEN_OUT}


def _own_metadata(folder: Path, method: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a contribution; empty if there is none yet."""
    path = folder / METADATA_FILE
    if not path.exists():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = found[OWN_KEY]["recipe"] == json.loads(json.dumps(method))
        tasks = ", ".join(found[OWN_KEY]["tasks"])
    except (ValueError, KeyError, TypeError) as error:
        raise LeaderboardError(f"{path} was not written by this program ({error!r}); give another --out") from None
    if not same:
        raise LeaderboardError(
            f"{path}: {tasks} came from another recipe, which is a separate method; give another --out"
        )
    return found


def _csv(task: JarvisTask, predicted: np.ndarray) -> str:
    rows = zip(task.test.items(), predicted.tolist(), strict=True)
    return "id,target,prediction\n" + "".join(f"{name},{target!r},{value!r}\n" for (name, target), value in rows)


def _zipped(member: str, text: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, text)
    return stream.getvalue()


def _script(commands: Sequence[str], author: Author) -> str:
    who = shlex.join(["--team", author.team, "--email", author.email, "--url", author.url])
    lines = "\n".join(f"{command} {who}" for command in commands)
    return (
        "#!/bin/bash\n"
        f"# srcgcnn {__version__} is installed from its repository; the tasks are files of the leaderboard's package.\n"
        f"set -e\npip install --no-deps jarvis-leaderboard\n{lines}\n"
    )
