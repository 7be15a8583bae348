"""The columns of `OUT/predictions/<key>.parquet`: those of one target, or of each of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from srcgcnn.run.trial import DataRef

TARGET, PREDICTION = "target", "prediction"


def column_of(kind: str, name: str | None) -> str:
    """Return the column of one of several targets, such as `prediction_band_gap`; of the only one (None) `kind`."""
    return kind if name is None else f"{kind}_{name}"


def names_of(data: DataRef) -> tuple[str | None, ...]:
    """Return the targets that columns are named by; (None,) for a single one."""
    return tuple(target.name for target in data.targets) or (None,)


def target_columns(data: DataRef) -> dict[str, str]:
    """Return the columns of true values, with the name of the target that each holds."""
    return {column_of(TARGET, name): name or data.target for name in names_of(data)}


def has_predictions(columns: Iterable[str]) -> bool:
    """Whether these are the columns of such a table."""
    columns = set(columns)
    of_several = {name.removeprefix(f"{TARGET}_") for name in columns if name.startswith(f"{TARGET}_")}
    whole = all(column_of(PREDICTION, name) in columns for name in of_several)
    return "id" in columns and ({TARGET, PREDICTION} <= columns or (bool(of_several) and whole))


def of_target(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return one of several targets as the table of a network for it: the crystals that have it."""
    columns = {column_of(kind, name): kind for kind in (TARGET, PREDICTION)}
    found = table[[*(each for each in ("id", "formula") if each in table), *columns, "set"]].rename(columns=columns)
    return found[found[TARGET].notna()]
