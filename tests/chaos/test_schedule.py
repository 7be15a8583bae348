"""Schedules: equal from equal seeds, the same after a way through text, and shrunk to what fails."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos import local
from tests.chaos.schedule import Choice, Fault, Schedule, generate, shrink

MENU = local.menu()
seeds = st.integers(0, 2**32)


@given(seeds, st.integers(0, 50), st.integers(0, 40))
def test_a_seed_says_it_all_and_text_keeps_it(seed, number, count):
    made = generate("local", MENU, seed, number, count)
    assert made == generate("local", MENU, seed, number, count)
    assert Schedule.from_json(made.to_json()) == made
    assert len(made.faults) == count
    assert {(fault.kind, fault.target) for fault in made.faults} <= {(choice.kind, choice.target) for choice in MENU}


def test_a_longer_round_begins_like_a_shorter_one():
    assert generate("local", MENU, 0, 0, 30).faults[:10] == generate("local", MENU, 0, 0, 10).faults


def test_every_kind_of_fault_comes_in_three_seeds_of_a_hundred():
    drawn = {
        f.kind for seed in range(3) for number in range(5) for f in generate("local", MENU, seed, number, 20).faults
    }
    assert drawn == {choice.kind for choice in MENU}


def test_an_unknown_key_is_refused():
    data = json.loads(Schedule("local", 0, 0, (Fault("kill", "driver"),)).to_json())
    data["faults"][0]["when"] = 1
    with pytest.raises(TypeError, match="when"):
        Schedule.from_json(json.dumps(data))


def test_choices_of_no_weight_never_come():
    menu = [Choice("kill", "driver", 1), Choice("freeze", "driver", 0)]
    assert {fault.kind for fault in generate("local", menu, 1, 0, 200).faults} == {"kill"}


@settings(deadline=None)
@given(st.sets(st.integers(0, 39), min_size=1, max_size=4), st.integers(1, 40))
def test_shrinking_ends_at_exactly_the_faults_that_are_needed(needed, count):
    count = max(count, max(needed) + 1)
    faults = tuple(Fault("kill", "trainer", pick) for pick in range(count))
    asked = []

    def fails(some):
        asked.append(some)
        return needed <= {fault.pick for fault in some}

    assert {fault.pick for fault in shrink(faults, fails)} == needed
    assert all(asked)  # no sweep is run without a fault


@given(st.lists(st.booleans(), max_size=60))
def test_shrinking_ends_and_keeps_the_order_whatever_luck_says(luck):
    faults, left = tuple(Fault("kill", "trainer", pick) for pick in range(12)), list(luck)
    least = shrink(faults, lambda _: bool(left and left.pop()))
    assert least
    assert [fault.pick for fault in least] == sorted(fault.pick for fault in least)
