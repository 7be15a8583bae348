"""Error by chemistry: elements, number of elements, crystal systems, largest errors."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from srcgcnn.analysis.intervals import over_repeats
from srcgcnn.analysis.style import DOUBLE_INCHES, SINGLE_INCHES, Drawing, new_figure
from srcgcnn.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from pymatgen.core import Structure

    from srcgcnn.analysis.study import Study

FEWEST = 5  # crystals of an element, below which its mean is not coloured
LARGEST = 20
MOST_STRUCTURES = 3000  # parsed for their symmetry: a CIF takes some 10 ms
SYMMETRY_PRECISION = 0.1  # angstrom, as the Materials Project uses
CRYSTAL_SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")
MP_PAGE = "https://next-gen.materialsproject.org/materials/"
SYSTEMS_FILE = "crystal_systems"  # beginning of its name
MP_ID = re.compile(r"mp-\d+")


def crystal_table(study: Study, variant: str) -> pd.DataFrame:
    """One row per test crystal: id, formula, target, mean prediction and mean error over the variant's trials."""
    tables = [
        table.set_index("id").assign(error=study.crystal_errors(result.key), trials=1).reset_index()
        for result in study.members[variant]
        if (table := study.predictions(result.key)) is not None
    ]
    if not tables:
        return pd.DataFrame()
    grouped = pd.concat(tables).groupby("id", sort=False)
    return grouped.agg(
        formula=("formula", "first"),
        target=("target", "first"),
        prediction=("prediction", "mean"),
        error=("error", "mean"),
        trials=("trials", "sum"),
    ).reset_index()


def by_element(crystals: pd.DataFrame) -> pd.DataFrame:
    """Mean error over the crystals that contain an element, and their number."""
    pairs = crystals.assign(element=[elements_of(formula) for formula in crystals["formula"]]).explode("element")
    table = pairs.groupby("element")["error"].agg(crystals="size", error="mean")
    return table.reset_index()


def elements_of(formula: str) -> list[str]:
    """Return the elements of a formula, each once."""
    return sorted(set(re.findall(r"[A-Z][a-z]?", formula)))


def draw_elements(study: Study, crystals: pd.DataFrame, variant: str) -> Drawing:
    """Periodic table of the mean error."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle
    from pymatgen.core import Element

    table = by_element(crystals).set_index("element")
    figure = new_figure(DOUBLE_INCHES, 3.9)
    axes = figure.add_subplot()
    enough = table[table["crystals"] >= FEWEST]
    shown = enough if len(enough) else table
    scale = Normalize(float(shown["error"].min()), float(shown["error"].quantile(0.97)) + 1e-12)
    colours = colormaps["cividis_r"]
    for element in Element:
        if element.Z > 103 or element.symbol in ("D", "T"):
            continue
        x, y = _place(element.Z, element.group, element.row)
        colour, text, ink = "#f3f3f3", "", "#8a8a8a"
        if element.symbol in table.index:
            row = table.loc[element.symbol]
            text, ink = f"{row['error']:.2f}", "black"
            if row["crystals"] >= FEWEST:
                colour = colours(scale(row["error"]))
                ink = "white" if np.dot(colour[:3], (0.299, 0.587, 0.114)) < 0.5 else "black"
        axes.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, facecolor=colour, linewidth=0))
        axes.text(x, y - 0.12, element.symbol, ha="center", va="center", color=ink, fontsize=7.5)
        axes.text(x, y + 0.28, text, ha="center", va="center", color=ink, fontsize=4.8)
    axes.set(xlim=(0.4, 18.6), ylim=(10, 0.4))  # upside down: period 1 on top
    axes.set_aspect("equal")
    axes.axis("off")
    figure.colorbar(
        ScalarMappable(scale, colours),
        ax=axes,
        label=f"test {study.quantity}",
        shrink=0.55,
        aspect=25,
        extend="max",
        orientation="horizontal",
        pad=0.0,
    )
    caption = (
        f"Mean test error of {variant} over the crystals that contain an element (all seeds). Not coloured: fewer than "
        f"{FEWEST} test crystals. A crystal counts for each of its elements, so neighbours in a compound share errors."
    )
    return Drawing("elements", caption, figure, table.reset_index())


def _place(number: int, group: int, row: int) -> tuple[float, float]:
    """Column and row of an element; the f block stands below the table."""
    if 57 <= number <= 71 or 89 <= number <= 103:
        first = 57 if number < 80 else 89
        return 3.0 + number - first, row + 2.4
    return float(group), float(row)


def draw_groups(study: Study, crystals: pd.DataFrame, variant: str) -> Drawing:
    """Error by number of elements and, if known, by crystal system: means with 95 % intervals over crystals."""
    parts = {"number of elements": [str(len(elements_of(formula))) for formula in crystals["formula"]]}
    if "crystal_system" in crystals:
        parts["crystal system"] = list(crystals["crystal_system"])
    figure = new_figure(SINGLE_INCHES * (2 if len(parts) > 1 else 1), 2.6)
    rows = []
    for number, (title, labels) in enumerate(parts.items()):
        axes = figure.add_subplot(1, len(parts), number + 1)
        table = _group_means(crystals.assign(group=labels), title)
        rows.append(table)
        table = table[table["crystals"] >= FEWEST] if (table["crystals"] >= FEWEST).any() else table
        axes.errorbar(range(len(table)), table["error"], table["half_width"], fmt="o", color="#0072B2", capsize=2)
        names = [f"{name}\n({count})" for name, count in zip(table["group"], table["crystals"], strict=True)]
        axes.set_xticks(range(len(table)), names, rotation=30 if title != "number of elements" else 0)
        axes.set(xlabel=f"{title} (test crystals)", ylabel=f"test {study.quantity}")
        axes.set_ylim(bottom=0)
    caption = (
        f"Test error of {variant} by chemistry; bars: 95 % interval over crystals (Student t). "
        f"Groups of fewer than {FEWEST} crystals are in the data only."
    )
    return Drawing("chemistry", caption, figure, pd.concat(rows))


def _group_means(crystals: pd.DataFrame, title: str) -> pd.DataFrame:
    rows = [
        {"group": name, "crystals": len(errors), "error": interval.mean, "half_width": interval.half_width}
        for name, errors in crystals.groupby("group")["error"]
        for interval in [over_repeats(errors.to_numpy())]
    ]
    table = pd.DataFrame(rows)
    order = {name: place for place, name in enumerate(CRYSTAL_SYSTEMS)}
    table["place"] = [order.get(name, int(name) if name.isdigit() else 99) for name in table["group"]]
    return table.sort_values("place").drop(columns="place").assign(by=title)


def largest_errors(crystals: pd.DataFrame) -> pd.DataFrame:
    """Return the crystals of largest mean error, with the page of those that have a Materials Project id."""
    columns = [
        name for name in ("id", "formula", "crystal_system", "target", "prediction", "error") if name in crystals
    ]
    table = crystals.nlargest(LARGEST, "error")[columns].reset_index(drop=True)
    return table.assign(page=[MP_PAGE + name if MP_ID.fullmatch(name) else "" for name in table["id"]])


def crystal_systems(study: Study, ids: list[str], cache: Path) -> tuple[dict[str, str], str]:
    """Return the crystal systems of test crystals, computed once from the source, and a note on what is missing.

    Structures are not in the store: they are read again from the source that the sweep names, if it is still there
    and unchanged.
    """
    known = dict(pd.read_csv(cache, dtype=str, keep_default_na=False).to_numpy()) if cache.exists() else {}
    examined = ids[:MOST_STRUCTURES]
    if not set(examined) <= known.keys():
        try:
            known |= _compute_systems(study, set(examined))
        except (ValueError, OSError) as error:
            return {}, f"Crystal systems are not shown: {error}"
        table = pd.DataFrame(sorted(known.items()), columns=["id", "crystal_system"])
        write_text(cache, table.to_csv(index=False))
    note = f"Crystal systems: the first {MOST_STRUCTURES:,} test crystals only." if len(ids) > len(examined) else ""
    return known, note


def _compute_systems(study: Study, ids: set[str]) -> dict[str, str]:
    from pathlib import Path

    from srcgcnn.data.manifest import read_manifest
    from srcgcnn.data.parsing import parse_structure
    from srcgcnn.data.source import RowError
    from srcgcnn.sweep.prepare import source_of
    from srcgcnn.sweep.record import read_record

    record = read_record(study.run.paths)
    if record.archived:
        raise ValueError("an archive holds no structures")
    manifest, spec = read_manifest(Path(record.store)), record.spec.data
    if manifest.data_hash != study.results[0].config.data.data_hash:
        raise ValueError(f"these trials are not of the data of the last request, {spec.source}")
    source = source_of(spec)
    if source.content_hash != manifest.source_hash:
        raise ValueError(f"{spec.source} has changed since the graphs were built")
    systems = {}
    for row in source.rows():
        if row.row_id in ids:
            try:
                systems[row.row_id] = _system(parse_structure(row))
            except RowError:
                systems[row.row_id] = "unknown"
    return systems | dict.fromkeys(ids - systems.keys(), "unknown")


def _system(structure: Structure) -> str:
    os.environ.setdefault("SPGLIB_WARNING", "OFF")  # it writes to the terminal what it also raises
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

    try:
        return str(SpacegroupAnalyzer(structure, symprec=SYMMETRY_PRECISION).get_crystal_system())
    except SymmetryUndeterminedError:
        return "unknown"
