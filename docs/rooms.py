"""Write the table of rooms into docs/design.md: `python -m docs.rooms`, from the repository's root.

The order is that of the import contract in pyproject.toml, which `make lint` checks; what lives in a room is the first
sentence of its docstring. A test fails where the page differs from what this writes.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "design.md"
START, END = "<!-- rooms, written by `python -m docs.rooms` -->\n", "<!-- end of rooms -->\n"


def layers() -> list[list[str]]:
    """Return the layers of the import contract, lowest first, each with its rooms."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(one for one in settings["tool"]["importlinter"]["contracts"] if one["id"] == "layers")
    return [[room.strip() for room in layer.split("|")] for layer in reversed(contract["layers"])]


def purpose(room: str) -> str:
    """Return the first sentence of a room's docstring."""
    package = ROOT / "srcgcnn" / room
    source = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
    paragraph = (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
    sentence, stop, _ = " ".join(paragraph.split()).partition(". ")
    return sentence + "." * bool(stop)


def table() -> str:
    """Return the table as Markdown: every room may import the rooms above it."""
    lines = ["| layer | room | what lives there |", "| --- | --- | --- |"]
    for number, rooms in enumerate(layers()):
        for room in rooms:
            path = f"srcgcnn/{room}/" if (ROOT / "srcgcnn" / room).is_dir() else f"srcgcnn/{room}.py"
            lines.append(f"| {number} | `{path}` | {purpose(room)} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """Return the page with its table written anew."""
    before, start, rest = page.partition(START)
    return f"{before}{start}{table()}{END}{rest.partition(END)[2]}" if start else page


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
