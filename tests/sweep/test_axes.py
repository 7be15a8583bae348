"""What a sweep varies: short and dotted names, ranges, sizes of the training set, equal parameter counts."""

import argparse
import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srcgcnn.cli.axes import add_axis_flags, axes_of
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.counts import count_parameters
from srcgcnn.records import RecordError, as_dict, parse
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import finished_keys
from srcgcnn.run.training_config import SplitConfig, TrainingConfig
from srcgcnn.sweep.axes import Axes, Axis, Match, values_of
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.proposals import study_name
from srcgcnn.sweep.search import Search
from srcgcnn.sweep.space import Matching, Space, matches_of, without_effect
from srcgcnn.sweep.spec import SweepSpec
from tests.sweep.test_plan import DATA, spec_of
from tests.sweep.test_search import train


def flags(*words):
    parser = argparse.ArgumentParser()
    add_axis_flags(parser)
    return axes_of(parser.parse_args(words))


def keys(tmp_path, text, **overrides):
    return {trial.key for trial in plan_sweep(spec_of(tmp_path, text, **overrides), DATA, RunPaths(tmp_path)).trials}


@pytest.mark.parametrize(
    "text",
    [
        '[axes]\nmodels=["srcgcnn"]\n"model.depth"=[1,2]\nseeds=2\n"training.weight_decay"=[0, 0.01]\n',
        '[axes]\nmodels=["srcgcnn"]\nmodel.depth=[1,2]\nseeds=[0,1]\ntraining.weight_decay=[0.0, 0.01]\n',
        '[axes]\nmodels="srcgcnn"\ndepths="1..2"\nseeds="0,1"\ntraining.weight_decay="0,0.01"\n',
    ],
)
def test_short_dotted_and_nested_names_and_ranges_ask_for_the_same_trials(tmp_path, text):
    asked = flags(
        *["--models", "srcgcnn", "--depths", "1,2", "--seeds", "0..1", "--axis", "training.weight_decay", "0", "0.01"]
    )
    assert keys(tmp_path, text) == keys(tmp_path, "", axes=asked)
    assert len(keys(tmp_path, text)) == 8


def test_an_axis_of_the_training_is_a_variant_with_a_label_of_its_own(tmp_path):
    text = '[axes]\nmodels=["cgcnn"]\ndepths=[2]\nseeds=1\n"training.learning_rate"=[0.001, 0.01]\n'
    plan = plan_sweep(spec_of(tmp_path, text), DATA, RunPaths(tmp_path))
    assert sorted(labels[0] for labels in plan.aliases.values()) == [
        "CGCNN-2 learning_rate=0.001",
        "CGCNN-2 learning_rate=0.01",
    ]
    assert {trial.training.learning_rate for trial in plan.trials} == {0.001, 0.01}


def test_a_spec_with_dotted_axes_reads_back_equal(tmp_path):
    text = '[axes]\n"training.milestones"=[[10],[10,20]]\n"training.clip_norm"=["none", 1]\ntrain_sizes=[5,"all"]\n'
    spec = spec_of(tmp_path, text)
    assert parse(SweepSpec, json.loads(json.dumps(as_dict(spec))), "test") == spec
    assert {trial.training.clip_norm for trial in plan_sweep(spec, DATA, RunPaths(tmp_path)).trials} == {None, 1.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"model.dept"=[1]\n', ["'model.dept'", "depths (model.depth)", "training.weight_decay", "split_seeds"]),
        ('"training.start"=[1]\n', ["'training.start'", "training.split.kind"]),
        ('depths=[1]\n"model.depth"=[2]\n', ["depths", "twice"]),
        ('"training.learning_rate"=["fast"]\n', ["axes.training.learning_rate", "a number", "'fast'"]),
        ('"training.epochs"=[0]\n', ["epochs=0", "positive"]),
        ('"training.epochs"=[5, 5]\n', ["training.epochs", "twice"]),
        ("seeds=1000000000\n", ["seeds=1000000000", "100000"]),
        ("seeds=1e9\n", ["seeds=1000000000.0", "100000"]),
        ("seeds=0\n", ["seeds=0", "whole number from 1"]),
        ("seeds=[-1]\n", ["seeds", "-1", "negative"]),
        ("depths=[1000000000]\n", ["depths", "1000000000", "at most 1000"]),
        ('depths="1..1000000000"\n', ["1..1000000000", "at most 100000"]),
        ("widths=[1000000000]\n", ["widths", "1000000000", "10000"]),
        ("seeds=50000\nsplit_seeds=5000\n", ["2,500,000,000 trials", "at most 100,000"]),
        ('match={by="conv_params", of="CGCNN-3"}\nwidths=[3]\n', ["match", "widths"]),
        ('match={by="params", of="CGCNN-3"}\n', ["conv_params", "'params'"]),
        ('match={by="conv_params", of="SR-CGCNN T=3"}\n', ["'SR-CGCNN T=3'", "'SR-CGCNN T=3 step-norm'"]),
        ("train_sizes=[0]\n", ["train_size=0", "at least 1"]),
    ],
)
def test_wrong_axes_are_refused_with_the_value_and_what_is_known(tmp_path, text, words):
    with pytest.raises((RecordError, ValueError)) as caught:
        plan_sweep(spec_of(tmp_path, f"[axes]\n{text}"), DATA, RunPaths(tmp_path / "out"))
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[axes]\n"training.learning_rate"=[1e-3]\n[search.ranges]\nlearning_rate={low=1e-4,high=1e-2}\n', ["same"]),
        ('[axes]\n"training.epochs"=[3,5]\n[scheduler]\nkind="asha"\n', ["training.epochs"]),
        ('[axes]\n"training.schedule"=["none","plateau"]\n[scheduler]\nkind="asha"\n', ["plateau"]),
    ],
)
def test_what_is_varied_in_two_places_is_refused(tmp_path, text, words):
    search = "" if "scheduler" in text else "[search]\nmethod='tpe'\n"
    with pytest.raises((RecordError, ValueError)) as caught:
        spec_of(tmp_path, search + text)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_flags_replace_the_axes_of_the_file_and_leave_the_others(tmp_path):
    text = '[axes]\nseeds=2\n"training.momentum"=[0.8]\n"training.weight_decay"=[0.1]\nwidths=[8]\n'
    asked = flags("--seeds", "7..7", "--axis", "training.weight_decay", "0", "--match", "total_params", "CGCNN-1")
    axes = spec_of(tmp_path, text, axes=asked).axes[0]
    assert (axes.seeds, axes.widths, axes.match.by) == ((7,), None, "total_params")
    assert axes.more == (Axis("training.momentum", (0.8,)), Axis("training.weight_decay", (0.0,)))


@pytest.mark.parametrize(("words", "seeds"), [(["3"], 3), (["0", "1", "5"], [0, 1, 5]), (["2..4"], [2, 3, 4])])
def test_seeds_are_a_count_or_a_list(words, seeds):
    assert flags("--seeds", *words) == {"seeds": seeds}


@given(st.lists(st.integers(0, 999), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_numbers_are_read_however_they_are_separated(numbers, random: Random):
    text = "".join(f"{number}{random.choice(', ')}" for number in numbers)
    assert values_of(text.split(), "test") == numbers
    low, high = min(numbers), max(numbers)
    assert values_of([f"{low}..{high}"], "test") == list(range(low, high + 1))


@pytest.mark.parametrize("by", ["conv_params", "total_params"])
def test_matched_widths_are_the_nearest_and_the_plan_says_how_near(tmp_path, by):
    text = f'[axes]\ndepths=[1,2,5]\nseeds=1\nmatch={{by="{by}", of="SR-CGCNN T=3 step-norm"}}\n'
    spec = spec_of(tmp_path, text)
    plan = plan_sweep(spec, DATA, RunPaths(tmp_path))
    matching = Matching(by, ModelConfig("srcgcnn", 3))
    wanted = matching.count(matching.of)
    for trial in plan.trials:
        width = trial.model.hidden_channels
        found = abs(matching.count(trial.model) - wanted)
        assert all(
            abs(matching.count(replace(trial.model, hidden_channels=near)) - wanted) >= found for near in range(1, 200)
        ), width
    lines = matches_of(spec, 2)
    assert f"{wanted:,}, +0.00 %" in lines[0]
    assert lines[-1] == "  and 3 more"
    assert count_parameters(matching.fitted(matching.of)) == count_parameters(matching.of)


@pytest.mark.full
def test_a_search_chooses_from_the_same_space(tmp_path):
    text = """
    [axes]
    models = ["srcgcnn", "cgcnn"]
    depths = [1, 2, 3]
    seeds = 1
    train_sizes = [5, "all"]
    "training.batch_size" = [8, 16]
    match = {by = "conv_params", of = "CGCNN-1"}
    [search]
    method = "tpe"
    proposals = 12
    """
    spec, paths = spec_of(tmp_path, text), RunPaths(tmp_path / "out")
    space = Space(spec, DATA)
    for point in space.points():
        for trial in space.trials(space.variant(point)):
            assert space.variant(space.point_of(trial)) == space.variant(point)
    train(Search(plan_sweep(spec, DATA, paths), paths), paths, Random(0))
    grid = spec_of(tmp_path, text.replace('"tpe"', '"grid"'))
    assert finished_keys(paths) <= {trial.key for trial in plan_sweep(grid, DATA, paths).trials}
    assert finished_keys(paths)


def test_studies_of_earlier_versions_are_found(tmp_path):
    """The name, and so the proposals made so far, as the version before dotted names wrote it."""
    text = (
        '[axes]\nmodels=["srcgcnn","cgcnn"]\ndepths=[1,3]\nalphas=["none",0.5]\nseeds=2\n'
        '[search]\nmethod="tpe"\n[training]\nepochs=5\n'
    )
    spec = replace(spec_of(tmp_path, text), name="pinned")
    assert study_name(spec, replace(DATA, target="y", unit="eV")) == "pinned-e2def8163900dff0"
    widened = replace(spec, axes=(replace(spec.axes[0], widths=(32,)),))
    assert study_name(widened, DATA) != study_name(spec, DATA)


@pytest.mark.parametrize("of", ["SR-SchNet T=3 step-norm", "DeeperGATGNN-2", "SR-MEGNet T=2 affine-norm alpha=learned"])
def test_widths_match_any_network_by_its_label(of):
    axes = Axes(models=("cgcnn",), depths=(2,), seeds=(0,), match=Match("conv_params", of))
    space = Space(SweepSpec("any", axes=(axes,)), DATA)
    assert space.matching.of.label == of
    (point,) = space.points()
    wanted, found = (count_parameters(one).convolution for one in (space.matching.of, space.variant(point).model))
    assert abs(found - wanted) < 0.1 * wanted


def test_axes_that_no_model_has_are_named():
    def said(**axes):
        return without_effect(SweepSpec("x", axes=(Axes(**axes),)))

    assert said(models=("cgcnn",), norms=("shared",), alphas=("none",)) == ["norms: no model of this sweep has them"]
    assert said(models=("cgcnn", "srcgcnn"), norms=("shared",)) == ["norms: without effect on cgcnn"]
    assert said(models=("srcgcnn", "schnet"), norms=("shared",), alphas=(0.5,)) == []


@pytest.mark.parametrize(("model", "networks"), [("cgcnn", 1), ("deepercgcnn", 1), ("megnet", 1), ("schnet", 2)])
def test_widths_of_edges_that_change_nothing_make_no_other_network(tmp_path, model, networks):
    """Only blocks with filters or edge networks read it, and 64 is what 0 means at width 64."""
    text = f"[axes]\nmodels=['{model}']\ndepths=[2]\nseeds=1\n'model.edge_channels'=[0, 32, 64]\n"
    assert len(keys(tmp_path, text)) == networks
    told = without_effect(spec_of(tmp_path, text))
    assert told == ([] if networks == 2 else ["model.edge_channels: no model of this sweep has them"])
    assert len(keys(tmp_path, text.replace("'model.edge_channels'=[0, 32, 64]", "[network]\nedge_channels=32"))) == 1


def test_split_seeds_of_listed_rows_are_named_as_without_effect():
    def said(lists, **axes):
        split = SplitConfig("lists", lists=lists) if lists else SplitConfig()
        return without_effect(SweepSpec("x", axes=(Axes(**axes),), training=TrainingConfig(split=split)))

    lists = (("a",), ("b",), ("c",))
    assert said(lists, split_seeds=(0, 1)) == ["split_seeds: without effect, since the rows of all sets are listed"]
    assert said(lists, split_seeds=(0, 1), train_sizes=(1,)) == said(lists) == said(None, split_seeds=(0, 1)) == []
