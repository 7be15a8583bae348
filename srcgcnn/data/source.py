"""The common form of every source of crystals: rows of (id, structure, targets), parsed late.

Structures stay unparsed in `SourceRow` so that the expensive part (CIF parsing) happens in the worker processes of the
build, not in the one process that reads the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence  # noqa: TC003 - part of the dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from srcgcnn.data.limits import SourceLimits

# Words of a name that say that it is in another unit than the usual one
OTHER_QUANTITIES = frozenset(
    ("log", "log10", "ln", "mev", "kj", "kcal", "mol", "ry", "rydberg", "ha", "hartree", "cell", "fu", "mpa", "kbar")
)
KNOWN_UNITS = {
    "formation_energy": "eV/atom",
    "energy_per_atom": "eV/atom",
    "e_form": "eV/atom",
    "e_hull": "eV/atom",
    "energy_above_hull": "eV/atom",
    "electrostatic_energy": "eV/atom",
    "ordering_energy": "eV/atom",
    "band_gap": "eV",
    "gap pbe": "eV",
    "bandgap": "eV",
    "ehull": "eV/atom",
    "bulk_modulus": "GPa",
    "shear_modulus": "GPa",
}
UNIT_IN_NAME = re.compile(r"(.*\S)\s*\[([^\[\]]+)\]\s*")
# in round brackets a unit that is one: `gap (eV)`, not `gap (PBE)`
UNIT_IN_BRACKETS = re.compile(r"(.*\S)\s*\((m?eV(?:/atom)?|k(?:J|cal)/mol|[GM]Pa|Ha|Ry|K)\)\s*")


class SourceError(ValueError):
    """A source cannot be read at all; the message names it and says what to do."""


class RowError(ValueError):
    """One row cannot be used; the message is the reason that `rejected.csv` gives."""


@dataclass(frozen=True)
class SourceRow:
    """One crystal as the source has it.

    Attributes:
        row_id: unique within the source.
        form: how `content` is written: text of a `cif` or `poscar`, a pymatgen `dict` (Structure.as_dict), a
            `structure` itself, or `error`: the source found no crystal here, and `content` says why.
        targets: target name -> raw value as found (str, float or None); checked in the build.
    """

    row_id: str
    form: Literal["cif", "poscar", "dict", "structure", "error"]
    content: Any
    targets: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """A set of crystals with targets.

    Attributes:
        name: short name, for display and for folder names.
        content_hash: sha256 of what was read (file bytes, or the generator's version and settings).
        targets: names of the targets that every row is expected to have.
        units: unit of each target, "" if unknown.
        provenance: one line on origin and licence, for the manifest.
        count: number of rows if known without reading them, for the progress bar.
        rows: starts reading from the first row.
        limits: what a row may cost; others than the default ones are part of the build's key.
    """

    name: str
    content_hash: str
    targets: tuple[str, ...]
    units: tuple[str, ...]
    provenance: str
    count: int | None
    rows: Callable[[], Iterator[SourceRow]]
    limits: SourceLimits = field(default_factory=SourceLimits)


def without_unit(target: str) -> str:
    """Return the name of a column without the unit in it: `gap` for `gap [eV]`."""
    found = _unit_in(target)
    return found[1] if found else target


def unit_of(target: str) -> str:
    """Read a target's unit from its name, `gap [eV]` or `gap (eV)`, or guess it ("" if unknown); `--unit` overrides."""
    if found := _unit_in(target):
        return found[2].strip()
    lowered = target.lower()
    if OTHER_QUANTITIES.intersection(re.split(r"[^a-z0-9]+", lowered)):
        return ""
    for stem, unit in KNOWN_UNITS.items():
        if stem in lowered:
            return unit
    return ""


def with_unit(target: str, unit: str) -> str:
    """Write a target with its unit, `band_gap [eV]`; a column that is called so already stays as it is."""
    found = _unit_in(target)
    return target if found and found[2].strip() == unit else f"{target} [{unit or 'no unit'}]"


def units_given(unit: str, targets: Sequence[str]) -> tuple[str, ...]:
    """Return the units that a user gave: one for all targets, or one per target separated by commas.

    Raises:
        SourceError: there are more or fewer than targets.
    """
    given = tuple(part.strip() for part in unit.split(","))
    if len(given) == 1:
        return given * len(targets)
    if len(given) != len(targets):
        raise SourceError(f"unit={unit!r} has {len(given)} parts for {len(targets)} targets: {', '.join(targets)}")
    return given


def _unit_in(target: str) -> re.Match[str] | None:
    return UNIT_IN_NAME.fullmatch(target) or UNIT_IN_BRACKETS.fullmatch(target)
