"""Human-readable names of variants. A name says what differs among the variants shown together, and is never parsed."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from srcgcnn.records import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from srcgcnn.run.trial import TrialConfig, Variant


LONGEST = 32  # characters of a value; beyond, a hash stands for it
NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)")


def labels_of(variants: Iterable[Variant]) -> dict[Variant, str]:
    """Name variants: the network, then the settings that differ among them, such as `CGCNN-3 learning_rate=0.001`.

    Settings of the network that its own name does not hold appear if two networks would have the same name.
    """
    variants = list(dict.fromkeys(variants))
    names = differing(variants)
    return {variant: label_of(variant, names) for variant in variants}


def label_of(variant: Variant, names: Sequence[str] = (), network: str | None = None) -> str:
    """Name one variant, with these of its settings; `network` is the name of its network, by default its own."""
    return _with_settings(network or variant.model.label, variant, names)


def trial_label(trial: TrialConfig, names: Sequence[str] = ()) -> str:
    """Name one trial, with these settings of its variant."""
    return label_of(trial.variant, names) + trial.repeat


def line_of(variant: Variant, names: Sequence[str] = ()) -> str:
    """Name a variant and all that differ from it in their depth alone."""
    return _with_settings(variant.model.line, variant, names)


def _with_settings(name_of_model: str, variant: Variant, names: Sequence[str]) -> str:
    settings = settings_of(variant)
    return " ".join([name_of_model, *(f"{name}={shown(settings[name])}" for name in names if name in settings)])


def differing(variants: Sequence[Variant]) -> list[str]:
    """Return the settings that distinguish these variants and are not in the names of their networks."""
    settings = {variant: settings_of(variant) for variant in variants}
    found = [name for name in _names(settings.values()) if _differs(name, settings.values()) and "model." not in name]
    alike: dict[str, list[dict[str, Any]]] = {}
    for variant in variants:
        alike.setdefault(variant.model.label, []).append(settings[variant])
    for group in alike.values():
        found += [name for name in _names(group) if name.startswith("model.") and _differs(name, group)]
    return list(dict.fromkeys(found))


def settings_of(variant: Variant) -> dict[str, Any]:
    """Return what makes a variant, flat, by dotted name: `data`, `learning_rate`, `split.kind`, `model.depth`."""
    model = {f"model.{name}": value for name, value in _flat(variant.model).items()}
    del model["model.outputs"]  # as many as there are targets
    return {"data": variant.data.data_hash, "target": variant.data.target, **_flat(variant.training), **model}


def _flat(record: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            found |= {f"{field.name}.{name}": inner for name, inner in _flat(value).items()}
        else:
            found[field.name] = value
    return found


def _names(settings: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for each in settings for name in each))


def _differs(name: str, settings: Iterable[dict[str, Any]]) -> bool:
    return len({each.get(name) for each in settings}) > 1


def by_number(name: str) -> tuple[str | float, ...]:
    """Return a key that sorts names by the numbers in them: `T=2` before `T=10`, `0.003` before `0.01`."""
    return tuple(float(part) if number % 2 else part for number, part in enumerate(NUMBER.split(name)))


def shown(value: Any) -> str:
    """Write the value of a setting, short."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        text = ",".join(map(shown, value))
        return text if len(text) <= LONGEST else digest(value)[:8]
    text = "none" if value is None else str(value)
    return text if len(text) <= LONGEST else text[:8]
