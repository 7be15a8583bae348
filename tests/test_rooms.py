"""docs/design.md shows the rooms in the order of the import contract, which `make lint` checks."""

from docs.rooms import PAGE, START, layers, purpose, with_table


def test_the_table_of_rooms_is_that_of_the_import_contract():
    page = PAGE.read_text(encoding="utf-8")
    assert START in page
    assert with_table(page) == page, "a room or its docstring has changed: python -m docs.rooms writes the table"


def test_every_room_says_what_lives_there():
    assert all(purpose(room) for rooms in layers() for room in rooms)
