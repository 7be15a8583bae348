"""What a sweep says of data that it cannot train on, before it starts anything."""

import re

import numpy as np
import pytest
from made_results import result_of

from srcgcnn.cli.main import main
from srcgcnn.data.demo import demo_source
from srcgcnn.data.sources.registry import open_source
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result

CRYSTALS = list(demo_source(8).rows())


def table(path, values, *, header="gap"):
    cifs = [row.content.to(fmt="cif") for row in CRYSTALS[: len(values)]]
    rows = [f'x{number},"{cif}",{value}' for number, (cif, value) in enumerate(zip(cifs, values, strict=True))]
    path.write_text("\n".join([f"id,cif,{header}", *rows]) + "\n")
    return path


@pytest.fixture
def plan(tmp_path, capsys):
    """Plan a sweep: returns exit status, and what was printed and complained of."""

    def run(source, *flags):
        folders = ["--out", str(tmp_path / "out"), "--stores", str(tmp_path / "stores")]
        status = main(["sweep", "--data", str(source), "--depths", "2", "--dry-run", *folders, *flags])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_table_of_fewer_rows_than_sets_is_refused_before_it_is_built(tmp_path, plan, rows):
    status, _, error = plan(table(tmp_path / "a.csv", [0.5, 1.5, 2.5][:rows]), "--target", "gap")
    assert status == 2
    assert f"a.csv: {rows} rows are too few" in error


def test_a_set_without_rows_is_refused(tmp_path, plan):
    store = tmp_path / "store"
    assert main(["data", "build", str(table(tmp_path / "a.csv", range(8))), "--out", str(store)]) == 0
    assert plan(store, "--target", "gap")[0] == 0
    status, _, error = plan(store, "--target", "gap", "--train-sizes", "8")
    assert status == 2
    assert "train_size=8: the training set of this split has " in error


def test_the_plan_counts_trials_and_the_rows_of_each_set(tmp_path, plan):
    store = tmp_path / "store"
    assert main(["data", "build", str(table(tmp_path / "a.csv", range(8))), "--out", str(store)]) == 0
    _, said, _ = plan(store, "--target", "gap", "--models", "cgcnn", "--seeds", "1", "--epochs", "1")
    assert "1 trial, 0 finished before, 1 to train in 1 group\n" in said
    assert "training: 1 epoch, batch " in said
    (sizes,) = re.findall(r"split random \((\d+)/(\d+)/(\d+) rows to train, validate and test\)", said)
    assert sum(map(int, sizes)) == 8
    _, said, _ = plan(store, "--target", "gap", "--depths", "1", "--seeds", "2", "--train-sizes", "2", "3")
    assert "4 trials (4 of 8 combinations repeat another one)" in said
    assert re.search(r"split random \(2/\d/\d, 3/\d/\d rows to", said)


def test_bad_rows_of_a_store_are_refused_when_asked(tmp_path, plan):
    store = tmp_path / "store"
    source = table(tmp_path / "a.csv", [0, 1, "oops", 3, 4, 5, 6, 7])
    assert main(["data", "build", str(source), "--target", "gap", "--out", str(store)]) == 0
    assert plan(store, "--target", "gap")[0] == 0
    status, _, error = plan(store, "--target", "gap", "--strict")
    assert status == 2
    assert "--strict: 1 bad rows" in error
    assert "rejected.csv" in error


@pytest.mark.parametrize("classes", [True, False])
def test_targets_that_are_classes_are_noticed(tmp_path, plan, classes):
    store, values = tmp_path / "store", np.array([0, 1, 1, 0, 1, 0, 0, 1]) if classes else np.linspace(0, 1, 8)
    main(["data", "build", str(table(tmp_path / "a.csv", values.tolist(), header="metal")), "--out", str(store)])
    assert ("--task classification" in plan(store)[1]) == classes
    assert "--task classification trains" not in plan(store, "--task", "classification")[1]


@pytest.mark.parametrize(
    ("header", "unit"), [("gap [eV]", "eV"), ("gap (eV)", "eV"), ("gap(meV/atom)", "meV/atom"), ("gap (PBE)", "")]
)
def test_a_unit_is_read_from_the_header_and_a_method_is_not(tmp_path, header, unit):
    path = table(tmp_path / "a.csv", [0.5, 1.5, 2.5, 3.5], header=header)
    source = open_source(str(path), ["gap"] if unit else [header])
    assert (source.targets, source.units) == ((header,), (unit,))


def test_several_targets_are_planned_as_one(tmp_path, plan):
    path = tmp_path / "a.csv"
    cifs = [row.content.to(fmt="cif") for row in CRYSTALS]
    path.write_text("id,cif,gap,metal\n" + "".join(f'x{k},"{cif}",{k},{k % 2}\n' for k, cif in enumerate(cifs)))
    store = tmp_path / "store"
    assert main(["data", "build", str(path), "--target", "gap", "--target", "metal", "--out", str(store)]) == 0
    status, said, error = plan(store, "--target", "gap", "metal")
    assert status == 0, error
    assert "--task classification" not in said


def test_results_are_called_those_of_other_data_only_if_that_is_known(tmp_path, plan, trial_of):
    source, store = table(tmp_path / "a.csv", range(8)), tmp_path / "store"
    write_result(RunPaths(tmp_path / "out"), result_of(trial_of(ModelConfig("cgcnn", 2))))
    assert "other data" not in plan(source, "--target", "gap")[1]  # a deleted store may have been the same
    assert main(["data", "build", str(source), "--out", str(store)]) == 0
    assert "1 results in" in plan(store)[1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--proposals", "2"], "--proposals without --search METHOD"),
        (["--search-seed", "1", "--objectives", "conv_params"], "--objectives, --search-seed without --search METHOD"),
        (["--grace-epochs", "3"], "--grace-epochs without --scheduler KIND"),
    ],
)
def test_flags_of_a_search_or_a_scheduler_that_was_not_requested_are_refused(plan, flags, words):
    """Whoever forgets `--search` would otherwise train all combinations."""
    status, _, complaint = plan("demo", *flags)
    assert status == 2
    assert words in complaint
