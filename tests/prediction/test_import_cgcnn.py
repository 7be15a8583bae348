"""Checkpoints of the CGCNN codes: predictions against the original's equations, written out here once more.

Nothing of the package is used for the expected numbers: graph, features and network follow the papers and the released
codes. `benchmarks/imported_checkpoints.py` compares with those codes themselves.
"""

import json
import os
from importlib.resources import files

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from torch.nn.functional import layer_norm, softplus

from srcgcnn.cli.main import main
from srcgcnn.prediction.ensemble import Ensemble
from srcgcnn.prediction.import_cgcnn import import_checkpoint

ELEMENTS = json.loads((files("jarvis.core") / "atom_init.json").read_text())


def structures():
    """Ties at the twelfth neighbour (bcc, perovskite), a low symmetry, and atoms with fewer than 12 neighbours."""
    perovskite = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.9), ["O", "Ti", "Sr"], [[0.5, 0.5, 0], [0.5, 0.5, 0.5], [0, 0, 0]]
    )
    triclinic = Structure(
        Lattice.from_parameters(4.1, 5.3, 6.2, 81, 97, 103),
        ["Li", "Fe", "O", "S"],
        [[0.02, 0.1, 0.2], [0.5, 0.47, 0.3], [0.3, 0.8, 0.7], [0.8, 0.2, 0.9]],
    )
    molecule = Structure(Lattice.cubic(12), ["N", "N"], [[0, 0, 0], [0.09, 0, 0]])
    return [Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]]), perovskite, triclinic, molecule]


def original_graph(structure):
    """Element features [N, 92], neighbours [N, 12] and Gaussians [N, 12, 41], missing neighbours padded."""
    atoms = torch.tensor([ELEMENTS[str(site.specie.Z)] for site in structure], dtype=torch.float32)
    neighbours, distances = [], []
    for found in structure.get_all_neighbors(8.0, include_index=True):
        nearest = sorted(found, key=lambda neighbour: neighbour.nn_distance)[:12]
        missing = 12 - len(nearest)
        neighbours.append([neighbour.index for neighbour in nearest] + [0] * missing)
        distances.append([neighbour.nn_distance for neighbour in nearest] + [9.0] * missing)
    gaussians = np.exp(-((np.array(distances)[..., None] - np.arange(0, 8.2, 0.2)) ** 2) / 0.2**2)
    return atoms, torch.tensor(neighbours), torch.tensor(gaussians, dtype=torch.float32)


def linear(state, name, rows):
    return rows @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def batch_norm(state, name, rows):
    scale = state[f"{name}.weight"] / torch.sqrt(state[f"{name}.running_var"] + 1e-5)
    return (rows - state[f"{name}.running_mean"]) * scale + state[f"{name}.bias"]


def original_network(state, atoms, neighbours, gaussians):
    """Output of the original network in evaluation mode, for one crystal."""
    recurrent = "shared_conv.fc_full.weight" in state
    kind = "recurrent_bn1s" if recurrent else "convs"
    depth = len({name.split(".")[1] for name in state if name.startswith(kind)})
    states = linear(state, "embedding", atoms)
    for step in range(depth):
        kernel = "shared_conv.fc_full" if recurrent else f"convs.{step}.fc_full"
        norms = [f"recurrent_bn{n}s.{step}" if recurrent else f"convs.{step}.bn{n}" for n in (1, 2)]
        centre = states[:, None].expand(-1, 12, -1)
        gated = batch_norm(
            state, norms[0], linear(state, kernel, torch.cat([centre, states[neighbours], gaussians], 2))
        )
        gate, core = gated.chunk(2, dim=2)
        summed = (torch.sigmoid(gate) * softplus(core)).sum(dim=1)
        updated = softplus(states + batch_norm(state, norms[1], summed))
        if "recurrent_alpha" in state:
            alpha = torch.sigmoid(state["recurrent_alpha"][step])
            updated = (1 - alpha) * states + alpha * updated
        if "recurrent_norm.weight" in state:
            updated = layer_norm(
                updated, updated.shape[-1:], state["recurrent_norm.weight"], state["recurrent_norm.bias"]
            )
        states = updated
    rows = softplus(linear(state, "conv_to_fc", softplus(states.mean(dim=0))))
    for layer in range(sum(name.startswith("fcs") for name in state) // 2):
        rows = softplus(linear(state, f"fcs.{layer}", rows))
    return linear(state, "fc_out", rows)


def checkpoint_of(path, *, steps=3, recurrent=False, alpha=False, norm=False, layers=1, outputs=1, width=16, head=20):
    """Save random weights in the layout of the original codes, with what else they save."""
    generator = torch.Generator().manual_seed(steps + outputs + layers)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) / (shape[-1] ** 0.5)

    def dense(name, inputs, outs):
        state.update({f"{name}.weight": draw(outs, inputs), f"{name}.bias": draw(outs)})

    def normed(name, channels):
        state.update({f"{name}.weight": 1 + draw(channels), f"{name}.bias": draw(channels)})
        state.update({f"{name}.running_mean": draw(channels), f"{name}.running_var": 1 + draw(channels).abs()})
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    state = {}
    dense("embedding", 92, width)
    if recurrent:
        dense("shared_conv.fc_full", 2 * width + 41, 2 * width)
    for step in range(steps):
        if not recurrent:
            dense(f"convs.{step}.fc_full", 2 * width + 41, 2 * width)
        normed(f"recurrent_bn1s.{step}" if recurrent else f"convs.{step}.bn1", 2 * width)
        normed(f"recurrent_bn2s.{step}" if recurrent else f"convs.{step}.bn2", width)
    if norm:
        state |= {"recurrent_norm.weight": 1 + draw(width), "recurrent_norm.bias": draw(width)}
    if alpha:
        state["recurrent_alpha"] = torch.linspace(-1, 2, steps)
    dense("conv_to_fc", width, head)
    for layer in range(layers - 1):
        dense(f"fcs.{layer}", head, head)
    dense("fc_out", head, outputs)
    scale = {"mean": torch.tensor(-1.7), "std": torch.tensor(1.1)} if outputs == 1 else {"mean": 0.0, "std": 1.0}
    saved = {"epoch": 5, "state_dict": state, "best_mae_error": np.float64(0.04), "normalizer": scale, "optimizer": {}}
    torch.save({**saved, "args": {"task": "regression", "data_options": ["folder"]}}, path)
    return state, scale


LAYOUTS = {
    "cgcnn": {},
    "cgcnn, three hidden layers": {"steps": 4, "layers": 3},
    "classification": {"outputs": 2, "layers": 2},
    "recurrent": {"recurrent": True, "steps": 3},
    "recurrent, learned alpha, LayerNorm": {"recurrent": True, "steps": 5, "alpha": True, "norm": True},
    "deep recurrent": {"recurrent": True, "steps": 12, "norm": True},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_an_imported_checkpoint_predicts_what_the_original_predicts(layout, tmp_path):
    state, scale = checkpoint_of(tmp_path / "model_best.pth.tar", **layout)
    import_checkpoint(tmp_path / "model_best.pth.tar", tmp_path / "model.safetensors")
    files = [tmp_path / f"{number}.cif" for number in range(len(structures()))]
    for file, structure in zip(files, structures(), strict=True):
        file.write_text(str(CifWriter(structure, significant_figures=10)))
    table = Ensemble.load(tmp_path / "model.safetensors").predict(files)
    graphs = [original_graph(Structure.from_file(file)) for file in files]  # its reader sorts the atoms
    outputs = torch.stack([original_network(state, *graph) for graph in graphs])
    if layout.get("outputs") == 2:
        expected = torch.softmax(outputs, dim=1)[:, 1]
    else:
        expected = outputs[:, 0] * scale["std"] + scale["mean"]
    assert len(set(np.round(expected.numpy(), 3))) == 4  # the crystals are told apart
    np.testing.assert_allclose(table["prediction"], expected.numpy(), atol=1e-5, rtol=2e-6)


def test_the_command_names_what_was_found(tmp_path, capsys):
    checkpoint_of(tmp_path / "band-gap.pth.tar", recurrent=True, alpha=True)
    out = tmp_path / "gap.safetensors"
    assert main(["import-cgcnn", str(tmp_path / "band-gap.pth.tar"), "--out", str(out)]) == 0
    assert (
        "SR-CGCNN T=3 step-norm alpha=learned width=16, band_gap [eV], mean -1.7, deviation 1.1"
        in capsys.readouterr().out
    )
    card = Ensemble.load(out).card
    assert (card.target, card.unit, card.exact_padding) == ("band_gap", "eV", True)
    assert card.origin.startswith("band-gap.pth.tar (sha256 ")


def test_a_model_file_is_not_named_as_one_of_pytorch(tmp_path, capsys):
    checkpoint_of(tmp_path / "model.pth.tar")
    assert main(["import-cgcnn", str(tmp_path / "model.pth.tar"), "--out", str(tmp_path / "fe.pt")]) == 2
    assert "fe.pt: model files are in the format safetensors: call it fe.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "fe.pt").exists()


class RunsCode:
    """What a malicious checkpoint holds: a call that is made while it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_an_empty_file_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "model.pth.tar").touch()
    assert main(["import-cgcnn", str(tmp_path / "model.pth.tar"), "--out", str(tmp_path / "out.safetensors")]) == 2
    assert "not a PyTorch checkpoint" in capsys.readouterr().err


def test_a_checkpoint_that_would_run_code_is_refused_before_it_does(tmp_path, capsys):
    checkpoint_of(tmp_path / "good.pth.tar")
    saved = torch.load(tmp_path / "good.pth.tar", weights_only=False)
    torch.save({**saved, "best_mae_error": RunsCode(tmp_path / "ran")}, tmp_path / "bad.pth.tar")
    assert main(["import-cgcnn", str(tmp_path / "bad.pth.tar"), "--out", str(tmp_path / "bad.safetensors")]) == 2
    message = capsys.readouterr().err
    assert "refused, loading it could run code" in message
    assert "mkdir" in message
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "bad.safetensors").exists()


def test_what_is_no_such_checkpoint_is_said(tmp_path):
    checkpoint, out = tmp_path / "x.pth.tar", tmp_path / "x.safetensors"
    checkpoint.write_bytes(b"not a checkpoint at all")
    with pytest.raises(ValueError, match=r"x\.pth\.tar"):
        import_checkpoint(checkpoint, out)
    torch.save({"weights": torch.zeros(3)}, checkpoint)
    with pytest.raises(ValueError, match="no normalizer and no state_dict"):
        import_checkpoint(checkpoint, out)
    checkpoint_of(checkpoint)
    saved = torch.load(checkpoint, weights_only=False)
    state = saved["state_dict"]
    torch.save({**saved, "state_dict": {**state, "embedding.weight": torch.zeros(16, 100)}}, checkpoint)
    with pytest.raises(ValueError, match="100 element features"):
        import_checkpoint(checkpoint, out)
    kernels = {name: value[:, :-10] for name, value in state.items() if name.endswith("fc_full.weight")}
    torch.save({**saved, "state_dict": {**state, **kernels}}, checkpoint)
    with pytest.raises(ValueError, match="31 Gaussians"):
        import_checkpoint(checkpoint, out)
    del state["convs.1.bn2.weight"]
    torch.save(saved, checkpoint)
    with pytest.raises(ValueError, match=r"norms\.1\.atoms\.weight"):
        import_checkpoint(checkpoint, out)
    assert not out.exists()


@pytest.mark.parametrize("missing", ["embedding.weight", "fc_out.weight", "mean"])
def test_a_checkpoint_that_lacks_a_part_is_refused_in_one_line(missing, tmp_path, capsys):
    path = tmp_path / "model.pth.tar"
    checkpoint_of(path)
    saved = torch.load(path, weights_only=False)
    for part in (saved["state_dict"], saved["normalizer"]):
        part.pop(missing, None)
    torch.save(saved, path)
    assert main(["import-cgcnn", str(path), "--out", str(tmp_path / "m.safetensors")]) == 2
    assert f"no '{missing}' in it" in capsys.readouterr().err
