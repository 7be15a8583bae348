"""`OUT/proposals.json`: what a search has proposed, for all readers but the driver, which has Optuna's study."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from srcgcnn.files import write_text
from srcgcnn.records import RecordError, as_dict, digest, identity_of, read_record_file, record
from srcgcnn.run import keys
from srcgcnn.sweep.search_spec import Objective
from srcgcnn.sweep.space import Space

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import DataRef, TrialConfig, Variant
    from srcgcnn.sweep.space import Params
    from srcgcnn.sweep.spec import SweepSpec

# What the records of the first version had, so that its studies continue. Never to be changed.
FIRST_FIELDS = keys.FIRST_FIELDS | {
    "TrainingConfig": (*keys.FIRST_FIELDS["TrainingConfig"], "precision", "start"),
    "Axes": ("models", "depths", "norms", "alphas", "layer_norms", "seeds", "split_seeds"),
    "NetworkSpec": ("hidden_channels", "head_channels", "head_layers", "task"),
    "SearchSpec": ("method", "proposals", "objectives", "seed", "startup", "parallel", "ranges"),
    "SearchRanges": ("learning_rate", "weight_decay", "hidden_channels"),
    "Range": ("low", "high", "log"),
}

State = Literal["running", "finished", "failed", "stopped"]


@record
class Proposal:
    """One proposal of a search.

    Attributes:
        number: Optuna's number of it in the study.
        label: the variant, in readable form.
        params: where in the space it lies.
        state: `stopped` by a scheduler; `failed` if a trial of it has no result.
        values: one per objective, once it is finished.
        trials: keys of its trials.
        known: taken from results that were there before the search; not counted among the requested proposals.
        best: no other proposal is as good in every objective and better in one.
    """

    number: int
    label: str
    params: dict[str, str | bool | int | float | None]
    state: State
    values: tuple[float, ...]
    trials: tuple[str, ...]
    known: bool
    best: bool


@record
class Proposals:
    """All proposals of one study, in the order of their numbers."""

    study: str
    objectives: tuple[Objective, ...]
    proposals: tuple[Proposal, ...]


def write_proposals(paths: RunPaths, proposals: Proposals) -> None:
    """Write the file."""
    write_text(paths.proposals, json.dumps(as_dict(proposals), indent=1) + "\n")


def read_proposals(paths: RunPaths) -> Proposals | None:
    """Read the file; None if there was no search.

    Raises:
        RecordError: it is damaged.
    """
    try:
        return read_record_file(Proposals, paths.proposals)
    except FileNotFoundError:
        return None
    except RecordError as error:
        raise RecordError(f"{error}; delete it, the study has all of it") from None


def study_name(spec: SweepSpec, data: DataRef) -> str:
    """Name a study: another space, data set, method or set of objectives is another study in the same file."""
    search = {name: value for name, value in identity_of(spec.search, FIRST_FIELDS).items() if name != "proposals"}
    others = [identity_of(part, FIRST_FIELDS) for part in (spec.axes, spec.network, spec.training)]
    return f"{spec.name}-{digest([search, *others, data.data_hash, data.target])}"


def proposals_of(spec: SweepSpec, data: DataRef, paths: RunPaths) -> tuple[Proposal, ...]:
    """Return what the study of this sweep has proposed so far."""
    found = read_proposals(paths)
    return found.proposals if found is not None and found.study == study_name(spec, data) else ()


def proposals_left(spec: SweepSpec, data: DataRef, paths: RunPaths) -> int:
    """Return how many proposals are not made, or have not ended."""
    counted = [proposal for proposal in proposals_of(spec, data, paths) if not proposal.known]
    running = sum(proposal.state == "running" for proposal in counted)
    return max(spec.search.proposals - len(counted), 0) + running


def proposed_trials(spec: SweepSpec, data: DataRef, paths: RunPaths) -> Iterator[tuple[TrialConfig, str]]:
    """Yield the trials of all proposals so far, each with the label of its variant and seed."""
    space = Space(spec, data)
    for proposal in proposals_of(spec, data, paths):
        for trial in space.trials(space.variant(proposal.params)):
            yield trial, proposal.label


def known_variants(space: Space, run: Run) -> dict[Variant, Params]:
    """Return the variants of a space that are finished over all seeds, with the point at which each lies."""
    found: dict[Variant, Params] = {}
    keys = set()
    for result in run.results:
        point = space.point_of(result.config)
        if point is not None:
            keys.add(result.key)
            found.setdefault(space.variant(point), point)
    return {
        variant: point
        for variant, point in found.items()
        if all(config.key in keys for config in space.trials(variant))
    }
