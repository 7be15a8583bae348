"""Compare imported checkpoints with the code they come from, on real structures, in one process.

The original's own loader, network and normaliser predict from CIF files (a checkout of github txie-93/cgcnn or
sata-deep/SR-CGCNN); `srcgcnn import-cgcnn` and `Ensemble.predict` do the same. Printed as a Markdown table.

    python benchmarks/imported_checkpoints.py cgcnn mp.csv.gz cgcnn/pre-trained/*.pth.tar --rows 200
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
import warnings
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from srcgcnn.prediction.ensemble import Ensemble
from srcgcnn.prediction.import_cgcnn import _load as load_checkpoint
from srcgcnn.prediction.import_cgcnn import import_checkpoint

RECURRENT = ("conv_mode", "n_recurrent_steps", "recurrent_layer_norm", "recurrent_learnable_alpha")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("code", type=Path, help="checkout of the original code")
    parser.add_argument("table", type=Path, help="csv with columns material_id and cif")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--atom-init", type=Path, help="atom_init.json of the original (default: in the checkout)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(options.code))
    atom_init = options.atom_init or next(options.code.rglob("atom_init.json"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(folder, pd.read_csv(options.table, nrows=options.rows), atom_init)
        items = original_items(folder)
        print("| checkpoint | task | crystals | range of predictions | largest difference |\n|---|---|---|---|---|")
        for checkpoint in options.checkpoints:
            compare(checkpoint, items, folder)


def write_folder(folder: Path, table: pd.DataFrame, atom_init: Path) -> None:
    shutil.copy(atom_init, folder / "atom_init.json")
    (folder / "id_prop.csv").write_text("".join(f"{row_id},0\n" for row_id in table["material_id"]))
    for row_id, cif in zip(table["material_id"], table["cif"], strict=True):
        (folder / f"{row_id}.cif").write_text(cif)


def original_items(folder: Path) -> list[tuple]:
    dataset = importlib.import_module("cgcnn.data").CIFData(str(folder))
    return [dataset[row] for row in range(len(dataset))]


def original_predictions(checkpoint: Path, items: list[tuple]) -> tuple[dict[str, float], str]:
    """Predict as the original's predict.py does: model from the saved arguments, normaliser, evaluation mode."""
    saved = load_checkpoint(checkpoint)
    arguments = Namespace(**saved["args"])
    recurrent = {name: getattr(arguments, name) for name in RECURRENT if hasattr(arguments, name)}
    network = importlib.import_module("cgcnn.model").CrystalGraphConvNet(
        92,
        41,
        atom_fea_len=arguments.atom_fea_len,
        n_conv=arguments.n_conv,
        h_fea_len=arguments.h_fea_len,
        n_h=arguments.n_h,
        classification=arguments.task == "classification",
        **recurrent,
    )
    network.load_state_dict(saved["state_dict"])
    network.eval()
    collate = importlib.import_module("cgcnn.data").collate_pool
    found = {}
    with torch.no_grad():
        for start in range(0, len(items), 64):
            inputs, _, ids = collate(items[start : start + 64])
            outputs = network(*inputs)
            if arguments.task == "classification":
                values = outputs.exp()[:, 1]
            else:
                values = outputs[:, 0] * saved["normalizer"]["std"] + saved["normalizer"]["mean"]
            found.update(zip(ids, values.tolist(), strict=True))
    return found, arguments.task


def compare(checkpoint: Path, items: list[tuple], folder: Path) -> None:
    expected, task = original_predictions(checkpoint, items)
    model = folder / "model.safetensors"
    import_checkpoint(checkpoint, model)
    table = Ensemble.load(model).predict([folder]).set_index("id")
    original = np.array(list(expected.values()))
    difference = np.abs(table.loc[list(expected), "prediction"].to_numpy() - original)
    extent = f"{original.min():.3f} .. {original.max():.3f}"
    print(f"| {checkpoint.name} | {task} | {len(original)} | {extent} | {difference.max():.1e} |", flush=True)


if __name__ == "__main__":
    main()
