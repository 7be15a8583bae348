"""Build the documentation site: `make docs`, or `python -m docs.site` from the repository's root.

The pages are laid out as in the repository, with every file that they link to, so that a link works on the site as it
works there. MkDocs then checks all of them; a page that is not in the navigation is an error, too.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/*.md", "mlflow/README.md", "studies/*/README.md")
LINK = re.compile(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)")


def pages() -> list[Path]:
    """Return all pages, relative to the repository."""
    return sorted(path.relative_to(ROOT) for pattern in PAGES for path in ROOT.glob(pattern))


def files_of_the_site() -> set[Path]:
    """Return all pages and what they link to, relative to the repository."""
    found = set(pages())
    for page in pages():
        for link in LINK.findall((ROOT / page).read_text(encoding="utf-8")):
            target = (ROOT / page.parent / link).resolve()
            if target.is_file() and target.is_relative_to(ROOT):
                found.add(target.relative_to(ROOT))
    return found


def lay_out(folder: Path) -> None:
    """Copy the files of the site into a folder, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in files_of_the_site():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)


def main() -> int:
    """Build the site in `build/site`; returns the exit status of MkDocs."""
    lay_out(ROOT / "build" / "pages")
    return subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
