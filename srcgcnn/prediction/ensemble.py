"""One model, or the seeds of one variant, as one predictor with an interval and a warning per crystal.

ensemble = Ensemble.load("runs/depth")              # or a .safetensors file
table = ensemble.predict(["crystal.cif", "more.csv.gz"])
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from srcgcnn.data.graph import build_graph
from srcgcnn.data.source import RowError
from srcgcnn.prediction.calibration import COVERAGE, Calibration, calibrate, spread_of
from srcgcnn.prediction.choice import choose
from srcgcnn.prediction.crystals import read_crystals
from srcgcnn.prediction.seen import SeenCrystals, open_training_store, split_of
from srcgcnn.prediction.validation import validation_of
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.predictions import column_of, names_of
from srcgcnn.training.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from srcgcnn.data.graph import CrystalGraph, GraphSettings
    from srcgcnn.prediction.choice import Choice
    from srcgcnn.prediction.crystals import Crystals, NamedCrystal
    from srcgcnn.training.model_file import ModelCard

CRYSTALS_PER_BLOCK = 1024  # parsed structures in memory at a time
LOWER, UPPER = f"lower_{COVERAGE:.0%}".rstrip("%"), f"upper_{COVERAGE:.0%}".rstrip("%")


@dataclass(frozen=True)
class Ensemble:
    """Models of one variant, trained on the same crystals with different seeds; often a single one.

    Attributes:
        members: the models.
        calibrations: of every target, how the spread becomes an interval; None if no validation predictions are at
            hand.
        description: which models these are and why.
        seen: the crystals that they were trained and validated on; None if these are not available.
    """

    members: tuple[Predictor, ...]
    calibrations: tuple[Calibration | None, ...]
    description: str
    seen: SeenCrystals | None = None

    @classmethod
    def load(cls, run_or_model: str | Path, variant: str | None = None) -> Ensemble:
        """Read a model file, or a variant of a sweep.

        Args:
            run_or_model: a `.safetensors` file, or the folder of a sweep.
            variant: label of a variant or of a trial, or a trial's key; default: lowest mean validation error.

        Raises:
            ValueError: not a model file, or the sweep has no such variant.
            OSError: not there.
        """
        path = Path(run_or_model).expanduser()
        if path.is_dir():
            return cls._of_run(RunPaths(path), variant)
        if variant is not None:
            raise ValueError(f"variant {variant!r}: {path} is one model; only the folder of a sweep has variants")
        member = Predictor.load(path)
        unknown = (None,) * len(member.card.each)
        return cls((member,), unknown, f"{member.card.model.label} from {member.card.origin or path.name}")

    @classmethod
    def _of_run(cls, paths: RunPaths, variant: str | None) -> Ensemble:
        choice = choose(paths, variant)
        members = tuple(Predictor.load(paths.model(member.key)) for member in choice.members)
        names = names_of(choice.members[0].config.data)
        found = [None if members[0].classify else validation_of(paths, choice, name) for name in names]
        calibrations = tuple(None if validation is None else calibrate(*validation) for validation in found)
        unit = "error rate" if members[0].classify else members[0].card.unit
        error = f"validation error {choice.validation_error:.4g} {unit}".rstrip()
        return cls(members, calibrations, f"{choice.label} ({choice.reason}; {error})", _seen_by(paths, choice))

    @property
    def card(self) -> ModelCard:
        """What the members share: target, unit, graph settings, training domain."""
        return self.members[0].card

    @property
    def calibration(self) -> Calibration | None:
        """How the spread becomes an interval, of the only target or the first."""
        return self.calibrations[0]

    def predict_graphs(self, graphs: Sequence[CrystalGraph]) -> np.ndarray:
        """Predict with every member: float64 [members, crystals], of several targets [members, crystals, targets]."""
        return np.stack([member.predict_graphs(graphs) for member in self.members])

    def predict(self, crystals: Crystals | Iterable[Crystals]) -> pd.DataFrame:
        """Predict for crystals; one, or several.

        Args:
            crystals: CIF files, folders of them, tables (`--data` of a sweep), pymatgen structures, ASE atoms, or data
                frames with a column `structure`, `atoms` or `cif`; a crystal in a frame is named by its id or index.

        Returns:
            One row per crystal, in order: id, file, formula, prediction, spread (of several seeds), lower and upper
            end of the 90 % interval (if calibrated), unit, seen (in the training or validation set, with the id
            there; if these are available), warning (outside of the training domain) and error (why there is no
            prediction). With several targets each has its columns from prediction to unit, such as prediction_band_gap.
        """
        blocks = [self._block(block) for block in in_blocks(read_crystals(crystals))]
        return pd.concat(blocks, ignore_index=True) if blocks else self._block([])

    def _block(self, crystals: Sequence[NamedCrystal]) -> pd.DataFrame:
        built = [graph_of(crystal, self.card.graph) for crystal in crystals]
        known = [row for row, (graph, _) in enumerate(built) if graph is not None]
        graphs = [graph for graph, _ in built if graph is not None]
        predictions = np.full((len(self.members), len(crystals), len(self.card.each)), np.nan)
        if graphs:
            predictions[:, known] = self.predict_graphs(graphs).reshape(len(self.members), len(graphs), -1)
        columns = {
            "id": [crystal.row_id for crystal in crystals],
            "file": [crystal.file for crystal in crystals],
            "formula": [crystal.formula for crystal in crystals],
            **self._estimates(predictions),
            **self._seen([graph for graph, _ in built]),
            "warning": [self.warning(graph) if graph else "" for graph, _ in built],
            "error": [error for _, error in built],
        }
        return pd.DataFrame(columns)

    def _estimates(self, predictions: np.ndarray) -> dict[str, Any]:
        """Return the columns of all targets from predictions [members, crystals, targets]."""
        columns: dict[str, Any] = {}
        for index, (target, calibration) in enumerate(zip(self.card.each, self.calibrations, strict=True)):
            own = self._estimate(predictions[..., index], calibration)
            own["unit"] = target.unit if self.card.targets else self.members[0].unit
            name = target.name if self.card.targets else None
            columns |= {column_of(kind, name): values for kind, values in own.items()}
        return columns

    def _estimate(self, predictions: np.ndarray, calibration: Calibration | None) -> dict[str, Any]:
        mean, spread = predictions.mean(axis=0), spread_of(predictions)
        columns: dict[str, Any] = {"prediction": mean}
        if len(self.members) > 1:
            columns["spread"] = spread
        if calibration is not None:
            half_width = calibration.half_width(spread)
            columns |= {LOWER: mean - half_width, UPPER: mean + half_width}
        return columns

    def _seen(self, graphs: Sequence[CrystalGraph | None]) -> dict[str, list[str]]:
        if self.seen is None:
            return {}
        return {"seen": [self.seen.find(graph) if graph else "" for graph in graphs]}

    def warning(self, graph: CrystalGraph) -> str:
        """Say in what a crystal lies outside of the training domain; "" if in nothing, or if the domain is unknown."""
        return self.members[0].warning(graph)


def _seen_by(paths: RunPaths, choice: Choice) -> SeenCrystals | None:
    config = choice.members[0].config  # one data set and one split for all
    store = open_training_store(paths, config)
    return None if store is None else SeenCrystals(store, split_of(store, config))


def graph_of(crystal: NamedCrystal, settings: GraphSettings) -> tuple[CrystalGraph | None, str]:
    """Return the graph of a crystal, or the reason why there is none."""
    if crystal.structure is None:
        return None, crystal.error
    try:
        return build_graph(crystal.structure, settings), ""
    except RowError as error:
        return None, str(error)


def in_blocks(crystals: Iterator[NamedCrystal]) -> Iterator[list[NamedCrystal]]:
    """Yield crystals so many at a time that their structures fit into memory."""
    while block := list(islice(crystals, CRYSTALS_PER_BLOCK)):
        yield block
