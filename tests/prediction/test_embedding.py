"""The states of a trained network as features: what the readout reads, after any step, in the order of the crystals."""

import numpy as np
import pandas as pd
import pytest
import torch

from srcgcnn.cli.main import main
from srcgcnn.data.demo import demo_source
from srcgcnn.models.config import ModelConfig
from srcgcnn.prediction.embedding import Embedding
from srcgcnn.run.folder import open_run
from srcgcnn.training.predictor import Predictor

MODELS = [
    ModelConfig("srcgcnn", 2),
    ModelConfig("megnet", 1, hidden_channels=16),
    ModelConfig("schnet", 2, readout="set2set"),
]


@pytest.fixture(scope="module")
def structures():
    return [row.content for row in demo_source(7).rows()]


@pytest.fixture
def run(finished_sweep):
    return finished_sweep(MODELS[:1], seeds=2)


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.label)
def test_the_head_on_the_last_states_gives_the_prediction(config, finished_sweep, structures):
    run = finished_sweep([config])
    (result,) = open_run(run).results
    model = Predictor.load(run.model(result.key))
    table, failed = Embedding.load(run.out).of(structures)
    assert not len(failed)
    features = torch.from_numpy(table.filter(like="h_").to_numpy(copy=True))[None]
    with torch.no_grad():
        outputs = model.network.head(features, None)[0, :, 0].double().numpy()
    expected = model.predict_structures(structures)
    np.testing.assert_allclose(outputs * model.card.std + model.card.mean, expected, rtol=1e-5, atol=1e-5)


def test_pooled_atoms_are_the_crystal_and_come_in_the_order_of_its_sites(run, structures):
    for step in (0, 1, 2):
        embedding = Embedding.load(run.out, step=step)
        crystals, _ = embedding.of(structures)
        atoms, _ = embedding.of(structures, "atom")
        elements = [site.specie.symbol for structure in structures for site in structure]
        assert list(atoms["element"]) == elements
        assert list(atoms["atom"]) == [index for structure in structures for index in range(len(structure))]
        columns = [name for name in atoms if name.startswith("h_")]
        pooled = atoms.groupby("id", sort=False)[columns].mean()
        np.testing.assert_allclose(pooled.to_numpy(), crystals[columns].to_numpy(), rtol=1e-4, atol=1e-5)
    first, _ = Embedding.load(run.out, step=0).of(structures, "atom")
    columns = [name for name in first if name.startswith("h_")]
    assert (first.groupby("element")[columns].nunique() == 1).all(axis=None)  # before any message


def test_the_command_writes_a_table_of_the_best_seed_and_says_what_was_left_out(run, structures, tmp_path, capsys):
    folder = tmp_path / "cifs"
    folder.mkdir()
    for number, structure in enumerate(structures):
        structure.to(folder / f"c{number}.cif")
    (folder / "bad.cif").write_text("no crystal")
    out = tmp_path / "x.parquet"
    assert main(["embed", str(run.out), str(folder), "--step", "1", "--out", str(out)]) == 1
    said = capsys.readouterr().out
    best = min(open_run(run).results, key=lambda result: result.val_error)
    assert f"7 rows of 64 features, after step 1 of {best.config.label}" in said
    assert "left out: 1 of 1" in said
    table = pd.read_parquet(out)
    assert list(table["id"]) == [f"c{number}" for number in range(7)]
    assert table["h_0"].dtype == np.float32


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--step", "3"], "step=3: SR-CGCNN T=2 step-norm seed .* has the steps 0 .* to 2"),
        (["--step", "-1"], "step=-1"),
        (["--out", "x.xyz"], "unknown kind of file"),
        (["--variant", "none such"], "no variant 'none such'"),
    ],
)
def test_what_cannot_be_is_said(words, message, run, tmp_path, capsys):
    import re

    out = [] if "--out" in words else ["--out", str(tmp_path / "x.csv")]
    assert main(["embed", str(run.out), "nothing.cif", *out, *words]) == 2
    assert re.search(message, capsys.readouterr().err)
