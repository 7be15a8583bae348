"""Networks of one's own, `module:Class`: which may be imported, and what they are. No torch here (docs/own_network.md).

Names of networks are in definitions, results, checkpoints and model files, and those may come from strangers. So a
name imports nothing by itself: only what `permit` was given, by the command line of the same user, is ever imported.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.records import DIGEST_CHARACTERS, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PERMITTED = "SRCGCNN_NETWORKS"  # names, separated by spaces: a variable, so that workers and jobs inherit it
FOLDERS = "SRCGCNN_NETWORK_FOLDERS"  # where modules are looked for behind those that are installed
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
# Fields of `ModelConfig` that a constructor may take, by these names
SETTINGS = (
    "depth",
    "hidden_channels",
    "edge_channels",
    "head_channels",
    "head_layers",
    "readout",
    "norm_kind",
    "task",
    "outputs",
)


@record
class OwnNetwork:
    """What plans need to know about a user-defined network, so that they need not import it.

    Attributes:
        name: `module:Class`.
        code: hash of the file that defines the class.
        settings: fields of `ModelConfig` that its constructor takes.
    """

    name: str
    code: str
    settings: tuple[str, ...]


def is_own(name: str) -> bool:
    """Whether a name is that of a network of one's own."""
    return NAME.fullmatch(name) is not None


def permit(names: Iterable[str], folder: Path | None = None) -> None:
    """Allow this process and all that it starts to import these networks.

    Args:
        names: `module:Class`; other names are left alone. Only what the user typed may be given here.
        folder: where their modules are, if they are not installed; by default the present folder.
    """
    added = [name for name in names if is_own(name) and name not in permitted()]
    if added:
        os.environ[PERMITTED] = " ".join([*permitted(), *added])
        here = str((folder or Path()).resolve())
        os.environ[FOLDERS] = os.pathsep.join(dict.fromkeys([*_folders(), here]))


def permitted() -> tuple[str, ...]:
    """Return the names that may be imported."""
    return tuple(os.environ.get(PERMITTED, "").split())


def environment() -> dict[str, str]:
    """Return the variables that jobs elsewhere need to import the same networks; none if there are none."""
    return {name: os.environ[name] for name in (PERMITTED, FOLDERS) if os.environ.get(name)}


def _folders() -> list[str]:
    return [folder for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder]


def network_class(name: str, code: str = "") -> Callable[..., Any]:
    """Import a network.

    Args:
        name: `module:Class`.
        code: hash that its file must have; "" for any.

    Raises:
        ValueError: it is not permitted, not there, or another one than was planned with.
    """
    if name not in permitted():
        raise ValueError(
            f"network {name!r} is code, and nothing is imported because a file names it. If it is yours, say so: "
            f"--models {name} or --network {name}, or {PERMITTED}={name} in the environment"
        )
    module_name, _, class_name = name.partition(":")
    sys.path += [folder for folder in _folders() or [str(Path.cwd())] if folder not in sys.path]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        places = os.pathsep.join(_folders()) or str(Path.cwd())
        raise ValueError(f"network {name!r}: {error}; looked for among installed packages and in {places}") from None
    kind = getattr(module, class_name, None)
    if not isinstance(kind, type):
        classes = ", ".join(key for key, value in vars(module).items() if isinstance(value, type)) or "none"
        raise ValueError(f"network {name!r}: {module.__file__} has no class {class_name!r}; its classes: {classes}")
    if code and code != (now := code_of(kind)):
        raise ValueError(
            f"network {name!r}: its file has changed since this was planned ({code}, now {now}): "
            "start the sweep again; results of the old code are kept as such"
        )
    return kind


def code_of(kind: type) -> str:
    """Return the hash of the file that defines a class."""
    source = inspect.getsourcefile(kind)
    if source is None:
        raise ValueError(f"network {kind.__name__!r} has no file: write it into one")
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()[:DIGEST_CHARACTERS]


def settings_of_class(name: str, kind: Callable[..., Any]) -> tuple[str, ...]:
    """Return the fields of `ModelConfig` that a constructor takes.

    Raises:
        ValueError: it needs something else.
    """
    parameters = inspect.signature(kind).parameters.values()
    needed = [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    unknown = [one for one in needed if one not in SETTINGS]
    if unknown:
        raise ValueError(
            f"network {name!r}: its constructor needs {', '.join(unknown)}; give a default. "
            f"What a sweep can pass on: {', '.join(SETTINGS)}"
        )
    return tuple(one.name for one in parameters if one.name in SETTINGS)


def described(name: str) -> OwnNetwork:
    """Import a permitted network and describe it.

    Raises:
        ValueError: as `network_class` and `settings_of_class`.
    """
    kind = network_class(name)
    return OwnNetwork(name, code_of(kind), settings_of_class(name, kind))  # type: ignore[arg-type]
