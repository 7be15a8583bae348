"""Stopping variants that fall behind: the settings of a sweep. `rungs.py` does it, with the schedulers of Ray Tune.

What is judged is a variant: all its seeds train as one group, and the mean over seeds of the best validation error so
far decides. Rungs are epochs, so that deep and shallow networks are compared after the same number of looks at the
data. A checkpoint is written at every rung, before the judgement.
"""

from __future__ import annotations

from typing import Literal

from srcgcnn.records import record

EPOCH, ERROR = "epoch", "val_error"  # what a group reports at a rung


@record
class SchedulerSpec:
    """When a variant is stopped before the end of its recipe.

    Attributes:
        kind: `none`; `asha` (asynchronous successive halving): at each rung the best 1/reduction_factor of those that
            got there continue; `median`: a variant continues while its best error is below the median of the others'
            means.
        grace_epochs: no variant is stopped before this epoch.
        reduction_factor: asha's rungs are at grace_epochs times its powers. Median judges every grace_epochs.
    """

    kind: Literal["none", "asha", "median"] = "none"
    grace_epochs: int = 10
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        """Refuse numbers without rungs."""
        if self.grace_epochs < 1:
            raise ValueError(f"grace_epochs={self.grace_epochs} must be at least 1")
        if self.reduction_factor < 2:
            raise ValueError(f"reduction_factor={self.reduction_factor} must be at least 2")

    @property
    def stops(self) -> bool:
        """Whether anything is ever stopped."""
        return self.kind != "none"

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Return the epochs after which a variant is judged; the last epoch is the end and none of them."""
        if self.kind == "median":
            return tuple(range(self.grace_epochs, epochs, self.grace_epochs))
        found, rung = [], self.grace_epochs
        while self.kind == "asha" and rung < epochs:
            found.append(rung)
            rung *= self.reduction_factor
        return tuple(found)
