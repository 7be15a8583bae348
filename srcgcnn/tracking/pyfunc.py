"""A trained network as an MLflow model: CIF texts in, predictions out.

MLflow copies this file into every logged model ("models from code", so nothing is pickled) and runs the copy when the
model is loaded. The weights file carries everything else: configuration, target scale, element table, graph settings.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel, PythonModelContext, save_model
from mlflow.types import ColSpec, DataType, Schema

from srcgcnn.run.predictions import column_of
from srcgcnn.training.model_card import read_card

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.models.model import Model

    from srcgcnn.data.graph import CrystalGraph, GraphSettings
    from srcgcnn.training.model_card import ModelCard

WEIGHTS = "weights"
NACL_CIF = """data_NaCl
_symmetry_space_group_name_H-M 'P 1'
_cell_length_a 3.9893
_cell_length_b 3.9893
_cell_length_c 3.9893
_cell_angle_alpha 60
_cell_angle_beta 60
_cell_angle_gamma 60
loop_
_symmetry_equiv_pos_as_xyz
'x, y, z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 0.0 0.0 0.0
Cl1 Cl 0.5 0.5 0.5
"""


class CrystalModel(PythonModel):
    """Predict the target of crystals given as CIF text in the column `cif`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights once, when MLflow loads the model."""
        from srcgcnn.training.predictor import Predictor

        self.predictor = Predictor.load(context.artifacts[WEIGHTS])

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow's signature
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002 - MLflow's signature
    ) -> pd.DataFrame:
        """Return one row per crystal, with the index of the input.

        The columns are `prediction`, its `unit`, `warning`: in what the crystal lies outside of the training set, and
        `error`: why there is no prediction, "" if there is one. With several targets each has a prediction and a unit,
        such as `prediction_band_gap`.
        """
        predictor = self.predictor
        built = [graph_or_reason(text, predictor.card.graph) for text in model_input["cif"]]
        graphs = [graph for graph, _ in built if graph is not None]
        units = units_of(predictor.card)
        predicted = predictor.predict_graphs(graphs).reshape(len(graphs), len(units)) if graphs else np.empty((0, 0))
        columns: dict[str, Any] = {}
        for index, (name, unit) in enumerate(units.items()):
            own = iter(predicted[:, index] if graphs else ())
            predictions = [None if graph is None else next(own) for graph, _ in built]
            # None, not NaN, where there is none: MLflow's server would answer with NaN, which is not JSON
            kind = object if None in predictions else np.float64
            columns[column_of("prediction", name)] = np.array(predictions, dtype=kind)
            columns[column_of("unit", name)] = unit
        columns |= {
            "warning": ["" if graph is None else predictor.warning(graph) for graph, _ in built],
            "error": [reason for _, reason in built],
        }
        return pd.DataFrame(columns, index=model_input.index)


def units_of(card: ModelCard) -> dict[str | None, str]:
    """Return the unit of each of several predictions by the target's name; of a single one by None."""
    if card.model.task == "classification":
        return {None: "probability of class 1"}
    return {target.name: target.unit for target in card.targets} or {None: card.unit}


def signature_of(card: ModelCard) -> ModelSignature:
    """Return what goes into a model and what comes out."""
    predicted = [
        column
        for name in units_of(card)
        for column in (
            ColSpec(DataType.double, column_of("prediction", name), required=False),
            ColSpec(DataType.string, column_of("unit", name)),
        )
    ]
    messages = [ColSpec(DataType.string, name) for name in ("warning", "error")]
    return ModelSignature(inputs=Schema([ColSpec(DataType.string, "cif")]), outputs=Schema([*predicted, *messages]))


def graph_or_reason(text: Any, settings: GraphSettings) -> tuple[CrystalGraph | None, str]:
    """Return the graph of one CIF text, or None and the reason: no CIF, or a crystal that has no graph."""
    from srcgcnn.data.graph import build_graph
    from srcgcnn.data.parsing import parse_structure
    from srcgcnn.data.source import RowError, SourceRow

    if not isinstance(text, str) or not text.strip():
        return None, "no CIF: the text is empty"
    try:
        return build_graph(parse_structure(SourceRow("", "cif", text, {})), settings), ""
    except RowError as error:
        return None, str(error)


def save_crystal_model(weights: Path, folder: Path, mlflow_model: Model) -> None:
    """Write the MLflow form of one weights file into `folder`, which must not exist.

    The requirements are listed by hand, because MLflow would otherwise find them by running the model in a new process,
    once per trial. `srcgcnn` is not on PyPI: install it from its repository before the others.
    """
    save_model(
        path=str(folder),
        python_model=__file__,
        artifacts={WEIGHTS: str(weights)},
        signature=signature_of(read_card(weights)),
        input_example=pd.DataFrame({"cif": [NACL_CIF]}),
        pip_requirements=requirements(),
        mlflow_model=mlflow_model,
    )


def requirements() -> list[str]:
    """Return the pinned packages that a loaded model needs, as far as they are installed here."""
    pinned = []
    for name in ("srcgcnn", "mlflow", "numpy", "pymatgen", "torch", "torch-geometric", "safetensors"):
        try:
            pinned.append(f"{name}=={version(name).split('+')[0]}")  # torch 2.6.0+cu124 is 2.6.0 on PyPI
        except PackageNotFoundError:
            pinned.append(name)
    return pinned


set_model(CrystalModel())
