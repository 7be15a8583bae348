"""Depth sweeps of shared recurrent crystal graph networks.

import srcgcnn
run = srcgcnn.sweep("depth", depths=[1, 2, 3], seeds=3)   # or srcgcnn.open_run("runs/depth")
run.tradeoff()

Nothing heavy is imported before it is used: `srcgcnn --help` and a dry run load no torch, Ray or MLflow.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from srcgcnn.version import __version__

if TYPE_CHECKING:
    from srcgcnn.api import OpenRun, SweepError, open_run
    from srcgcnn.api import sweep as sweep
    from srcgcnn.data.store import GraphStore
    from srcgcnn.prediction.ensemble import Ensemble

__all__ = ["Ensemble", "GraphStore", "OpenRun", "SweepError", "__version__", "open_run", "sweep"]

_HOMES = {
    "Ensemble": "srcgcnn.prediction.ensemble",
    "GraphStore": "srcgcnn.data.store",
    "OpenRun": "srcgcnn.api",
    "SweepError": "srcgcnn.api",
    "open_run": "srcgcnn.api",
}


class _CallablePackage(ModuleType):
    """`srcgcnn.sweep` is the room of sweep definitions and, called, the function that runs one."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module("srcgcnn.api").sweep(*arguments, **options)


import_module("srcgcnn.sweep").__class__ = _CallablePackage  # this loads its docstring alone


def __getattr__(name: str) -> Any:
    """Import a name of the API when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
