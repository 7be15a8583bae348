"""The paper's own numbers (arXiv:2605.01304, tables of formation energy and band gap): one run per model.

10,000 Materials Project structures each, 60/20/20, 300 epochs. Their identifiers are not published, so only trends and
ratios compare with other data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from srcgcnn.run.trial import DataRef

SOURCE = "arXiv:2605.01304, one run per model, 10,000 structures, 60/20/20, 300 epochs"


@dataclass(frozen=True)
class PaperRow:
    """MAE of one model: formation energy in eV/atom, band gap in eV."""

    model: str
    conv_parameters: int
    energy_val: float
    energy_test: float
    gap_val: float
    gap_test: float


PAPER = {
    "CGCNN-1": PaperRow("CGCNN-1", 22_144, 0.1335, 0.1208, 0.4895, 0.5065),
    "CGCNN-3": PaperRow("CGCNN-3", 66_432, 0.1016, 0.0945, 0.4335, 0.4346),
    "SR-CGCNN T=3 step-norm": PaperRow("SR-CGCNN-3", 22_912, 0.1055, 0.0986, 0.4373, 0.4503),
    "SR-CGCNN T=5 step-norm": PaperRow("SR-CGCNN-5", 23_680, 0.1120, 0.1031, 0.4444, 0.4635),
}


def paper_test_mae(variant: str, data: DataRef) -> float | None:
    """Return the paper's test MAE of this variant, if model, quantity and unit are the paper's."""
    row, target = PAPER.get(variant), data.target.lower()
    if row is None:
        return None
    if data.unit == "eV/atom" and ("formation" in target or "e_form" in target):
        return row.energy_test
    return row.gap_test if data.unit == "eV" and "gap" in target else None
