"""Queries to the Materials Project: targets by friendly names, and which materials.

The names of the summary endpoint stay in this file. Nothing here is imported that planning does not have.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from srcgcnn.records import digest, record


@dataclass(frozen=True)
class MpTarget:
    """A property of the summary endpoint.

    Attributes:
        field: name of the property there.
        unit: as the Materials Project documents it, "" for a number without unit.
        part: key inside the property, if that is a group of numbers.
        needs: calculation that a material must have (`has_props`), None if every material has the property.
    """

    field: str
    unit: str
    part: str | None = None
    needs: str | None = None


MP_TARGETS = {
    "formation_energy": MpTarget("formation_energy_per_atom", "eV/atom", needs="thermo"),
    "energy_above_hull": MpTarget("energy_above_hull", "eV/atom", needs="thermo"),
    "energy": MpTarget("energy_per_atom", "eV/atom", needs="thermo"),
    "band_gap": MpTarget("band_gap", "eV", needs="electronic_structure"),
    "density": MpTarget("density", "g/cm3"),
    "bulk_modulus": MpTarget("bulk_modulus", "GPa", part="vrh", needs="elasticity"),
    "shear_modulus": MpTarget("shear_modulus", "GPa", part="vrh", needs="elasticity"),
    "poisson_ratio": MpTarget("homogeneous_poisson", "", needs="elasticity"),
    "dielectric_constant": MpTarget("e_total", "", needs="dielectric"),
    "refractive_index": MpTarget("n", "", needs="dielectric"),
    "magnetization": MpTarget("total_magnetization_normalized_vol", "muB/angstrom3", needs="magnetism"),
}


MP_ID = re.compile(r"[a-z]{2,4}-[A-Za-z0-9]{1,12}")  # mp-149, mvc-12, and the letters of new ones


class QueryError(ValueError):
    """A query makes no sense; the message names the value and what is allowed."""


@record
class MpFilter:
    """Which materials; the table `[data.mp]` of a sweep definition.

    Attributes:
        limit: this many materials at most: the first by material id, compared as text; by default all.
        stable_only: on the convex hull.
        theoretical: true: never synthesised; false: with an experimental structure; by default both.
        gnome: with the materials of GNoME, which have their own licence (CC BY-NC).
        elements: all of these are in it.
        exclude_elements: none of these is.
        min_band_gap_ev, max_band_gap_ev: window in eV, both ends included, as for the windows below.
        min_formation_energy_ev, max_formation_energy_ev: window in eV/atom.
        min_above_hull_ev, max_above_hull_ev: window of the energy above the hull in eV/atom.
        min_sites, max_sites: atoms in the primitive cell.
    """

    limit: int | None = None
    stable_only: bool = False
    theoretical: bool | None = None
    gnome: bool = False
    elements: tuple[str, ...] = ()
    exclude_elements: tuple[str, ...] = ()
    min_band_gap_ev: float | None = None
    max_band_gap_ev: float | None = None
    min_formation_energy_ev: float | None = None
    max_formation_energy_ev: float | None = None
    min_above_hull_ev: float | None = None
    max_above_hull_ev: float | None = None
    min_sites: int | None = None
    max_sites: int | None = None

    def __post_init__(self) -> None:
        """Refuse windows and limits that nothing can fit."""
        if self.limit is not None and self.limit < 1:
            raise QueryError(f"limit={self.limit} must be 1 or more")
        for name in ("band_gap_ev", "formation_energy_ev", "above_hull_ev", "sites"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low is not None and high is not None and low > high:
                raise QueryError(f"min_{name}={low} is above max_{name}={high}")
        if both := set(self.elements) & set(self.exclude_elements):
            raise QueryError(f"elements and exclude_elements both name {', '.join(sorted(both))}")

    def __str__(self) -> str:
        """Return what differs from the defaults, in readable form."""
        given = {name: value for name, value in asdict(self).items() if value != getattr(MpFilter, name)}
        return ", ".join(f"{name} = {_text(value)}" for name, value in given.items()) or "all materials"


def _text(value: Any) -> str:
    return (
        " ".join(value) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else f"{value}"
    )


@record
class MpQuery:
    """Targets and materials: what a snapshot holds; with `ids` these materials and no others."""

    targets: tuple[str, ...]
    filter: MpFilter = field(default_factory=MpFilter)
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse unknown targets, invalid ids, and filters combined with ids."""
        known = ", ".join(f"{name} [{target.unit or 'no unit'}]" for name, target in MP_TARGETS.items())
        if not self.targets:
            raise QueryError(f"name the target to fetch from the Materials Project, one of: {known}")
        for name in self.targets:
            if name not in MP_TARGETS:
                raise QueryError(f"no target {name!r} in the Materials Project; known: {known}")
        if self.ids and self.filter != MpFilter():
            raise QueryError(f"the ids already select the materials; leave out {self.filter}")
        for one in self.ids:
            if not MP_ID.fullmatch(one):
                raise QueryError(f"{one!r:.60} is not an id of the Materials Project, such as mp-149")

    @property
    def key(self) -> str:
        """Hash that names the query's snapshot."""
        identity = asdict(self)
        if not self.ids:
            del identity["ids"]  # snapshots that were fetched before there were ids keep their names
        return digest(identity)

    def __str__(self) -> str:
        """Return which materials, in readable form."""
        return f"{len(self.ids):,} listed ids" if self.ids else str(self.filter)

    @property
    def fields(self) -> list[str]:
        """Return the properties that travel."""
        return ["material_id", "structure", *dict.fromkeys(MP_TARGETS[name].field for name in self.targets)]

    @property
    def search_arguments(self) -> dict[str, Any]:
        """Return the query as arguments of mp-api's `SummaryRester.search`.

        `deprecated` is always among them: with no filter at all mp-api would download whole tables from AWS instead of
        asking the API.
        """
        chosen = self.filter
        windows = {
            "band_gap": (chosen.min_band_gap_ev, chosen.max_band_gap_ev),
            "formation_energy": (chosen.min_formation_energy_ev, chosen.max_formation_energy_ev),
            "energy_above_hull": (chosen.min_above_hull_ev, chosen.max_above_hull_ev),
            "num_sites": (chosen.min_sites, chosen.max_sites),
        }
        if self.ids:  # GNoME's too, if they are listed; what has no such property is a bad row of the source
            return {"deprecated": False, "include_gnome": True}
        needs = [target.needs for target in map(MP_TARGETS.__getitem__, self.targets) if target.needs]
        return {
            "deprecated": False,
            "include_gnome": chosen.gnome,
            "theoretical": chosen.theoretical,
            "is_stable": True if chosen.stable_only else None,
            "elements": list(chosen.elements) or None,
            "exclude_elements": list(chosen.exclude_elements) or None,
            "has_props": list(dict.fromkeys(needs)) or None,
            **{name: window for name, window in windows.items() if window != (None, None)},
        }


def target_values(document: dict[str, Any], targets: tuple[str, ...]) -> dict[str, Any]:
    """Return the targets of a document as found; None if it has none."""
    values = {}
    for name in targets:
        value = document.get(MP_TARGETS[name].field)
        part = MP_TARGETS[name].part
        values[name] = value.get(part) if part and isinstance(value, dict) else value
    return values
