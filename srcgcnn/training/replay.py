"""Replay a function's kernels as one CUDA graph: otherwise small networks wait for the launch of every kernel.

PyTorch's rules for captures (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs), and how they are kept:

- shapes and addresses never change: one recording per set of shapes, inputs are copied to where it reads them;
- everything was run once before, on the stream of the capture: the first call with new shapes runs as it is, the second
  records. Shapes that come once are never recorded;
- no wait for the device and no copy from the host: tests/training/test_replay.py proves it on a device without data;
- gradients are made by the recording, so they must be absent when it begins.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

logger = logging.getLogger(__name__)


class Recorder(Protocol):
    """Runs functions, or records them for repetition."""

    def run(self, function: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Call a function that will be recorded later."""

    def record(self, function: Callable[[], tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], Callable[[], None]]:
        """Return the function's outputs, not yet computed, and what computes them in place."""


class CudaRecorder:
    """CUDA graphs, all on one stream and in one memory pool.

    A recording may overwrite the outputs of another one, since they share memory: outputs hold until the next call.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, function: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Call the function on the stream of the captures; what follows waits for it on the device."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outputs = function()
        current.wait_stream(self._stream)
        return outputs

    def record(self, function: Callable[[], tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], Callable[[], None]]:
        """Capture the function."""
        current, graph = torch.cuda.current_stream(self._stream.device), torch.cuda.CUDAGraph()
        try:
            # other threads of a worker may use CUDA meanwhile: inductor captures in this mode, too
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                outputs = function()
        except RuntimeError:
            torch.cuda.set_stream(current)  # which a failed capture leaves behind
            raise
        return outputs, graph.replay


class _Recording:
    """One recorded function: where it reads, where it writes."""

    def __init__(
        self, recorder: Recorder, function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor | None, ...]
    ) -> None:
        self._inputs = tuple(None if one is None else one.clone() for one in inputs)
        self._outputs, self._repeat = recorder.record(lambda: function(*self._inputs))

    def __call__(self, inputs: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
        for place, one in zip(self._inputs, inputs, strict=True):
            if place is not None and one is not None:
                place.copy_(one)
        self._repeat()
        return self._outputs


class Replay:
    """Calls functions of tensors, and repeats their recordings if there is a recorder."""

    def __init__(self, recorder: Recorder | None) -> None:
        """Without a recorder every call is a plain one."""
        self.recorder = recorder
        self._met: set[tuple[object, ...]] = set()
        self._recordings: dict[tuple[object, ...], _Recording] = {}

    def __call__(self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """Return function(*inputs). The outputs hold until the next call.

        Functions are distinguished by their names, recordings of one function by the shapes of its inputs.
        """
        if self.recorder is None:
            return function(*inputs)
        key = (function.__name__, *(None if one is None else one.shape for one in inputs))
        if key not in self._met:
            self._met.add(key)
            return self.recorder.run(lambda: function(*inputs))
        if key not in self._recordings:
            try:
                self._recordings[key] = _Recording(self.recorder, function, inputs)
            except RuntimeError as error:
                return self._give_up(error)(function, *inputs)
        return self._recordings[key](inputs)

    @property
    def recordings(self) -> int:
        """Number of recordings."""
        return len(self._recordings)

    def _give_up(self, error: RuntimeError) -> Replay:
        reason = str(error).strip().splitlines()[0]
        logger.warning("no CUDA graph of a training step here (%s): training continues kernel by kernel", reason)
        self.recorder = None
        self._recordings.clear()
        return self
