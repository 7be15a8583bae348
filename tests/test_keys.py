"""The documents name every key that a site file or a sweep definition may have."""

import pytest

from docs.keys import HERE, PAGES, START, TABLES, with_tables


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_keys_are_those_of_the_models(page):
    text = (HERE / page).read_text(encoding="utf-8")
    assert with_tables(text) == text, "a key, default or meaning has changed: python -m docs.keys writes the tables"


def test_every_table_is_on_a_page():
    pages = "".join((HERE / page).read_text(encoding="utf-8") for page in PAGES)
    assert all(START.format(name) in pages for name in TABLES)
