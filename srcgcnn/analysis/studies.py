"""A sweep's results, divided into studies: which trials may be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from srcgcnn.analysis.study import Study
from srcgcnn.run.folder import open_run
from srcgcnn.run.labels import settings_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import TrialConfig, Variant
    from srcgcnn.run.trial_result import TrialResult

# Settings of the recipe in which the variants of one study may differ, besides those that the last request varied
COMPARED = frozenset({"learning_rate", "weight_decay"})


def studies_of(folder: Run | RunPaths) -> list[Study]:
    """Split a sweep's results into studies: those of the last request first, then by number of trials."""
    run = open_run(folder)
    requested = _requested(run)
    keys = {trial.key for trial in requested}
    varied = COMPARED | set(_recipe_names(differing_recipes(trial.variant for trial in requested)))
    groups: dict[object, list[TrialResult]] = {}
    for result in run.results:
        groups.setdefault(_setting(result.config.variant, varied), []).append(result)
    titles = _titles([members[0].config.variant for members in groups.values()], varied)
    counts = [sum(result.key in keys for result in members) for members in groups.values()]
    studies = [
        (count, Study(title, tuple(members), run, count > 0 or not requested))
        for count, title, members in zip(counts, titles, groups.values(), strict=True)
    ]
    return [study for _, study in sorted(studies, key=lambda pair: (-pair[0], -len(pair[1].results), pair[1].title))]


def views_of(folder: Run | RunPaths, target: str | None = None) -> list[Study]:
    """Return all studies, those of several targets followed by their parts.

    Args:
        folder: the sweep.
        target: only studies of this target, with errors in its unit.

    Raises:
        ValueError: no trial predicts this target; the message lists those that are.
    """
    found = [each for study in studies_of(folder) for each in (study, *study.parts)]
    chosen = [study for study in found if target in (None, study.data.target)]
    if found and not chosen:
        known = ", ".join(dict.fromkeys(study.data.target for study in found))
        raise ValueError(f"no trial predicts {target!r}; targets here: {known}")
    return chosen


def find_studies(
    folder: Run | RunPaths, *variants: str, target: str | None = None
) -> list[tuple[Study, tuple[str, ...]]]:
    """Return the studies that have all these variants, with their names there; the last request comes first.

    Args:
        folder: the sweep.
        variants: names as `results` prints them, or parts of them that no other variant has.
        target: only studies of this target.

    Raises:
        ValueError: no study has them all; the message lists the known variants.
    """
    studies, faults = views_of(folder, target), []
    found = []
    for study in studies:
        try:
            found.append((study, tuple(study.find(variant) for variant in variants)))
        except ValueError as error:
            faults.append(f"{study.title}: {error}")
    if found:
        return found
    raise ValueError("; ".join(faults) or f"{open_run(folder).paths.out}: no trial has finished yet")


def differing_recipes(variants: Iterable[Variant]) -> list[str]:
    """Return the settings of the recipe that differ among variants."""
    settings = [settings_of(variant) for variant in dict.fromkeys(variants)]
    names = dict.fromkeys(name for each in settings for name in each)
    return [name for name in names if len({each.get(name) for each in settings}) > 1]


def _recipe_names(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith("model.") and name not in ("data", "target")]


def _requested(run: Run) -> tuple[TrialConfig, ...]:
    """Return the trials of the last request; none if it is not known."""
    from srcgcnn.records import RecordError
    from srcgcnn.sweep.plan import requested_trials
    from srcgcnn.sweep.record import read_record

    try:
        record = read_record(run.paths)
        return tuple(trial for trial, _ in requested_trials(record.spec, record.data, run.paths))
    except RecordError:  # missing or damaged: commands that need it say so
        return ()


def _setting(variant: Variant, varied: Iterable[str]) -> object:
    """Return what the variants of one study share."""
    settings = settings_of(variant)
    shared = {name: value for name, value in settings.items() if not name.startswith("model.") and name not in varied}
    return variant.model.task, tuple(shared.items())


def _titles(variants: Sequence[Variant], varied: Iterable[str]) -> list[str]:
    """Name studies by their data, and by the settings that distinguish them, from a variant of each."""
    differs = [name for name in differing_recipes(variants) if name not in varied]
    names = [name for name in differs if name == "model.task" or name in _recipe_names(differs)]
    titles = []
    for variant in variants:
        data, settings = variant.data, settings_of(variant)
        name = f"{data.name} ({data.data_hash})" if "data" in differs else data.name
        recipe = ", ".join(f"{each}={shown(settings[each])}" for each in names if each in settings)
        titles.append(f"{name}: {data.target}" + (f" [{recipe}]" if recipe else ""))
    return titles
