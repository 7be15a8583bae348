"""`Run`: the folder OUT of a sweep, opened. The contents of its files are parsed once, on first use."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.run.failures import read_failures
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.predictions import has_predictions, target_columns
from srcgcnn.run.results import find_result, finished_keys
from srcgcnn.run.stopped import all_stopped

if TYPE_CHECKING:
    import pandas as pd

    from srcgcnn.run.failures import Failure
    from srcgcnn.run.stopped import Stopped
    from srcgcnn.run.trial_result import TrialResult


class Run:
    """An opened sweep. The folder may not exist yet, and may grow while it is open.

    Results are written once, so each file is parsed once; a file that came, went or changed since the last look is
    noticed. Damaged result files are set aside and named (`find_result`).

    Attributes:
        paths: its file names.
    """

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self._results: dict[str, tuple[tuple[int, int], TrialResult]] = {}
        self._left_out: dict[str, tuple[int, int]] = {}
        self._predictions: dict[str, pd.DataFrame | None] = {}

    @property
    def results(self) -> tuple[TrialResult, ...]:
        """All finished trials, ordered by key.

        Raises:
            RecordError: a result was written by a version whose results this one does not read.
        """
        there = self._result_files()
        for key in self._results.keys() - there.keys():
            del self._results[key]
        for key, signature in there.items():
            known = self._results.get(key)
            if (known and known[0] == signature) or self._left_out.get(key) == signature:
                continue
            self._predictions.pop(key, None)
            result = find_result(self.paths.result(key))
            if result is None:
                self._results.pop(key, None)
                self._left_out[key] = signature
            else:
                self._results[key] = (signature, result)
        return tuple(self._results[key][1] for key in sorted(self._results))

    def result(self, key: str) -> TrialResult | None:
        """Return the result of one trial; None if it has not finished."""
        path = self.paths.result(key)
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        signature = (stat.st_mtime_ns, stat.st_size)
        known = self._results.get(key)
        if known and known[0] == signature:
            return known[1]
        result = find_result(path)
        self._predictions.pop(key, None)
        if result is not None:
            self._results[key] = (signature, result)
        return result

    @property
    def finished(self) -> set[str]:
        """Keys of all finished trials, from the file names alone."""
        return finished_keys(self.paths)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Trials that failed and have not finished since, ordered by key."""
        return tuple(read_failures(self.paths))

    @property
    def stopped(self) -> tuple[Stopped, ...]:
        """Trials that a scheduler stopped and that have not finished since, ordered by key."""
        return tuple(all_stopped(self.paths))

    def predictions(self, key: str) -> pd.DataFrame | None:
        """Predictions of one trial: id, formula, target, prediction, set (`validation`, `test`); None without a file.

        With several targets the columns are `target_NAME` and `prediction_NAME` of each, NaN where a crystal lacks one.
        Files of older versions hold the test set only, and say so here. A damaged file counts as none, with a warning.
        """
        if key not in self._predictions:
            self._predictions[key] = self._read_predictions(key)
        return self._predictions[key]

    def _read_predictions(self, key: str) -> pd.DataFrame | None:
        path = self.paths.predictions(key)
        table = _read_table(path)
        if table is not None and not has_predictions(table.columns):
            table = self._with_crystals(key, table)
        if table is None or has_predictions(table.columns):
            return table if table is None or "set" in table else table.assign(set="test")
        listed = ", ".join(map(str, table.columns))
        warnings.warn(f"{path}: has no predictions, only {listed}; it counts as missing", stacklevel=3)
        return None

    def _with_crystals(self, key: str, table: pd.DataFrame) -> pd.DataFrame:
        """Add formula and targets to a trial's table of an archive, which says them once for all trials."""
        result, crystals = self.result(key), _read_table(self.paths.crystals)
        if result is None or crystals is None:
            return table
        columns = {name: column for column, name in target_columns(result.config.data).items()}
        if not {"id", "formula", *columns} <= set(crystals) or "id" not in table:
            return table
        return table.merge(crystals[["id", "formula", *columns]].rename(columns=columns), "left", "id")

    def _result_files(self) -> dict[str, tuple[int, int]]:
        """Time and size of every result file, by key."""
        try:
            with os.scandir(self.paths.results) as entries:
                found = [entry for entry in entries if entry.name.endswith(".json") and not entry.name.startswith(".")]
                stats = [(entry.name, entry.stat()) for entry in found]
        except FileNotFoundError:
            return {}
        return {name.removesuffix(".json"): (stat.st_mtime_ns, stat.st_size) for name, stat in stats}


def _read_table(path: Path) -> pd.DataFrame | None:
    import pandas as pd

    if not path.exists():
        return None
    try:
        return pd.read_parquet(path)
    except Exception as error:  # noqa: BLE001 - what a parser says of damage: of pyarrow, of pandas, of a codec
        warnings.warn(f"{path}: not readable ({error}); it counts as missing", stacklevel=4)
        return None


def open_run(where: Run | RunPaths | Path | str) -> Run:
    """Open the folder of a sweep; one that is open already is returned as it is."""
    if isinstance(where, Run):
        return where
    return Run(where if isinstance(where, RunPaths) else RunPaths(Path(where)))
