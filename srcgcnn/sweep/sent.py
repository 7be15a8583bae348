"""What a worker gets of a group, in the configuration of Tune's trial."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srcgcnn.sweep.plan import Plan, TrialGroup


def as_sent(plan: Plan, group: TrialGroup) -> str:
    """Return a group and its expected seconds as JSON.

    One string, since Tune copies all N groups of a grid for each of its N trials: as dicts 5,000 did not start within
    ten minutes (benchmarks/driver_scale.py).
    """
    return json.dumps({**group.to_dict(), "expected_s": plan.expected_seconds(group)})


def read_sent(config: dict[str, Any]) -> dict[str, Any]:
    """Read the group in the configuration of a trial."""
    sent: dict[str, Any] = json.loads(config["group"])
    return sent
