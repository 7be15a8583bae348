"""What a worker gets of a group, in the configuration of Tune's trial."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srcgcnn.sweep.plan import Plan, TrialGroup


def as_sent(plan: Plan, group: TrialGroup) -> str:
    """Return a group's key, and after a space the group and its expected seconds as JSON.

    One string, since Tune copies all N groups of a grid for each of its N trials: as dicts 5,000 did not start within
    ten minutes (benchmarks/driver_scale.py). The key comes first, since the driver asks for it at every event.
    """
    return f"{group.key} {json.dumps({**group.to_dict(), 'expected_s': plan.expected_seconds(group)})}"


def sent_key(config: dict[str, Any]) -> str:
    """Return the key of the group in the configuration of a trial."""
    key, _, _ = config["group"].partition(" ")
    return str(key)


def read_sent(config: dict[str, Any]) -> dict[str, Any]:
    """Read the group in the configuration of a trial."""
    _, _, text = config["group"].partition(" ")
    sent: dict[str, Any] = json.loads(text)
    return sent
