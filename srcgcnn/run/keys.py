"""The key of a trial: a hash of all that determines its numbers. Results written before stay valid, always.

A key holds every field that the first version had, and of fields that came later those that differ from their default.
So a new field with a default orphans no result, and needs no line here.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

from srcgcnn.records import DIGEST_CHARACTERS, canonical_json, identity_of

SHORTEST_KEY = 6  # the least characters of a key that name a trial: fewer would be a slip
KEY_FORMAT = 1  # RESULT_FORMAT of the first version: never to be changed either
# What the records of the first version had. Never to be changed.
FIRST_FIELDS = {
    "ModelConfig": (
        "family", "depth", "norm", "alpha", "layer_norm", "hidden_channels", "head_channels", "head_layers", "task",
    ),
    "TrainingConfig": (
        "epochs", "batch_size", "optimizer", "learning_rate", "weight_decay", "momentum", "loss", "schedule",
        "milestones", "gamma", "plateau_patience_epochs", "patience_epochs", "clip_norm", "normaliser",
        "exact_padding", "split",
    ),
    "SplitConfig": ("kind", "fractions", "folds", "fold", "lists"),
    "StartConfig": ("weights_hash", "head", "frozen"),
    "Seeds": ("init", "order", "split"),
}  # fmt: skip


def key_of(config: Any) -> str:
    """Return the key of a `TrialConfig`, which asks for it: 16 hexadecimal digits."""
    data = [config.data.data_hash, config.data.target]
    if config.data.targets:  # a column may be called `a + b`
        data.append([target.name for target in config.data.targets])
    identity = {
        "data": data,
        "format": KEY_FORMAT,
        "model": identity_of(config.model, FIRST_FIELDS),
        "seeds": identity_of(config.seeds, FIRST_FIELDS),
    }
    if config.training.split.kind in ("prototype", "cluster"):
        identity["split"] = 3  # earlier ones misread brackets, told O2 from Cu, or depended on the processor
    # one canonical JSON object, whose last key is `training`
    text = f'{canonical_json(identity)[:-1]},"training":{_training_text(config.training)}}}'
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


@lru_cache(maxsize=64)  # a split may list a hundred thousand ids, and the trials of a sweep share it
def _training_text(training: Any) -> str:
    return canonical_json(identity_of(training, FIRST_FIELDS))
