"""Which failures count: a group's own errors do, the loss of its node does not.

Tune cannot distinguish them, so it is configured to retry for ever, and this module decides when to stop. A process
that died is judged late: a node that goes takes its processes with it, and Ray notices the processes first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from srcgcnn.driver.preemption import HandedBackError

if TYPE_CHECKING:
    from collections.abc import Callable

JUDGE_AFTER_S = 30.0  # Ray notices a node without power after about 16 s (measured)

AliveNodes = dict[str, frozenset[str]]  # address -> ids of living Ray nodes


@dataclass(frozen=True)
class _Death:
    """A process that died: its group, where ("" until that is known), which Ray nodes lived there then, and when."""

    key: str
    address: str
    nodes: frozenset[str]
    at: float


class RetryBudget:
    """Counts the failures of groups that are their own."""

    def __init__(
        self, max_retries: int, alive_nodes: Callable[[], AliveNodes], judge_after_s: float = JUDGE_AFTER_S
    ) -> None:
        self._max_retries, self._alive_nodes, self._judge_after_s = max_retries, alive_nodes, judge_after_s
        self._failures: dict[str, int] = {}
        self._deaths: list[_Death] = []

    def failed(self, key: str, error: BaseException | None, address: str) -> None:
        """Record a failure of a group that ran at an address."""
        cause: Any = getattr(error, "cause", error)
        if isinstance(cause, HandedBackError) or getattr(error, "preempted", False):
            return
        if _process_died(error) and self._judge_after_s > 0:
            self._deaths.append(_Death(key, address, _nodes_at(self._alive_nodes(), address), time.monotonic()))
        else:
            self._count(key)

    def settle(self) -> list[str]:
        """Judge the deaths that are old enough: they count if every Ray node of the address still lives.

        Returns:
            The groups that have failed too often by that.
        """
        due = [death for death in self._deaths if time.monotonic() - death.at >= self._judge_after_s]
        if not due:
            return []
        self._deaths = [death for death in self._deaths if death not in due]
        alive = self._alive_nodes()
        for death in due:
            if death.nodes and death.nodes <= _nodes_at(alive, death.address):
                self._count(death.key)
        return [key for key in {death.key: None for death in due} if self.spent(key)]

    def spent(self, key: str) -> bool:
        """Whether a group has failed too often."""
        return self._failures.get(key, 0) > self._max_retries

    def _count(self, key: str) -> None:
        self._failures[key] = self._failures.get(key, 0) + 1


def _nodes_at(alive: AliveNodes, address: str) -> frozenset[str]:
    """Return the nodes at an address; all of them if it is not known, since any may have been the one."""
    return alive.get(address, frozenset()) if address else frozenset().union(*alive.values())


def _process_died(error: BaseException | None) -> bool:
    """Whether Ray lost the process, as against an exception in it. No error at all: Tune could not save it."""
    return error is None or any(kind.__name__ == "RayActorError" for kind in type(error).__mro__)


def alive_ray_nodes() -> AliveNodes:
    """Return the living nodes of the connected cluster by address."""
    import ray

    found: dict[str, set[str]] = {}
    for node in ray.nodes():
        if node["Alive"]:
            found.setdefault(node["NodeManagerAddress"], set()).add(node["NodeID"])
    return {address: frozenset(ids) for address, ids in found.items()}
