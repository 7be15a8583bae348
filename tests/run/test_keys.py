"""Keys: equal trials have one, whatever is added to the records later."""

import dataclasses
from dataclasses import replace

import pytest

from srcgcnn.models.config import ModelConfig
from srcgcnn.records import identity_of
from srcgcnn.run import keys
from srcgcnn.run.training_config import SplitConfig, StartConfig, TrainingConfig
from srcgcnn.run.trial import DataRef, Seeds, TrialConfig

DATA = DataRef("d" * 64, "toy", "gap", "eV")
TRIAL = TrialConfig(ModelConfig("srcgcnn", 3, alpha=0.5), TrainingConfig(), Seeds(1, 2, 3), DATA)
RECORDS = (TRIAL.model, TRIAL.training, TRIAL.training.split, TRIAL.seeds, StartConfig("w" * 64))


def with_a_new_field(record, value):
    """Return the record as a later version has it: with another field, whose default is 4."""
    kind = type(record)
    later = dataclasses.make_dataclass(kind.__name__, [("invented", int, 4)], bases=(kind,), frozen=True)
    return later(**{field.name: getattr(record, field.name) for field in dataclasses.fields(record)}, invented=value)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_field_that_comes_later_is_part_of_a_key_only_where_it_is_not_at_its_default(record):
    before = identity_of(record, keys.FIRST_FIELDS)
    assert identity_of(with_a_new_field(record, 4), keys.FIRST_FIELDS) == before
    assert identity_of(with_a_new_field(record, 5), keys.FIRST_FIELDS) == {**before, "invented": 5}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_record_in_a_key_has_its_first_fields_on_record(record):
    first = keys.FIRST_FIELDS[type(record).__name__]
    assert set(first) <= {field.name for field in dataclasses.fields(record)}


@pytest.mark.parametrize(
    "other",
    [
        replace(TRIAL, model=replace(TRIAL.model, hidden_channels=32)),
        replace(TRIAL, training=replace(TRIAL.training, precision="bf16")),
        replace(TRIAL, training=replace(TRIAL.training, split=SplitConfig("kfold"))),
        replace(TRIAL, training=replace(TRIAL.training, start=StartConfig("w" * 64))),
        replace(TRIAL, seeds=Seeds(1, 2, 4)),
        replace(TRIAL, data=replace(DATA, target="volume")),
    ],
)
def test_what_changes_numbers_changes_the_key(other):
    assert other.key != TRIAL.key


def test_what_is_the_same_trial_has_the_same_key():
    one = replace(TRIAL, model=ModelConfig("srcgcnn", 1, norm="shared", alpha=1.0))
    same = replace(TRIAL, model=ModelConfig("cgcnn", 1), data=replace(DATA, name="copy", unit="meV"))
    assert (one, one.key) == (same, same.key)
    whole = replace(TRIAL, training=TrainingConfig(learning_rate=1, weight_decay=0, clip_norm=5))
    real = replace(TRIAL, training=TrainingConfig(learning_rate=1.0, weight_decay=0.0, clip_norm=5.0))
    keys._training_text.cache_clear()
    assert whole.key == real.key
