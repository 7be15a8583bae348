"""A forward compiled by inductor, for GPUs: one compilation for all sizes of batches, with a way out."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from srcgcnn.models.code_cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

MOST_VARIANTS = 512  # of networks (T, norm, damping, members ...) in the life of one worker, x training and evaluation

logger = logging.getLogger(__name__)


class CompiledCall:
    """A function, compiled; if inductor fails, the function itself from then on, after one warning."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Prepare; compilation happens at the first call with each shape."""
        self._function = function
        self._compiled: Callable[..., Any] | None = None

    @property
    def failed(self) -> bool:
        """Whether inductor has failed."""
        return self._compiled is self._function

    def __call__(self, *inputs: Any) -> Any:
        """Call the function."""
        if self.failed:
            return self._function(*inputs)
        try:
            if self._compiled is None:
                self._compiled = _compile(self._function)
            return self._compiled(*inputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - inductor's failures have no common class
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            logger.warning("inductor cannot compile the network here (%s): training continues uncompiled", reason)
            self._compiled = self._function
            return self._function(*inputs)


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with a cache that a user's processes share; also the backward pass, so that its failure shows at once."""
    with suppress(OSError):  # inductor has a folder of its own then
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    if len(os.sched_getaffinity(0)) <= 2:
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # a pool of processes would only compete
    import torch._dynamo
    import torch._functorch.config

    torch._dynamo.config.recompile_limit = max(MOST_VARIANTS, torch._dynamo.config.recompile_limit)
    torch._dynamo.config.accumulated_recompile_limit = torch._dynamo.config.recompile_limit
    torch._functorch.config.force_non_lazy_backward_lowering = True
    return torch.compile(function, fullgraph=True)


def mark_sizes(tensors: Iterable[Tensor | None]) -> None:
    """Say that axis 1 of everything in a batch, atoms or crystals, differs between batches: one compilation for all."""
    import torch._dynamo

    for tensor in tensors:
        if tensor is not None:
            torch._dynamo.maybe_mark_dynamic(tensor, 1)
