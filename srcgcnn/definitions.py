"""Where site files and sweep definitions are found: in the folder where one stands first, then those that ship.

A wheel holds a copy of `cluster/*.toml` and `sweeps/*.toml` of the repository, made when it is built (pyproject.toml).
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

Kind = Literal["cluster", "sweeps", "sweeps/published"]
WHAT = {"cluster": "site file", "sweeps": "sweep definition", "sweeps/published": "publication"}


def find_definition(kind: Kind, name: str) -> Path:
    """Return the file of a definition.

    Args:
        kind: the folder, `cluster` or `sweeps`.
        name: such as `depth`, or the path of a .toml file.

    Raises:
        FileNotFoundError: there is none; the message lists the known names.
    """
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"no {WHAT[kind]} {name}; known: {', '.join(known_definitions(kind)) or 'none'}")
        return Path(name)
    known = known_definitions(kind)
    if name not in known:
        raise FileNotFoundError(f"no {WHAT[kind]} {name!r}; known: {', '.join(known) or 'none'}, or give a .toml file")
    return known[name]


def known_definitions(kind: Kind) -> dict[str, Path]:
    """Return all definitions by name; a file of the present folder hides one that ships."""
    folders = [shipped(kind), Path(kind)]
    return dict(sorted((path.stem, path) for folder in folders for path in sorted(folder.glob("*.toml"))))


def shipped(kind: Kind) -> Path:
    """Return the folder of what ships: inside an installed package, or next to the package in a checkout."""
    package = Path(str(files("srcgcnn")))
    installed = package / "shipped" / kind
    return installed if installed.is_dir() else package.parent / kind
