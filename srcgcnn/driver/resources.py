"""What one group gets on a worker, and how its worker behaves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GroupResources:
    """What one group gets, and how its worker behaves.

    Attributes:
        cpus: cores, and threads of torch.
        gpus: devices, or a share of one.
        max_retries: how often a group that failed starts again from its checkpoint; lost nodes are not counted.
        checkpoint_interval_s: time between checkpoints.
        nodes_come_and_go: a process that died may have died with its node: judge it only when the node is seen to live.
    """

    cpus: int = 1
    gpus: float = 0.0
    max_retries: int = 3
    checkpoint_interval_s: float = 30.0
    nodes_come_and_go: bool = False
