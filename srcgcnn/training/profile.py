"""Where the time of a training step goes: PyTorch's profiler on the real loop, by phase and by operator."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from srcgcnn.training.step import BACKWARD, BATCH, FORWARD, OPTIMISER
from srcgcnn.training.trainer import EVALUATION, GroupTrainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import nn

    from srcgcnn.data.store import GraphStore
    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.training.epoch import EpochReport

EMBEDDING, HEAD = "embedding", "head"
PHASES = (BATCH, FORWARD, EMBEDDING, HEAD, BACKWARD, OPTIMISER, EVALUATION)
WITHIN = {EMBEDDING: FORWARD, HEAD: FORWARD}


@dataclass(frozen=True)
class PhaseTime:
    """Time of one phase per training step (of `evaluation`: per epoch).

    Attributes:
        name: the phase.
        within: the phase that contains it, "" at the top.
        host_ms: time on the processor. On a GPU that is the time to launch the work.
        device_ms: time of its kernels on the GPU, 0 on a CPU.
    """

    name: str
    within: str
    host_ms: float
    device_ms: float


@dataclass(frozen=True)
class OperatorTime:
    """Own time of one operator, children not counted, per training step."""

    name: str
    calls: float
    host_ms: float
    device_ms: float


@dataclass(frozen=True)
class StepProfile:
    """A profiled stretch of training.

    Attributes:
        steps: training steps in it.
        phases: in the order of a step.
        operators: the most expensive first.
        structures_per_second: training structures, evaluation included, with the profiler's own cost.
    """

    steps: int
    phases: tuple[PhaseTime, ...]
    operators: tuple[OperatorTime, ...]
    structures_per_second: float


def profile_training(
    configs: Sequence[TrialConfig],
    store: GraphStore,
    *,
    device: torch.device | None = None,
    trace: Path | None = None,
) -> StepProfile:
    """Train a group and profile every epoch but the first, in which things are compiled and allocated.

    Args:
        configs: trials of one shape, of at least two epochs.
        store: their graphs.
        device: where; default a GPU if there is one.
        trace: where to write a timeline for chrome://tracing or ui.perfetto.dev.

    Raises:
        ValueError: there is no epoch to profile.
    """
    if configs[0].training.epochs < 2:
        raise ValueError("a profile needs at least 2 epochs: the first is not counted")
    trainer = GroupTrainer(configs, store, device=device)
    trainer.repeat_with(None)  # a recording is one launch, without phases and operators
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if trainer.device.type == "cuda" else [])]
    profiler = profile(activities=activities)
    with _annotated(trainer.network):
        trainer.train(on_epoch=_start_after_first(profiler))
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
        profiler.stop()
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
    return _summary(profiler, trainer)


def _start_after_first(profiler: Any) -> Callable[[list[EpochReport]], None]:
    def start(reports: list[EpochReport]) -> None:
        if reports[0].epoch == 0:
            profiler.start()

    return start


@contextmanager
def _annotated(network: Any) -> Iterator[None]:
    """Mark the modules that are phases of their own."""
    open_ranges: list[Any] = []

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any) -> None:  # noqa: ARG001 - PyTorch fixes the signature
            open_ranges.append(record_function(name))
            open_ranges[-1].__enter__()

        return hook

    def leave(module: nn.Module, inputs: Any, outputs: Any) -> None:  # noqa: ARG001
        open_ranges.pop().__exit__(None, None, None)

    handles = []
    for name, module in ((EMBEDDING, network.embedding), (HEAD, network.head)):
        handles += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _summary(profiler: Any, trainer: GroupTrainer) -> StepProfile:
    events = {event.key: event for event in profiler.key_averages()}
    steps = events[BACKWARD].count
    phases = [
        PhaseTime(
            name,
            WITHIN.get(name, ""),
            events[name].cpu_time_total / 1000 / (events[name].count if name == EVALUATION else steps),
            events[name].device_time_total / 1000 / (events[name].count if name == EVALUATION else steps),
        )
        for name in PHASES
        if name in events
    ]
    operators = [
        OperatorTime(
            event.key,
            event.count / steps,
            event.self_cpu_time_total / 1000 / steps,
            event.self_device_time_total / 1000 / steps,
        )
        for event in events.values()
        if event.key not in PHASES and not event.key.startswith("ProfilerStep")
    ]
    operators.sort(key=lambda operator: max(operator.host_ms, operator.device_ms), reverse=True)
    epochs = events[EVALUATION].count
    seconds = sum(events[name].cpu_time_total for name in PHASES if name in events and name not in WITHIN) / 1e6
    trained = epochs * sum(len(split.train) for split in trainer.splits)
    return StepProfile(steps, tuple(phases), tuple(operators), trained / seconds)


def print_profile(profile: StepProfile, operators: int) -> None:
    """Print a profile as two tables."""
    on_device = any(phase.device_ms for phase in profile.phases)
    step = sum(phase.host_ms for phase in profile.phases if not phase.within and phase.name != EVALUATION)
    print(
        f"{profile.steps} training steps of {step:.2f} ms; {profile.structures_per_second:,.0f} structures/s (profiled)"
    )
    print(f"\n{'phase':<24}{'host ms':>10}{'share':>8}" + (f"{'device ms':>12}" if on_device else ""))
    for phase in profile.phases:
        name = f"  of it {phase.name}" if phase.within else phase.name
        share = "" if phase.name == EVALUATION else f"{100 * phase.host_ms / step:.0f} %"
        name += " (per epoch)" if phase.name == EVALUATION else ""
        print(f"{name:<24}{phase.host_ms:>10.2f}{share:>8}" + (f"{phase.device_ms:>12.2f}" if on_device else ""))
    print(f"\n{'operator':<52}{'calls':>8}{'host ms':>10}" + (f"{'device ms':>12}" if on_device else ""))
    for operator in profile.operators[:operators]:
        device = f"{operator.device_ms:>12.2f}" if on_device else ""
        print(f"{operator.name[:50]:<52}{operator.calls:>8.1f}{operator.host_ms:>10.2f}{device}")
