"""Names of variants in order."""

from hypothesis import given
from hypothesis import strategies as st

from srcgcnn.run.labels import by_number


@given(st.lists(st.floats(1e-12, 1e12), min_size=2))
def test_names_that_differ_in_a_number_are_sorted_by_it(numbers):
    names = [f"CGCNN-3 learning_rate={number!r} seed" for number in numbers]
    assert sorted(names, key=by_number) == [f"CGCNN-3 learning_rate={number!r} seed" for number in sorted(numbers)]


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_any_names_have_one_order(names):
    backwards = names[::-1]
    backwards.sort(key=by_number)
    assert [by_number(name) for name in sorted(names, key=by_number)] == [by_number(name) for name in backwards]


def test_depths_and_neighbours_come_in_the_order_in_which_people_count():
    names = ["CGCNN-10", "CGCNN-2", "CGCNN-2 graph.neighbours=12", "CGCNN-2 graph.neighbours=8"]
    assert sorted(names, key=by_number) == [names[1], names[3], names[2], names[0]]
