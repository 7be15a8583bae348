"""What a trained network has learned, as features: its states after a step, of atoms or pooled to crystals."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import pandas as pd
import torch

from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.models.readout import pooled
from srcgcnn.prediction.choice import choose
from srcgcnn.prediction.crystals import read_crystals
from srcgcnn.prediction.ensemble import graph_of, in_blocks
from srcgcnn.run.paths import RunPaths
from srcgcnn.training.predictor import CRYSTALS_PER_BATCH, Predictor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from srcgcnn.data.graph import CrystalGraph
    from srcgcnn.prediction.crystals import Crystals, NamedCrystal

Level = Literal["crystal", "atom"]
FEATURE = "h_"


@dataclass(frozen=True)
class Embedding:
    """One trained network, read after one of its steps.

    Attributes:
        model: the network with its card.
        step: 0 (the embedding of the elements) to T.
        description: which network it is.
    """

    model: Predictor
    step: int
    description: str

    @classmethod
    def load(cls, run_or_model: str | Path, variant: str | None = None, *, step: int | None = None) -> Embedding:
        """Read a model file, or the best seed of a variant of a sweep.

        Args:
            run_or_model: a `.safetensors` file, or the folder of a sweep.
            variant: as of `Ensemble.load`.
            step: 0 .. T; by default T.

        Raises:
            ValueError: there is no such model, variant or step, or the steps of the network are unknown.
        """
        path = Path(run_or_model).expanduser()
        if path.is_dir():
            result = choose(RunPaths(path), variant).best_member()
            model, name = Predictor.load(RunPaths(path).model(result.key)), result.config.label
        elif variant is not None:
            raise ValueError(f"variant {variant!r}: {path} is one model; only the folder of a sweep has variants")
        else:
            model = Predictor.load(path)
            name = f"{model.card.model.label} from {path.name}"
        depth = model.card.model.depth
        if not isinstance(model.network, CrystalGraphNetwork):
            raise ValueError(f"{name}: a network of one's own has no steps that are known here, so no states")
        step = depth if step is None else step
        if not 0 <= step <= depth:
            raise ValueError(f"step={step}: {name} has the steps 0 (elements only) to {depth}")
        return cls(model, step, name)

    def of(
        self, crystals: Crystals | Iterable[Crystals], level: Level = "crystal"
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the states of crystals, and the crystals that have none.

        Args:
            crystals: as of `Ensemble.predict`.
            level: `crystal`: what the first layer of the readout gets, one row per crystal; `atom`: one row per atom.

        Returns:
            Columns id, file, formula, for atoms atom (0, 1 .. in the order of the crystal's sites) and element, and
            `h_0` .. as float32; and a table of id, file and error.

        Raises:
            ValueError: no crystal has a graph.
        """
        tables, failed = [], []
        for block in in_blocks(read_crystals(crystals)):
            built = [(crystal, *graph_of(crystal, self.model.card.graph)) for crystal in block]
            failed += [(crystal.row_id, crystal.file, error) for crystal, graph, error in built if graph is None]
            known = [(crystal, graph) for crystal, graph, _ in built if graph is not None]
            if known:
                tables.append(self._table(known, level))
        faults = pd.DataFrame(failed, columns=["id", "file", "error"])
        if not tables:
            reason = f": {faults['error'].iloc[0]}" if len(faults) else ""
            raise ValueError(f"no crystal has a graph{reason}")
        return pd.concat(tables, ignore_index=True), faults

    @staticmethod
    def width(table: pd.DataFrame) -> int:
        """Return how many features a table has."""
        return sum(str(column).startswith(FEATURE) for column in table.columns)

    def _table(self, known: Sequence[tuple[NamedCrystal, CrystalGraph]], level: Level) -> pd.DataFrame:
        states = self.states([graph for _, graph in known], level)
        counts = [len(graph.atomic_numbers) if level == "atom" else 1 for _, graph in known]
        columns: dict[str, object] = {
            name: np.repeat([getattr(crystal, attribute) for crystal, _ in known], counts)
            for name, attribute in (("id", "row_id"), ("file", "file"), ("formula", "formula"))
        }
        if level == "atom":
            from pymatgen.core import Element

            numbers = np.concatenate([graph.atomic_numbers for _, graph in known])
            columns["atom"] = np.concatenate([np.arange(count) for count in counts])
            columns["element"] = [Element.from_Z(int(number)).symbol for number in numbers]
        features = pd.DataFrame(states, columns=[f"{FEATURE}{index}" for index in range(states.shape[1])])
        return pd.concat([pd.DataFrame(columns), features], axis=1)

    def states(self, graphs: Sequence[CrystalGraph], level: Level = "crystal") -> np.ndarray:
        """Return states of graphs: float32 [crystals, C] or [atoms, F]."""
        network, crystals = cast("CrystalGraphNetwork", self.model.network), self.model.graph_set(graphs)
        found = []
        with torch.no_grad():
            for rows in torch.arange(len(graphs))[None].split(CRYSTALS_PER_BATCH, dim=1):
                batch = crystals.batch(rows)
                first = network.initial_state(batch)
                state = [first, *islice(network.steps(first, batch), self.step)][-1]
                if level == "atom":
                    found.append(state.atoms[0, : batch.real_atoms(0)])
                else:
                    config = network.config
                    found.append(pooled(config.readout, network.pool, state, config.block.reads, batch)[0])
        return torch.cat(found).float().numpy()
