"""Published datasets by name, through the packages that distribute them: JARVIS (jarvis-tools) and matbench (matminer).

Their own caches are read and filled, so a file that was fetched on a login node serves a node without a network.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import zipfile
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srcgcnn.data.columns import choose_targets, error_row, file_source, is_number, reading, row_identity
from srcgcnn.data.source import Source, SourceError, SourceRow
from srcgcnn.data.sources.structures_json import open_split_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from srcgcnn.data.limits import SourceLimits

JARVIS = "JARVIS dataset"
JARVIS_ID = "jid"
JARVIS_CITATION = "K. Choudhary et al., npj Computational Materials 6, 173 (2020), doi:10.1038/s41524-020-00440-1"
MATBENCH_UNITS = {  # of the one target of each dataset, as its documentation gives them
    "matbench_dielectric": "unitless",
    "matbench_expt_gap": "eV",
    "matbench_expt_is_metal": "",
    "matbench_glass": "",
    "matbench_jdft2d": "meV/atom",
    "matbench_log_gvrh": "log10(GPa)",
    "matbench_log_kvrh": "log10(GPa)",
    "matbench_mp_e_form": "eV/atom",
    "matbench_mp_gap": "eV",
    "matbench_mp_is_metal": "",
    "matbench_perovskites": "eV/unit cell",
    "matbench_phonons": "cm^-1",
    "matbench_steels": "MPa",
}
MATBENCH_CITATION = "A. Dunn et al., npj Computational Materials 6, 138 (2020), doi:10.1038/s41524-020-00406-3"


def open_jarvis(name: str, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    """Open a dataset of jarvis-tools that has crystals, `dft_3d` for example.

    Raises:
        SourceError: no such dataset, not in the cache and not to be had, or no crystals in it.
    """
    with contextlib.redirect_stdout(sys.stderr):
        from jarvis.db.figshare import get_db_info
    known = get_db_info()
    if name not in known:
        raise SourceError(f"jarvis:{name}: no such dataset in jarvis-tools; available: {', '.join(sorted(known))}")
    member = known[name][1]
    path = _jarvis_file(name, member)
    records = _jarvis_records(path, member, limits)
    first = next((record for record in records if isinstance(record, dict)), {})
    if "atoms" not in first:
        raise SourceError(f"jarvis:{name} has no crystals (no 'atoms'); it has: {', '.join(first)}")
    # a missing number is the text "na", so every record tells which columns hold numbers
    numeric = [key for key in first if any(is_number(record.get(key)) for record in records)]
    chosen = choose_targets(f"jarvis:{name}", targets, numeric, numeric)
    source = file_source(
        JARVIS, path, chosen, count=len(records), rows=partial(_jarvis_rows, path, member, chosen, limits)
    )
    return replace(source, name=name, provenance=f"{JARVIS} {name} ({member}); cite {JARVIS_CITATION}")


def _jarvis_file(name: str, member: str) -> Path:
    """Return the dataset in jarvis-tools' cache, downloaded if it is not there."""
    from jarvis.core.utils import get_cache_dir

    path = Path(get_cache_dir("jarvis_data")) / f"{member}.zip"
    if not path.exists():
        from jarvis.db.figshare import data

        try:
            with contextlib.redirect_stdout(sys.stderr):
                data(name)
        except Exception as error:  # requests, zipfile and json raise their own kinds
            path.unlink(missing_ok=True)  # jarvis-tools would take half a file, or an error page, for the dataset
            raise SourceError(
                f"jarvis:{name} is not in the cache ({path}) and cannot be downloaded ({type(error).__name__}); "
                "fetch it on a machine with a network and copy that file"
            ) from error
    return path


def _jarvis_records(path: Path, member: str, limits: SourceLimits) -> list[Any]:
    with reading(path, JARVIS), zipfile.ZipFile(path) as archive:
        size = archive.getinfo(member).file_size  # zipfile reads no more than it says
        if size > limits.unpacked_bytes:
            raise SourceError(f"{path}: {member} has {size / 2**30:.0f} GiB, the limit is {limits.unpacked_gib:g}")
        records = json.loads(archive.read(member))
        if not isinstance(records, list):
            raise SourceError(f"{path}: {member} is not a list of records")
        return records


def _jarvis_rows(path: Path, member: str, targets: tuple[str, ...], limits: SourceLimits) -> Iterator[SourceRow]:
    for number, record in enumerate(_jarvis_records(path, member, limits)):
        yield _jarvis_row(record, number, targets)


def _jarvis_row(record: Any, number: int, targets: tuple[str, ...]) -> SourceRow:
    if not isinstance(record, dict):
        return error_row(f"row-{number}", "is not a JSON object")
    row_id = row_identity(record.get(JARVIS_ID, record.get("id")), number)
    values = {name: None if record.get(name) == "na" else record.get(name) for name in targets}
    try:
        return SourceRow(row_id, "dict", _crystal_of_jarvis(record["atoms"]), values)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        return error_row(row_id, f"cannot read 'atoms': {type(error).__name__}: {error}", values)


def _crystal_of_jarvis(atoms: Any) -> dict[str, Any]:
    """Return a crystal of JARVIS as pymatgen's dict: lattice, elements and coordinates, nothing else of it."""
    from jarvis.core.lattice import Lattice

    matrix, places = np.array(atoms["lattice_mat"], dtype=float), np.array(atoms["coords"], dtype=float)
    if atoms["cartesian"]:
        places = np.array(Lattice(matrix).frac_coords(places))
    sites = [
        {"species": [{"element": str(element), "occu": 1.0}], "abc": place}
        for element, place in zip(atoms["elements"], places.tolist(), strict=True)
    ]
    return {"lattice": {"matrix": matrix.tolist()}, "sites": sites}


def open_matbench(name: str, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    """Open a dataset of matbench that has crystals, `matbench_mp_e_form` for example.

    Raises:
        SourceError: it is in no folder of matminer, and matminer is not installed or cannot download it.
    """
    path = _matbench_file(name)
    source = open_split_json(path, targets, limits)
    if name in MATBENCH_UNITS:
        source = replace(source, units=(MATBENCH_UNITS[name],) * len(source.targets))
    return replace(source, name=name, provenance=f"{name} of matbench v0.1; cite {MATBENCH_CITATION}")


def _matbench_file(name: str) -> Path:
    """Return the file where matminer keeps it (MATMINER_DATA, or its own folder), downloaded if it is not there."""
    package = find_spec("matminer")
    own = Path(package.origin).parent / "datasets" if package and package.origin else None
    folder = Path(os.environ["MATMINER_DATA"]).expanduser() if "MATMINER_DATA" in os.environ else own
    path = folder / f"{name}.json.gz" if folder else None
    if path and path.exists():
        return path
    where = f"matbench:{name} is not in {folder}" if folder else f"matbench:{name}: MATMINER_DATA is not set"
    by_hand = f"set MATMINER_DATA to a folder with {name}.json.gz"
    if package is None or path is None:
        raise SourceError(f"{where} and matminer is not installed; {by_hand}")
    from matminer.datasets import load_dataset

    try:
        with contextlib.redirect_stdout(sys.stderr):
            load_dataset(name, data_home=str(folder))
    except Exception as error:  # an unknown name, no network, a wrong hash
        reason = f"{type(error).__name__}: {error}"
        raise SourceError(f"{where} and matminer cannot load it ({reason}); {by_hand}") from error
    return path
