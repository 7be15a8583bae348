"""How the groups of a search reach Ray Tune: one by one, as workers become free."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from srcgcnn.driver.payload import as_sent

if TYPE_CHECKING:
    from srcgcnn.driver.tune import DriverCallback
    from srcgcnn.sweep.plan import Plan, TrialGroup


class GroupSearcher(Searcher):
    """Hands Tune the groups of a search one by one, as workers become free."""

    def __init__(self, plan: Plan, listener: DriverCallback, constants: dict[str, Any]) -> None:
        super().__init__()
        self._plan, self._listener, self._constants = plan, listener, constants
        self._waiting: deque[TrialGroup] = deque()

    def suggest(self, trial_id: str) -> Any:
        """Return the next group; None while the search waits for errors to learn from."""
        if self._listener.budget_used:
            return Searcher.FINISHED
        self._waiting += [*self._listener.take_lost(), *self._listener.take_proposed()]
        if self._waiting:
            return {"group": as_sent(self._plan, self._waiting.popleft()), **self._constants}
        return Searcher.FINISHED if self._listener.search_over else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the search reads result files."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: Tune's own restore is not used."""
