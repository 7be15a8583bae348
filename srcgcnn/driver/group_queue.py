"""How groups reach Ray Tune: one by one, as workers become free, those of a grid like those of a search.

Given to Tune at once, N groups of a grid are copied for each of its N trials, and looked at in every step.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from srcgcnn.driver.payload import GroupOrder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from srcgcnn.driver.payload import WorkerSettings
    from srcgcnn.driver.state import SweepState
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import TrialGroup
    from srcgcnn.sweep.search import Search


class GroupQueue(Searcher):
    """Hands Tune the groups that wait: the planned ones, what a search proposes, and what has to start again."""

    def __init__(self, state: SweepState, search: Search | None, settings: WorkerSettings, paths: RunPaths) -> None:
        super().__init__()
        self._state, self._search, self._settings, self._paths = state, search, settings, paths
        self._waiting = deque(state.plan.groups)

    def put_back(self, group: TrialGroup) -> None:
        """Let a group that Tune has dropped wait for another worker."""
        self._waiting.append(group)

    @property
    def search_over(self) -> bool:
        """Whether nothing more will be proposed, and all proposals have ended."""
        return self._search is None or self._search.over

    def group_ended(self, group: TrialGroup) -> None:
        """Let the search know that the trials of a group have ended."""
        if self._search is not None:
            self._search.group_ended(group)

    def suggest(self, trial_id: str) -> Any:  # noqa: ARG002 - Tune's
        """Return the next group; None while there is none and more may come."""
        if self._state.closed:
            return Searcher.FINISHED
        self._add(self._search.advance() if self._search is not None else ())
        if self._waiting:
            group = self._waiting.popleft()
            self._paths.given_up(group.key).unlink(missing_ok=True)  # by an earlier run of the driver
            expected_s = self._state.expected_s(self._state.groups[group.key])
            return GroupOrder(group, expected_s, self._settings).as_config()
        return Searcher.FINISHED if self._state.over and self.search_over else None

    def _add(self, groups: Iterable[TrialGroup]) -> None:
        proposed = list(groups)
        if self._search is not None:
            self._state.proposals_left = self._search.left
        if proposed:
            self._state.add(proposed)
            self._waiting += proposed

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the search reads result files."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: Tune's own restore is not used."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave nothing in the copy that Tune saves for its own restore."""
        return {}
