"""What the pages say can be done as they say it: their commands parse, and their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from docs.site import pages
from srcgcnn.cli.main import make_parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for pattern in ("README.md", "docs/*.md", "mlflow/*.md", "studies/*/README.md", "cluster/**/*.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
COMMAND = re.compile(r"(?:^\$ |^|; do |&& )((?:srcgcnn|python sweeps/depth_sweep\.py) [^\n]*)", re.M)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMES = {"$T": "3", "...": ""}  # what a page leaves for the reader to fill in


def commands_of(page):
    """All commands in the blocks of a page, as arguments of `srcgcnn`."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for name, value in NAMES.items():
        text = text.replace(name, value)
    for language, block in FENCE.findall(text):
        for line in COMMAND.findall(block) if language not in ("python", "toml", "json") else ():
            words = shlex.split(line.partition("; done")[0], comments=True)
            yield words[1:] if words[0] == "srcgcnn" else ["sweep", *words[2:]]


def slugs_of(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


COMMANDS = [(page.relative_to(ROOT).as_posix(), words) for page in PAGES for words in commands_of(page)]


def test_there_are_commands_on_the_pages():
    assert len(COMMANDS) > 30


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else value[0])
def test_a_command_of_the_pages_is_accepted(page, words, capsys):
    try:
        make_parser().parse_args(words)
    except SystemExit:
        pytest.fail(f"{page}: srcgcnn {shlex.join(words)}\n{capsys.readouterr().err.splitlines()[-1]}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_that_the_prose_names_exists(page):
    (commands,) = [action for action in make_parser()._actions if action.dest == "command" or action.choices]
    named = re.findall(r"`srcgcnn ([a-z][a-z-]*)", FENCE.sub("", page.read_text(encoding="utf-8")))
    assert set(named) <= set(commands.choices)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link}: no such file"
        if anchor and target.suffix == ".md":
            assert anchor in slugs_of(target), f"{link}: no such heading"


def test_every_page_is_in_the_navigation_of_the_site():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    named = re.findall(r": (\S+\.md)$", navigation, re.M)
    assert sorted(named) == [page.as_posix() for page in pages()]
