"""Time predictions on one thread: structures per second once graphs are built, and from CIF texts.

python benchmarks/prediction.py MODEL.safetensors mp.csv.gz --rows 1000
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from statistics import median

import pandas as pd
import torch

from srcgcnn.data.graph import build_graph
from srcgcnn.data.parsing import parse_structure
from srcgcnn.data.source import SourceRow
from srcgcnn.training.allocator import keep_freed_memory
from srcgcnn.training.predictor import Predictor

REPEATS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="model files, then a csv with a column cif")
    parser.add_argument("table", type=Path)
    parser.add_argument("--rows", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.simplefilter("ignore")
    texts = pd.read_csv(options.table, nrows=options.rows)["cif"]
    predictors = [Predictor.load(path) for path in options.models]
    settings = predictors[0].card.graph
    started = time.process_time()
    structures = [parse_structure(SourceRow(str(row), "cif", text, {})) for row, text in enumerate(texts)]
    parsed = time.process_time()
    graphs = [build_graph(structure, settings) for structure in structures]
    built = time.process_time()
    atoms = sum(len(graph.atomic_numbers) for graph in graphs) / len(graphs)
    print(f"{len(graphs)} structures, {atoms:.1f} atoms on average; processor time, one thread")
    print("| step | structures/s per core |\n|---|---|")
    print(f"| CIF text to structure (pymatgen) | {len(graphs) / (parsed - started):,.0f} |")
    print(f"| structure to graph | {len(graphs) / (built - parsed):,.0f} |")
    for predictor in predictors:
        seconds = []
        for _ in range(REPEATS):
            before = time.process_time()
            predictor.predict_graphs(graphs)
            seconds.append(time.process_time() - before)
        print(f"| graph to prediction, {predictor.card.model.label} | {len(graphs) / median(seconds):,.0f} |")


if __name__ == "__main__":
    main()
