"""What MLflow shows of a trial: parameters, metrics, tags. Pure functions; nothing here talks to a store."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

from srcgcnn.analysis.style import OKABE_ITO
from srcgcnn.models.counts import count_parameters
from srcgcnn.models.own import permitted
from srcgcnn.models.registry import FAMILIES
from srcgcnn.records import canonical_json, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from srcgcnn.models.config import ModelConfig
    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.run.trial_result import TrialResult

PARAM_CHARACTERS = 250  # readable in a column; MLflow itself allows 6000
NOT_IN_A_NAME = re.compile(r"[^\w .-]")  # characters that MLflow refuses in a metric, and the slash
NOTE_CHARACTERS = 7500  # a tag holds 8000 (mlflow.utils.validation.MAX_TAG_VAL_LENGTH)
DATASET_DIGEST_CHARACTERS = 36  # mlflow.utils.validation.MAX_DATASET_DIGEST_SIZE


class EpochRow(Protocol):
    """What a trial reports after an epoch; the names are those of `Curves`."""

    @property
    def epoch(self) -> int:
        """0 for the first epoch."""

    @property
    def train_loss(self) -> float:
        """Mean training loss of the epoch."""

    @property
    def val_error(self) -> float:
        """MAE in the target's unit, or 1 - accuracy."""

    @property
    def learning_rate(self) -> float:
        """Learning rate of the epoch."""


@dataclass(frozen=True)
class Epoch:
    """One epoch read back from the curves of a result."""

    epoch: int
    train_loss: float
    val_error: float
    learning_rate: float


def curve_epochs(result: TrialResult) -> list[Epoch]:
    """Return the epochs of a result, first to last."""
    curves = result.curves
    rows = zip(curves.train_loss, curves.val_error, curves.learning_rate, strict=True)
    return [Epoch(epoch, *row) for epoch, row in enumerate(rows)]


def error_curve(task: str) -> str:
    """Return the name of the validation curve.

    Curves live under `epoch/`: MLflow shows the last value of a metric, and the last epoch is not the best one. The
    plain names (`val_mae`) hold the one number that belongs in a table.
    """
    return "epoch/val_error_rate" if task == "classification" else "epoch/val_mae"


def epoch_metrics(rows: Iterable[EpochRow], task: str, at_ms: int) -> list[Metric]:
    """Return three metrics per epoch, with the epoch as step."""
    metrics = []
    for row in rows:
        values = {
            "epoch/train_loss": row.train_loss,
            error_curve(task): row.val_error,
            "epoch/learning_rate": row.learning_rate,
        }
        metrics += [Metric(name, float(value), at_ms, row.epoch) for name, value in values.items()]
    return metrics


def params(config: TrialConfig) -> list[Param]:
    """Return the whole configuration as one flat list."""
    training = asdict(config.training)
    lists = training["split"].pop("lists")  # thousands of ids: the hash identifies them, the result file holds them
    values = {
        "variant": config.model.label,
        **asdict(config.model),
        **_flat("", training),
        "split.lists": digest(lists) if lists else "none",
        **{f"seed_{name}": seed for name, seed in asdict(config.seeds).items()},
        "data": config.data.name,
        "data_hash": config.data.data_hash,
        "target": config.data.target,
        "unit": config.data.unit,
        **({"targets": config.data.described} if config.data.targets else {}),
        **_parameter_counts(config),
    }
    return [Param(name, shorten(str(value))) for name, value in values.items()]


def shape_metrics(config: TrialConfig, at_ms: int) -> list[Metric]:
    """Return depth, alpha and parameter counts as numbers: MLflow sorts params as text, 10 before 2."""
    values: dict[str, float] = {"depth": config.model.depth, **_parameter_counts(config)}
    if config.model.alpha == "none":
        values["alpha"] = 1.0  # no damping is alpha = 1; learned ones are known at the end
    elif isinstance(config.model.alpha, (int, float)):
        values["alpha"] = float(config.model.alpha)
    return [Metric(name, float(value), at_ms, 0) for name, value in values.items()]


def result_metrics(result: TrialResult, model_id: str | None) -> list[Metric]:
    """Return the numbers of a finished trial, attached to its logged model too if there is one."""
    at_ms = finished_ms(result)
    values = {name: value for name, value in asdict(result.metrics).items() if value is not None}
    values |= target_errors(result) | asdict(result.cost)
    values["epochs_trained"] = len(result.curves.val_error)
    if result.metrics.val_accuracy is not None:
        values["val_error_rate"] = 1.0 - result.metrics.val_accuracy
    if isinstance(result.config.model.alpha, str) and result.alphas:
        values["alpha"] = fmean(result.alphas)
    metrics = [Metric(name, float(value), at_ms, 0, model_id=model_id) for name, value in values.items()]
    of_steps = {"alpha_of_step": result.alphas}
    if result.probes:
        of_steps |= {"change_of_step": result.probes.change}
        of_steps |= {"size_of_step": result.probes.size, "energy_of_step": result.probes.energy}
        of_steps |= {f"gradient_of_step_epoch_{epoch}": row for epoch, row in enumerate(result.probes.gradients)}
        of_steps |= {"spread_of_step": result.probes.spread, "exit_error_of_step": result.probes.exit_error}
    for name, series in of_steps.items():
        last = result.config.model.depth
        metrics += [Metric(name, value, at_ms, last - len(series) + 1 + at) for at, value in enumerate(series)]
    return metrics


def target_errors(result: TrialResult) -> dict[str, float]:
    """Return the errors of each of several targets, such as `test_mae/band_gap`: none of a single one."""
    return {
        f"{error}/{NOT_IN_A_NAME.sub('_', target.name)}": value
        for target in result.targets
        for error, value in target.errors().items()
    }


def child_tags(config: TrialConfig) -> dict[str, str]:
    """Return the tags by which a trial is found."""
    return {
        "srcgcnn.trial_key": config.key,
        "srcgcnn.model": config.model.label,
        "srcgcnn.data_hash": config.data.data_hash,
        "mlflow.runColor": family_colour(config.model),
    }


def family_colour(model: ModelConfig) -> str:
    """Return the colour of a kind of network: MLflow's own is one per run, so kinds could not be distinguished."""
    kinds = [*FAMILIES, model.family]  # networks of one's own come last, in one colour
    return OKABE_ITO[kinds.index(model.family) % len(OKABE_ITO)]


def provenance_tags(result: TrialResult) -> dict[str, str]:
    """Return where the numbers came from; the commit also under the name that MLflow's page links."""
    origin = result.provenance
    return {
        "mlflow.source.git.commit": origin.git_commit,
        "srcgcnn.git_commit": origin.git_commit,
        "srcgcnn.hardware": origin.hardware,
        "srcgcnn.hostname": origin.hostname,
        "srcgcnn.versions": canonical_json(origin.versions),
    }


def dataset_input(result: TrialResult) -> DatasetInput:
    """Return the data set as MLflow lists it: name and hash, no rows."""
    data = result.config.data
    dataset = Dataset(
        name=data.name,
        digest=data.data_hash[:DATASET_DIGEST_CHARACTERS],
        source_type="srcgcnn",
        source=canonical_json({"data_hash": data.data_hash}),
        profile=canonical_json({"rows": sum(result.rows), "target": data.target, "unit": data.unit}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def finished_ms(result: TrialResult) -> int:
    """Return the end of a trial in milliseconds since 1970; a time without zone is UTC."""
    moment = datetime.fromisoformat(result.provenance.finished_at)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def started_ms(result: TrialResult) -> int:
    """Return the start of a trial, as its end less its seconds."""
    return finished_ms(result) - round(result.cost.seconds * 1000)


def now_ms() -> int:
    """Return the time as MLflow counts it."""
    return round(time.time() * 1000)


def shorten(text: str) -> str:
    """Cut a long parameter and say how long it was."""
    if len(text) <= PARAM_CHARACTERS:
        return text
    ending = f"... ({len(text)} characters)"
    return text[: PARAM_CHARACTERS - len(ending)] + ending


def note(words: str, table_markdown: str) -> str:
    """Return the description of the sweep: the result in words and its table, cut at a line if too long for a tag."""
    text = f"{words}\n\n{table_markdown}"
    if len(text) <= NOTE_CHARACTERS:
        return text
    whole_lines = text[:NOTE_CHARACTERS].rpartition("\n")[0]
    return f"{whole_lines}\n\nThe table continues in the artifact `tradeoff.md`."


def _parameter_counts(config: TrialConfig) -> dict[str, int]:
    if config.model.own and config.model.family not in permitted():  # its code is not imported to write a page
        return {}
    counts = count_parameters(config.model)
    return {"conv_params": counts.convolution, "total_params": counts.total}


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn nested dicts into one, with dots in the names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(f"{prefix}{name}.", value) if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
