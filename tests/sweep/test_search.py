"""A search: what it proposes, what it learns from, and that neither speed nor interruptions change it."""

from dataclasses import replace
from itertools import product
from random import Random

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import result_of

from srcgcnn.records import RecordError
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import finished_keys, write_result
from srcgcnn.run.stopped import Stopped, write_stopped
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.proposals import read_proposals
from srcgcnn.sweep.search import Search
from srcgcnn.sweep.space import Space
from tests.sweep.test_plan import DATA, spec_of

TEXT = """
[axes]
models = ["srcgcnn", "cgcnn"]
depths = [1, 2, 3, 5, 8]
alphas = ["none", 0.5, "learned"]
norms = ["step", "shared"]
seeds = 2
[search]
method = "{method}"
proposals = {proposals}
objectives = {objectives}
startup = 4
parallel = 3
[search.ranges]
learning_rate = {{low = 1e-4, high = 1e-2, log = true}}
hidden_channels = [32, 64]
"""


def spec(tmp_path, method="tpe", proposals=10, objectives='["val_error"]', text=TEXT):
    return spec_of(tmp_path, text.format(method=method, proposals=proposals, objectives=objectives))


def error_of(trial):
    """A landscape: T = 5 without damping is best, and the learning rate matters."""
    return abs(trial.model.depth - 5) / 10 + (trial.model.alpha != "none") / 10 + trial.training.learning_rate


def train(search, paths, random, most=None):
    """Be the driver: finish groups in a random order, `most` of them at most."""
    waiting = []
    while not search.over:
        waiting += search.advance()
        if search.over or most == 0:
            break
        group = waiting.pop(random.randrange(len(waiting)))
        for trial in group.trials:
            write_result(paths, result_of(trial, val_mae=error_of(trial) + 0.001 * trial.seeds.init))
        search.group_ended(group)
        most = None if most is None else most - 1
    return waiting


def proposals_of(paths):
    return [(found.params, found.values) for found in read_proposals(paths).proposals]


@pytest.mark.full
@settings(max_examples=4, deadline=None)
@given(
    method=st.sampled_from([("tpe", '["val_error"]'), ("nsga2", '["val_error", "conv_params"]')]),
    order=st.integers(0, 10**6),
    killed_after=st.integers(0, 8),
)
def test_proposals_depend_on_neither_the_order_of_results_nor_on_interruptions(
    tmp_path_factory, method, order, killed_after
):
    folder = tmp_path_factory.mktemp("search")
    wanted = spec(folder, *[method[0], 9, method[1]])
    calm, rough = RunPaths(folder / "calm"), RunPaths(folder / "rough")
    train(Search(plan_sweep(wanted, DATA, calm), calm), calm, Random(0))
    train(Search(plan_sweep(wanted, DATA, rough), rough), rough, Random(order), most=killed_after)
    again = plan_sweep(wanted, DATA, rough)
    train(Search(again, rough), rough, Random(order + 1))
    assert proposals_of(rough) == proposals_of(calm)
    assert len(proposals_of(calm)) == 9
    assert plan_sweep(wanted, DATA, rough).over


@pytest.mark.full
def test_a_search_is_scored_by_the_mean_over_seeds_and_goes_on_with_more_proposals(tmp_path):
    paths = RunPaths(tmp_path / "out")
    train(Search(plan_sweep(spec(tmp_path, proposals=5), DATA, paths), paths), paths, Random(0))
    first = proposals_of(paths)
    for proposal in read_proposals(paths).proposals:
        assert len(proposal.trials) == 2
        (score,) = proposal.values
        assert score == pytest.approx(
            error_of(Space(spec(tmp_path), DATA).trials(Space(spec(tmp_path), DATA).variant(proposal.params))[0])
            + 0.0005
        )
    longer = plan_sweep(spec(tmp_path, proposals=8), DATA, paths)
    assert longer.proposals_left == 3
    train(Search(longer, paths), paths, Random(0))
    assert proposals_of(paths)[:5] == first
    assert len(proposals_of(paths)) == 8


@pytest.mark.full
def test_tpe_finds_the_planted_optimum_more_often_than_chance(tmp_path):
    found = {}
    for method in ("tpe", "random"):
        wanted = replace(spec(tmp_path, method, proposals=20), name=method)
        paths = RunPaths(tmp_path / method)
        train(Search(plan_sweep(wanted, DATA, paths), paths), paths, Random(0))
        later = [values[0] for _, values in proposals_of(paths)[10:]]
        found[method] = sum(later) / len(later)
    assert found["tpe"] < 0.8 * found["random"], found


@pytest.mark.full
def test_a_finished_grid_is_known_and_costs_nothing(tmp_path):
    text = TEXT[: TEXT.index("[search.ranges]")].replace("[1, 2, 3, 5, 8]", "[1, 3]")
    paths = RunPaths(tmp_path / "out")
    grid = plan_sweep(spec(tmp_path, "grid", text=text), DATA, paths)
    for trial in grid.trials:
        write_result(paths, result_of(trial, val_mae=error_of(trial)))
    for method in ("random", "tpe", "nsga2"):
        plan = plan_sweep(spec(tmp_path, method, text=text), DATA, paths)
        search = Search(plan, paths)
        assert search.advance() == []
        assert search.over
        proposals = read_proposals(paths).proposals
        known = [proposal for proposal in proposals if proposal.known]
        assert len(known) == len({trial.model for trial in grid.trials})
        assert len(proposals) - len(known) == 10
        assert all(proposal.state == "finished" for proposal in proposals)


@pytest.mark.full
def test_results_outside_of_the_space_or_without_all_seeds_are_not_known(tmp_path):
    paths = RunPaths(tmp_path / "out")
    space = Space(spec(tmp_path), DATA)
    inside = space.trials(space.variant({"model": "cgcnn", "depth": 3, "hidden_channels": 64, "learning_rate": 1e-3}))
    usual = inside[0].training
    strangers = [
        replace(inside[0], data=replace(DATA, data_hash="b" * 16)),
        replace(inside[0], training=replace(usual, learning_rate=0.5)),
        replace(inside[0], training=replace(usual, epochs=7)),
        replace(inside[0], model=replace(inside[0].model, depth=4)),
        replace(inside[0], seeds=replace(inside[0].seeds, init=9, order=9)),
    ]
    assert [space.point_of(trial) for trial in strangers] == [None] * 5
    for trial in (*strangers, inside[0]):
        write_result(paths, result_of(trial))
    search = Search(plan_sweep(spec(tmp_path), DATA, paths), paths)
    search.advance()
    assert not any(proposal.known for proposal in read_proposals(paths).proposals)
    write_result(paths, result_of(inside[1]))
    search = Search(plan_sweep(spec(tmp_path), DATA, paths), paths)
    search.advance()
    known = [proposal.label for proposal in read_proposals(paths).proposals if proposal.known]
    assert known == ["CGCNN-3 learning_rate=0.001"]


def test_every_point_leads_to_trials_that_lead_back_to_it(tmp_path):
    space = Space(spec(tmp_path), DATA)
    axes = space.axes
    for model, depth, norm, alpha, width in product(axes.models, axes.depths, axes.norms, axes.alphas, space.widths):
        asked = {
            "model": model,
            "depth": depth,
            "norm": norm,
            "alpha": alpha,
            "layer_norm": False,
            "hidden_channels": width,
            "learning_rate": 0.00123456,
        }
        variant = space.variant(space.draw(optuna.trial.FixedTrial(asked)))
        assert variant.training.learning_rate == 0.00123
        for trial in space.trials(variant):
            point = space.point_of(trial)
            assert space.variant(point) == variant
        assert len({trial.key for trial in space.trials(variant)}) == 2


@pytest.mark.full
def test_a_variant_with_a_failed_seed_fails_and_one_that_was_stopped_is_no_result(tmp_path):
    paths = RunPaths(tmp_path / "out")
    search = Search(plan_sweep(spec(tmp_path, proposals=4), DATA, paths), paths)
    groups = search.advance()
    bad, halted = groups[0].trials[0], [group for group in groups if group.trials[0].model != groups[0].trials[0].model]
    write_stopped(paths, Stopped(halted[0].trials[0], 3, 0.4, (0.5, 0.4, 0.45), "asha"))
    while groups:
        group = groups.pop()
        for trial in group.trials:
            if trial.key not in (bad.key, halted[0].trials[0].key):
                write_result(paths, result_of(trial))
        search.group_ended(group)
        groups += search.advance()
    states = {proposal.state for proposal in read_proposals(paths).proposals}
    assert states == {"failed", "stopped", "finished"}
    assert search.over
    assert bad.key not in finished_keys(paths)


def test_the_study_is_one_that_optuna_reads(tmp_path):
    paths = RunPaths(tmp_path / "out")
    train(Search(plan_sweep(spec(tmp_path, proposals=3), DATA, paths), paths), paths, Random(0))
    (summary,) = optuna.get_all_study_summaries(f"sqlite:///{paths.study_db}")
    assert summary.n_trials == 3
    assert "seeds" not in str(summary.best_trial.params)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[search]\nmethod='tpe'\nobjectives=['test_mae']\n", ["objectives", "val_error"]),
        ("[search]\nmethod='annealing'\n", ["method", "nsga2"]),
        ("[search]\nmethod='tpe'\nproposals=0\n", ["proposals=0"]),
        ("[search]\nmethod='tpe'\n[search.ranges]\nlearning_rate={low=0.0, high=1.0, log=true}\n", ["low=0.0"]),
        ("[search]\nmethod='tpe'\n[[axes]]\n[[axes]]\nseeds=1\n", ["2 [[axes]] blocks"]),
        ("[search]\nmethod='tpe'\nobjectives=['val_error','seconds']\n[scheduler]\nkind='asha'\n", ["objectives"]),
        ("[scheduler]\nkind='asha'\n[training]\nschedule='plateau'\n", ["plateau"]),
    ],
)
def test_a_search_that_cannot_be_is_refused_with_the_value(tmp_path, text, words):
    with pytest.raises((RecordError, ValueError)) as caught:
        plan_sweep(spec_of(tmp_path, text), DATA, RunPaths(tmp_path / "out"))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_scheduler_judges_all_seeds_of_a_variant_together(tmp_path):
    text = "[axes]\ndepths=[1,2,3]\nalphas=['none',0.3,0.5]\nseeds=3\n[scheduler]\nkind='asha'\ngrace_epochs=2\n"
    paths = RunPaths(tmp_path / "out")
    plan = plan_sweep(spec_of(tmp_path, text), DATA, paths)
    assert all(len(group.trials) == 3 for group in plan.groups)
    assert all(len({trial.model for trial in group.trials}) == 1 for group in plan.groups)
    assert plan.spec.scheduler.rungs(300) == (2, 6, 18, 54, 162)
    for trial in plan.groups[0].trials:
        write_stopped(paths, Stopped(trial, 2, 0.1, (0.2, 0.1), "asha"))
    again = plan_sweep(plan.spec, DATA, paths)
    assert len(again.groups) == len(plan.groups) - 1
    assert len(again.stopped) == 3
    free = plan_sweep(spec_of(tmp_path, text[: text.index("[scheduler]")]), DATA, paths)
    assert free.left == plan.left


def test_a_search_over_lists_is_refused(tmp_path):
    text = TEXT.replace('norms = ["step", "shared"]', "'training.milestones' = [[50], [50, 80]]")
    with pytest.raises(RecordError, match=r"axis training.milestones: a search varies numbers and words, not lists"):
        spec(tmp_path, text=text)
