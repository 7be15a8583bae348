"""What `import srcgcnn` offers in Python: run a sweep, open its folder, look at its numbers (docs/python.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - the signatures are read by people in a notebook
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.exit_status import IN_PART, INTERRUPTED, LOST

if TYPE_CHECKING:
    import pandas as pd

    from srcgcnn.prediction.ensemble import Ensemble
    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial_result import TrialResult

ENDS = {IN_PART: "some trials failed", LOST: "the jobs are gone and the sweep is not over", INTERRUPTED: "interrupted"}


class SweepError(RuntimeError):
    """A sweep did not come to its end. What it finished is kept, and the same call trains the rest."""


def sweep(
    definition: str | Path = "depth",
    *,
    data: str | Path | None = None,
    target: str | Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    depths: Sequence[int] | None = None,
    seeds: int | Sequence[int] | None = None,
    epochs: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    cluster: str | Path = "local",
    stores: str | Path = "stores",
    tracking_uri: str | None = None,
) -> OpenRun:
    """Run a sweep to its end and open it, as `srcgcnn sweep` does. Finished trials are not trained again.

    Args:
        definition: name of a sweep definition (`depth`), or the path of a .toml file.
        data: `demo`, a file or folder of crystals, or a graph store.
        target: target column, or several that one network predicts.
        models: `srcgcnn`, `cgcnn`, any other of docs/models.md, or your own: `module:Class` (docs/own_network.md).
        depths: steps T if weights are shared, layers L if not.
        seeds: how many, or which.
        epochs: length of the training.
        settings: anything else, nested as in a definition: `{"training": {"learning_rate": 1e-3}}`.
        out: folder of the sweep; default `runs/NAME[-DATA][-TARGET]`.
        cluster: name of a site file (`local`), or the path of one; with a cluster the call waits for its jobs.
        stores: where graph stores are kept.
        tracking_uri: MLflow store; default SQLite in the folder.

    Raises:
        ValueError: a value is wrong or unknown; the message lists what is known.
        OSError: a file is not there.
        SweepError: trials failed, or the sweep was interrupted.
    """
    from srcgcnn.cli.launch import Launch, prepare_and_launch
    from srcgcnn.cli.sweep import default_folder
    from srcgcnn.definitions import find_definition
    from srcgcnn.launch.site import site_named
    from srcgcnn.models.own import permit
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.spec import merge, read_spec

    targets = [target] if isinstance(target, str) else list(target or ())
    given: dict[str, dict[str, Any]] = {
        "data": {"source": None if data is None else str(data), "target": targets or None},
        "axes": {
            "models": models and list(models),
            "depths": depths and list(depths),
            "seeds": seeds if seeds is None or isinstance(seeds, int) else list(seeds),
        },
        "training": {"epochs": epochs},
    }
    flags = {name: {key: value for key, value in part.items() if value is not None} for name, part in given.items()}
    overrides = merge(dict(settings or {}), {name: part for name, part in flags.items() if part})
    permit(models or ())
    spec = read_spec(find_definition("sweeps", str(definition)), overrides)
    paths = RunPaths(Path(out) if out else default_folder(spec.name, flags["data"].get("source"), targets))
    command = f"srcgcnn.sweep({str(definition)!r}, out={str(paths.out)!r}, ...)"
    how = Launch(paths, site_named(str(cluster)), command, tracking_uri, wait=True)
    status = prepare_and_launch(spec, Path(stores), how)
    if status:
        raise SweepError(f"{paths.out}: {ENDS.get(status, f'ended with status {status}')}; finished trials are kept")
    return OpenRun(paths)


def open_run(out: str | Path) -> OpenRun:
    """Open the folder of a sweep, finished or not.

    Raises:
        FileNotFoundError: the folder holds no sweep.
    """
    from srcgcnn.cli.command import existing_run

    return OpenRun(existing_run(Path(out).expanduser()))


@dataclass(frozen=True)
class OpenRun:
    """The folder of a sweep as tables. Every call looks for new results, so a running sweep can be watched.

    Attributes:
        paths: where its files are.
    """

    paths: RunPaths

    @cached_property
    def _run(self) -> Run:
        from srcgcnn.run.folder import open_run

        return open_run(self.paths)

    @property
    def store(self) -> Path:
        """Folder of the graph store that the sweep trains on."""
        from srcgcnn.sweep.record import read_record

        return Path(read_record(self.paths).store)

    def results(self) -> list[TrialResult]:
        """Return the results of all finished trials, ordered by key."""
        return list(self._run.results)

    def trials(self) -> pd.DataFrame:
        """Return one row per trial: variant, seeds, errors in the target's unit, parameters, seconds, settings.

        With several targets the errors are the common ones, `mean of MAE/std`, and those of each are in columns such
        as `test_mae_NAME`.
        """
        import pandas as pd

        from srcgcnn.analysis.trial_table import trial_rows

        return pd.DataFrame(trial_rows(self.results()))

    def curves(self) -> pd.DataFrame:
        """Return one row per trial and epoch: training loss (standardised), validation error, learning rate."""
        import pandas as pd

        from srcgcnn.analysis.trial_table import curve_rows

        return pd.DataFrame(curve_rows(self.results()))

    def predictions(self, variant: str | None = None) -> pd.DataFrame:
        """Return targets and predictions on validation and test crystals, one row per trial and crystal.

        The columns are `target` and `prediction`, or `target_NAME` and `prediction_NAME` of each of several targets.

        Args:
            variant: label of a variant or trial, or a trial's key; default: lowest mean validation error.
        """
        import pandas as pd

        from srcgcnn.prediction.choice import choose

        tables = []
        chosen = choose(self._run, variant)
        for member in chosen.members:
            table = self._run.predictions(member.key)
            if table is None:
                raise ValueError(f"{self.paths.predictions(member.key)} is missing, or cannot be read")
            first = {"key": member.key, "variant": chosen.variant, "seed": member.config.seeds.init}
            tables.append(table.assign(**first)[[*first, *table.columns]])
        return pd.concat(tables, ignore_index=True)

    def tradeoff(self) -> pd.DataFrame:
        """Return one row per variant: mean errors, half widths of their 95 % intervals, parameters."""
        import pandas as pd

        from srcgcnn.analysis.tradeoff import as_records, tradeoff_of

        return pd.DataFrame(as_records(tradeoff_of(self._run)))

    def ensemble(self, variant: str | None = None) -> Ensemble:
        """Return the trained models of a variant as one predictor; default: lowest mean validation error."""
        from srcgcnn.prediction.ensemble import Ensemble

        return Ensemble.load(self.paths.out, variant)

    def report(self, margin: float | None = None, reference: str | None = None) -> Path:
        """Write the report and return its page.

        Args:
            margin: of non-inferiority, in the unit of the errors; default 0.005 eV/atom, else 5 % of the best error.
            reference: the variant from which differences are taken; default: lowest mean validation error.
        """
        from srcgcnn.analysis.report import write_report

        return write_report(self.paths, margin, reference)
