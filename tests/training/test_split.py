"""Splits: every row at most once, what belongs together on one side, and what is held out never seen in training."""

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition

from srcgcnn.run.training_config import SplitConfig
from srcgcnn.training.split import (
    Crystals,
    SplitError,
    anonymous_formula,
    cluster_compositions,
    element_fractions,
    split_rows,
)
from srcgcnn.training.trainer import GroupTrainer

FORMULAS = ["NaCl", "KBr", "MgO", "CaTiO3", "BaZrO3", "Fe2O3", "Al2O3", "GaAs", "Si", "Fe", "LiFePO4", "UO2"]


def crystals_of(ids, formulas, atoms=None):
    return Crystals(ids, formulas, np.ones(len(ids), dtype=int) if atoms is None else np.asarray(atoms))


@given(st.integers(10, 400), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_a_random_split_uses_every_row_once_in_the_asked_shares(count, seed):
    split = split_rows(SplitConfig(), seed, crystals_of([str(row) for row in range(count)], ["X"] * count))
    rows = np.concatenate([split.train, split.val, split.test])
    assert sorted(rows) == list(range(count))
    assert (len(split.train), len(split.val)) == (int(0.6 * count + 1e-9), int(0.2 * count + 1e-9))


@given(st.lists(st.sampled_from("ABCDEFGHIJKLMNOP"), min_size=40, max_size=200), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_a_formula_split_keeps_formulas_together(formulas, seed):
    ids = [str(row) for row in range(len(formulas))]
    try:
        split = split_rows(SplitConfig(kind="formula"), seed, crystals_of(ids, formulas))
    except SplitError:
        return  # a formula so common that a set stays empty: said, not hidden
    sets = [{formulas[row] for row in rows} for rows in (split.train, split.val, split.test)]
    assert all(not first & second for first, second in combinations(sets, 2))
    assert sum(map(len, (split.train, split.val, split.test))) == len(formulas)


def test_the_folds_test_every_row_exactly_once():
    ids = [str(row) for row in range(53)]
    tests = [
        split_rows(SplitConfig(kind="kfold", folds=5, fold=fold), 7, crystals_of(ids, ids)).test for fold in range(5)
    ]
    assert sorted(np.concatenate(tests)) == list(range(53))


def test_listed_splits_are_taken_as_given_and_checked():
    ids = ["a", "b", "c", "d"]
    split = split_rows(SplitConfig(kind="lists", lists=(("d", "a"), ("b",), ("c",))), 0, crystals_of(ids, ids))
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([3, 0], [1], [2])
    with pytest.raises(SplitError, match="'x'"):
        split_rows(SplitConfig(kind="lists", lists=(("a",), ("x",), ("c",))), 0, crystals_of(ids, ids))
    with pytest.raises(SplitError, match="two of the listed sets"):
        split_rows(SplitConfig(kind="lists", lists=(("a",), ("b",), ("a",))), 0, crystals_of(ids, ids))


def parts_of(split):
    return split.train, split.val, split.test


@pytest.mark.full
@given(
    st.lists(st.tuples(st.sampled_from(FORMULAS), st.integers(1, 4)), min_size=60, max_size=200),
    st.integers(0, 1000),
    st.sampled_from(["prototype", "cluster", "element", "size"]),
)
@settings(max_examples=60, deadline=None)
def test_what_is_held_out_is_not_in_the_training_set(rows, seed, kind):
    formulas, sizes = zip(*rows, strict=True)
    crystals = crystals_of([str(row) for row in range(len(rows))], formulas, sizes)
    config = SplitConfig(kind=kind, held_out=("O",) if kind == "element" else (), clusters=6)
    try:
        split = split_rows(config, seed, crystals)
    except SplitError:
        return  # a set would be empty: said, not hidden
    taken = np.concatenate(parts_of(split))
    assert sorted(taken) == list(range(len(rows)))
    if kind == "element":
        assert all("O" in formulas[row] for row in split.test)
        assert not any("O" in formulas[row] for row in (*split.train, *split.val))
    elif kind == "size":
        assert min(sizes[row] for row in split.test) > max(sizes[row] for row in (*split.train, *split.val))
    else:
        unit = (
            [(anonymous_formula(formula), size) for formula, size in rows]
            if kind == "prototype"
            else cluster_compositions(formulas, 6, seed).tolist()
        )
        sets = [{unit[row] for row in part} for part in parts_of(split)]
        assert all(not first & second for first, second in combinations(sets, 2))


def test_a_held_out_element_that_is_nowhere_is_refused_with_those_that_are():
    crystals = crystals_of([str(row) for row in range(12)], FORMULAS)
    with pytest.raises(SplitError, match=r"held_out='Xe' is in no crystal of the store; its elements: Al, As"):
        split_rows(SplitConfig(kind="element", held_out=("Xe",)), 0, crystals)


def test_equal_prototypes_have_one_anonymous_formula():
    assert anonymous_formula("CaTiO3") == anonymous_formula("BaZrO3") == "1-1-3"
    assert anonymous_formula("Fe2O3") == anonymous_formula("As2S3") != anonymous_formula("Fe3O4")
    assert anonymous_formula("Ca3(GaO3)2") == anonymous_formula("Ca3Al2O6") == "2-3-6"
    assert anonymous_formula("Mg3(PO4)2") == "2-3-8"
    assert anonymous_formula("O2") == anonymous_formula("Cu") == "1"  # formulas that chemists do not reduce
    assert anonymous_formula("Na2O2") == anonymous_formula("NaCl") == "1-1"
    assert anonymous_formula("Li0.5CoO2") == "0.5-1-2"


@given(st.lists(st.sampled_from(["Ca(NO3)2", "Mg3(PO4)2", "Fe2(SO4)3", "NaCl", "Ca(HO)2", "Li0.5CoO2"]), min_size=1))
def test_formulas_are_read_as_their_library_writes_them(formulas):
    fractions = element_fractions(formulas)
    for formula, row in zip(formulas, fractions, strict=True):
        assert np.sort(row[row > 0]) == pytest.approx(sorted(Composition(formula).fractional_composition.values()))


def test_clusters_are_those_of_the_compositions_and_a_seed_draws_them_again():
    formulas = ["NaCl", "Na10Cl9", "Na9Cl10", "GaAs", "Ga10As9", "Ga9As10"] * 5
    labels = cluster_compositions(formulas, 2, 3)
    assert len(set(labels[[0, 1, 2]])) == len(set(labels[[3, 4, 5]])) == 1
    assert labels[0] != labels[3]
    assert cluster_compositions(formulas, 2, 3).tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "element"}, "split kind 'element' needs held_out"),
        ({"kind": "random", "held_out": ("O",)}, "held_out=.* belongs to split kind 'element'"),
        ({"kind": "cluster", "clusters": 2}, "clusters=2 must be at least 3"),
    ],
)
def test_splits_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        SplitConfig(**wrong)


def test_trials_that_hold_out_prototypes_are_stacked_on_one_split_only(demo_store, trial_of):
    from dataclasses import replace

    from srcgcnn.models.config import ModelConfig

    config = trial_of(ModelConfig("srcgcnn", 2), split=SplitConfig(kind="prototype"))
    other = replace(config, seeds=replace(config.seeds, split=1))
    assert config.shape != other.shape
    with pytest.raises(ValueError, match="differ in more than seeds"):
        GroupTrainer([config, other], demo_store)


@given(
    count=st.integers(30, 80),
    seed=st.integers(0, 9),
    kind=st.sampled_from(["random", "formula", "kfold", "lists"]),
    sizes=st.lists(st.integers(1, 8), min_size=2, max_size=4, unique=True),
)
def test_smaller_training_sets_are_parts_of_larger_ones_and_nothing_else_changes(count, seed, kind, sizes):
    ids = [str(row) for row in range(count)]
    formulas = [f"X{row % (count // 2)}" for row in range(count)]
    crystals = crystals_of(ids, formulas)
    lists = (tuple(ids[:-2]), tuple(ids[-2:-1]), tuple(ids[-1:])) if kind == "lists" else None
    config = SplitConfig(kind=kind, lists=lists)
    whole = split_rows(config, seed, crystals)
    fitting = sorted(size for size in sizes if size <= len(whole.train))
    splits = [split_rows(replace(config, train_size=size), seed, crystals) for size in fitting]
    for split, size in zip(splits, fitting, strict=True):
        assert len(set(split.train)) == size
        assert np.array_equal(split.val, whole.val)
        assert np.array_equal(split.test, whole.test)
    for small, large in pairwise([*splits, whole]):
        assert set(small.train) <= set(large.train)
    with pytest.raises(SplitError, match=f"train_size={count}: the training set"):
        split_rows(replace(config, train_size=count), seed, crystals)
