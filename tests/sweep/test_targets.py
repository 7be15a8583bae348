"""Naming targets: one or several, on the command line, in a definition, of a table and of a store."""

import csv
import json

import pytest
from pymatgen.core import Lattice, Structure

from srcgcnn.cli.main import main, make_parser
from srcgcnn.cli.sweep import default_folder, overrides_of
from srcgcnn.records import as_dict, parse
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.trial import MEAN_OF_RATIOS, DataRef, Target
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.prepare import QuietBuilder, find_data
from srcgcnn.sweep.spec import DataSpec, SweepSpec, read_spec


@pytest.fixture
def table(tmp_path):
    """Four crystals with three numbers each, of which some are missing."""
    path = tmp_path / "t.csv"
    cifs = [Structure(Lattice.cubic(4 + k / 9), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3]).to(fmt="cif") for k in range(4)]
    numbers = [("1", "2", ""), ("3", "", "5"), ("6", "7", "8"), ("", "9", "1")]
    with path.open("w", newline="") as stream:
        rows = [(f"r{k}", cif, *row) for k, (cif, row) in enumerate(zip(cifs, numbers, strict=True))]
        csv.writer(stream).writerows([("id", "cif", "e_form", "gap [eV]", "modulus"), *rows])
    return path


def spec_of(tmp_path, text, flags=()):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return read_spec(path, overrides_of(make_parser().parse_args(["sweep", *flags])))


@pytest.mark.parametrize(
    ("text", "flags", "targets"),
    [
        ("", [], ()),
        ("[data]\ntarget = 'a'\n", [], ("a",)),
        ("[data]\ntarget = ['a']\n", [], ("a",)),
        ("[data]\ntarget = ['a', 'b']\n", [], ("a", "b")),
        ("[data]\ntarget = ['a', 'b']\n", ["--target", "c"], ("c",)),
        ("", ["--target", "a", "b"], ("a", "b")),
        ("", ["--target", "a", "--target", "b"], ("a", "b")),
    ],
)
def test_one_target_or_several_are_named(tmp_path, text, flags, targets):
    spec = spec_of(tmp_path, text, flags)
    assert spec.data.targets == targets
    assert parse(SweepSpec, as_dict(spec), "again") == spec
    assert spec.data.target == (targets if len(targets) > 1 else next(iter(targets), None))


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"target=\['a', 'a'\] must be different names"):
        spec_of(tmp_path, "", ["--target", "a", "a"])
    with pytest.raises(ValueError, match=r"classification.*has one target, and target=\['a', 'b'\] names several"):
        spec_of(tmp_path, "[network]\ntask = 'classification'\n", ["--target", "a", "b"])
    assert main(["reproduce", "srcgcnn", "--target", "a", "b"]) != 0


def test_several_targets_have_a_folder_and_networks_of_their_own(tmp_path):
    options = make_parser().parse_args(["sweep", "--data", "t.csv", "--target", "e_form", "gap [eV]"])
    assert default_folder("depth", options.data, options.target).name == "depth-t-e_form-gap--eV-"
    spec = spec_of(tmp_path, "[axes]\nmodels = ['cgcnn']\ndepths = [1]\nseeds = 1\n", ["--target", "a", "b"])
    data = DataRef.of("d" * 16, "t", [Target("a", "eV"), Target("b", "")])
    (trial,) = plan_sweep(spec, data, RunPaths(tmp_path / "out")).trials
    assert trial.model.outputs == 2
    assert (trial.data.target, trial.data.unit) == ("a + b", MEAN_OF_RATIOS)
    assert trial.data.described == "a [eV] + b [no unit]"


def test_the_columns_of_a_table_become_the_targets_of_a_store(table, tmp_path):
    spec = DataSpec(str(table), target=("e_form", "gap"), unit="eV/atom, meV")
    planned = find_data(spec, tmp_path / "stores", None, strict=False)
    found = find_data(spec, tmp_path / "stores", QuietBuilder(), strict=False)
    expected = (("e_form", "eV/atom"), ("gap [eV]", "meV"))
    for each in (planned, found, find_data(spec, tmp_path / "stores", None, strict=False)):
        assert tuple((one.name, one.unit) for one in each.reference.targets) == expected
    assert found.manifest.crystals == 4
    with pytest.raises(ValueError, match=r"names a column of .* twice"):
        find_data(DataSpec(str(table), target=("gap", "gap [eV]")), tmp_path / "stores", None, strict=False)


def test_a_store_gives_the_targets_that_leave_no_crystal_without(table, tmp_path):
    everything = DataSpec(str(table), target=("e_form", "gap [eV]", "modulus"))
    store = str(find_data(everything, tmp_path / "stores", QuietBuilder(), strict=True).folder)
    two = find_data(DataSpec(store, target=("gap [eV]", "modulus")), tmp_path, None, strict=False).reference
    assert two.target == "gap [eV] + modulus"
    with pytest.raises(ValueError, match="1 of 4 crystals, such as r3, have no value of e_form"):
        find_data(DataSpec(store, target="e_form"), tmp_path, None, strict=False)
    alone = find_data(DataSpec(str(table), target="e_form"), tmp_path / "stores", QuietBuilder(), strict=False)
    assert (alone.manifest.crystals, alone.manifest.rejected) == (3, 1)


def test_targets_of_the_materials_project_are_planned_with_their_units(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    planned = find_data(DataSpec("mp", target=("formation_energy", "band_gap")), tmp_path, None, strict=False)
    assert planned.reference.described == "formation_energy [eV/atom] + band_gap [eV]"


def test_outputs_are_counted(capsys):
    counts = []
    for outputs in ("1", "3"):
        assert main(["params", "--models", "cgcnn", "--depths", "2", "--json", "--outputs", outputs]) == 0
        counts.append(json.loads(capsys.readouterr().out)[0])
    assert counts[1]["conv_params"] == counts[0]["conv_params"]
    assert counts[1]["total_params"] == counts[0]["total_params"] + 2 * (128 + 1)  # weights and bias of two more


def test_the_number_of_outputs_is_no_axis(tmp_path):
    with pytest.raises(ValueError, match=r"model\.outputs"):
        spec_of(tmp_path, "", ["--axis", "model.outputs", "1", "2"])
