"""A search: Optuna proposes variants, the driver trains them, their errors go back. Only the driver opens the study.

Proposal n is made when proposals 0 .. n - parallel have ended, and the study learns their ends in the order of the
proposals, whatever the order in which trials finish. So the proposals are a function of the definition and of the
results, not of the number of workers or their speed (unless `seconds` is an objective), and a search that was killed
continues as if it had not been.
"""

from __future__ import annotations

import warnings
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import TrialState

from srcgcnn.run.folder import open_run
from srcgcnn.run.stopped import read_stopped
from srcgcnn.sweep.plan import groups_of
from srcgcnn.sweep.proposals import Proposal, Proposals, known_variants, study_name, write_proposals
from srcgcnn.sweep.space import Space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import TrialConfig, Variant
    from srcgcnn.run.trial_result import TrialResult
    from srcgcnn.sweep.plan import Plan, TrialGroup
    from srcgcnn.sweep.proposals import State
    from srcgcnn.sweep.search_spec import Objective, SearchSpec
    from srcgcnn.sweep.space import Params

KNOWN = "known"  # user attributes of Optuna's trials
LABEL = "variant"
TRIALS = "trials"
STATES: dict[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
}


class Search:
    """The study of one sweep, and what its proposals train."""

    def __init__(self, plan: Plan, folder: Run | RunPaths) -> None:
        self._run = open_run(folder)
        self._plan, self._paths, self._spec = plan, self._run.paths, plan.spec.search
        self._space = Space(plan.spec, plan.data)
        self._study = _open_study(study_name(plan.spec, plan.data), self._spec, self._paths)
        self._handed: set[str] = set()
        self._ended: set[str] = set()
        self._changed = True
        self._drop_unfinished_asks()
        self._add_known()
        described = [trial for trial in self._all if TRIALS in trial.user_attrs]
        self._running = [trial for trial in described if trial.state is TrialState.RUNNING]
        self._resumed = list(self._running)
        self._proposed = sum(KNOWN not in trial.user_attrs for trial in described)

    @property
    def _all(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    @property
    def left(self) -> int:
        """Proposals that are still to be made."""
        return max(self._spec.proposals - self._proposed, 0)

    @property
    def over(self) -> bool:
        """Whether every proposal was made and has ended."""
        return not self._running and not self.left

    def group_ended(self, group: TrialGroup) -> None:
        """Record that the trials of a group have ended, with results or without."""
        self._ended |= {trial.key for trial in group.trials}
        self._changed = True

    def advance(self) -> list[TrialGroup]:
        """Tell the study what has ended, let it propose, and return the groups that this adds."""
        if not self._changed:
            return []
        self._changed = False
        resumed, self._resumed = self._resumed, []
        groups = [group for trial in resumed for group in self._groups_for(trial.params)]
        while True:  # one result, one proposal: what a proposal sees must not depend on how many results are in
            if self.left and len(self._running) < self._spec.parallel:
                groups += self._groups_for(self._ask())
            elif self._running and self._tell(self._running[0]):
                self._running.pop(0)
            else:
                break
        self._write()
        return groups

    def _ask(self) -> Params:
        """Make the next proposal, with a sampler that depends on nothing but the seed and the proposal's number."""
        self._study.sampler = _sampler(self._spec, self._proposed)
        trial = self._study.ask()
        params = self._space.draw(trial)
        self._describe(trial, self._space.variant(params))
        self._proposed += 1
        self._running.append(self._all[trial.number])
        return params

    def _describe(self, trial: optuna.Trial, variant: Variant) -> None:
        trial.set_user_attr(LABEL, self._space.label(variant))
        trial.set_user_attr(TRIALS, [config.key for config in self._space.trials(variant)])

    def _groups_for(self, params: Params) -> list[TrialGroup]:
        """Return groups of the trials that are neither training, trained nor failed in this run."""
        trials = self._space.trials(self._space.variant(params))
        new = [trial for trial in trials if trial.key not in self._handed]
        self._handed |= {trial.key for trial in new}
        groups = groups_of(self._plan, self._paths, new)
        missing = {trial.key for group in groups for trial in group.trials}
        self._ended |= {trial.key for trial in new} - missing  # finished before, or stopped by a scheduler
        return groups

    def _tell(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Tell the study how a proposal ended; returns False while a trial of it may still run."""
        trials = self._space.trials(self._space.variant(trial.params))
        if not {config.key for config in trials} <= self._ended:
            return False
        results = _results_of(self._run, trials)
        if len(results) == len(trials):
            self._study.tell(trial.number, _values(self._spec.objectives, results))
        elif len(self._spec.objectives) == 1 and self._report_stopped(trial, trials):
            self._study.tell(trial.number, state=TrialState.PRUNED)
        else:
            self._study.tell(trial.number, state=TrialState.FAIL)
        return True

    def _report_stopped(self, trial: optuna.trial.FrozenTrial, trials: Sequence[TrialConfig]) -> bool:
        """Report the error at which a scheduler stopped a variant; returns False if none did."""
        found = [stopped for config in trials if (stopped := read_stopped(self._paths, config.key)) is not None]
        if not found:
            return False
        handle = optuna.Trial(self._study, trial._trial_id)  # Optuna's own way back to a running trial
        handle.report(fmean(stopped.val_error for stopped in found), min(stopped.epoch for stopped in found))
        return True

    def _drop_unfinished_asks(self) -> None:
        """A driver that was killed in the middle of a proposal left one without a variant: it is made again."""
        for trial in self._all:
            if trial.state is TrialState.RUNNING and TRIALS not in trial.user_attrs:
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _add_known(self) -> None:
        """Enter variants that finished outside of this study; all algorithms learn from them as from proposals.

        They are enqueued and then asked for, not added as finished trials: nsga2 counts generations in `ask`.
        """
        entered = (TrialState.COMPLETE, TrialState.RUNNING)
        seen = {tuple(trial.user_attrs.get(TRIALS, ())) for trial in self._all if trial.state in entered}
        for variant, params in known_variants(self._space, self._run).items():
            if tuple(config.key for config in self._space.trials(variant)) not in seen:
                self._study.enqueue_trial(params, user_attrs={KNOWN: True})
        while any(trial.state is TrialState.WAITING for trial in self._all):
            self._study.sampler = _sampler(self._spec, 0)
            trial = self._study.ask()
            variant = self._space.variant(self._space.draw(trial))
            self._describe(trial, variant)
            results = _results_of(self._run, self._space.trials(variant))
            self._study.tell(trial, _values(self._spec.objectives, results))

    def _write(self) -> None:
        trials = self._all
        best = {trial.number for trial in self._study.best_trials} if any(trial.values for trial in trials) else set()
        proposals = [
            Proposal(
                number=trial.number,
                label=trial.user_attrs[LABEL],
                params=trial.params,
                state=STATES[trial.state],
                values=tuple(trial.values) if trial.state is TrialState.COMPLETE else (),
                trials=tuple(trial.user_attrs[TRIALS]),
                known=KNOWN in trial.user_attrs,
                best=trial.number in best,
            )
            for trial in trials
            if TRIALS in trial.user_attrs
        ]
        write_proposals(self._paths, Proposals(self._study.study_name, self._spec.objectives, tuple(proposals)))


def _open_study(name: str, spec: SearchSpec, paths: RunPaths) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    paths.out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{paths.study_db.resolve()}",
        study_name=name,
        directions=["minimize"] * len(spec.objectives),
        load_if_exists=True,
    )
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(list(spec.objectives))  # optuna-dashboard writes them on its axes
    return study


def _sampler(spec: SearchSpec, number: int) -> optuna.samplers.BaseSampler:
    seed = int(np.random.SeedSequence([spec.seed, number]).generate_state(1)[0])
    if spec.method == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=spec.startup, constant_liar=True)
    if spec.method == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=spec.startup)
    return optuna.samplers.RandomSampler(seed=seed)


def _results_of(run: Run, trials: Sequence[TrialConfig]) -> list[TrialResult]:
    return [result for trial in trials if (result := run.result(trial.key)) is not None]


def _values(objectives: Sequence[Objective], results: Sequence[TrialResult]) -> list[float]:
    """Return the score of a variant, one number per objective: means over its seeds and splits."""
    values: dict[Objective, Any] = {
        "val_error": fmean(result.val_error for result in results),
        "conv_params": results[0].conv_parameters,
        "total_params": results[0].total_parameters,
        "seconds": fmean(result.cost.seconds for result in results),
    }
    return [float(values[name]) for name in objectives]
