"""The opened folder of a sweep: files are parsed once, and damaged ones neither end a command nor vanish."""

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tracked_sweep import a_config, a_result

from srcgcnn.cli.main import main
from srcgcnn.records import RecordError, digest
from srcgcnn.run import results as results_module
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import DIGEST, DamagedResultError, find_result, read_result, result_text, write_result
from srcgcnn.run.trial import Seeds

RESULTS = [a_result(a_config(seed)) for seed in range(3)]


@pytest.fixture
def paths(tmp_path):
    paths = RunPaths(tmp_path)
    for result in RESULTS:
        write_result(paths, result)
    return paths


def by_key(run):
    return {result.key: result for result in run.results}


def test_every_file_is_parsed_once_and_new_changed_and_removed_ones_are_noticed(paths, monkeypatch):
    parsed = []
    read = results_module.read_result
    monkeypatch.setattr(results_module, "read_result", lambda path: parsed.append(path.stem) or read(path))
    run = open_run(paths)
    assert by_key(run) == by_key(open_run(run)) == {result.key: result for result in RESULTS}
    assert run.result(RESULTS[0].key) == RESULTS[0]
    assert sorted(parsed) == sorted(result.key for result in RESULTS)
    more = a_result(a_config(9))
    write_result(paths, more)
    changed = replace(RESULTS[0], conv_parameters=7)
    write_result(paths, changed)
    os.utime(paths.result(changed.key), ns=(1, 1))  # also on a disk with coarse clocks
    paths.result(RESULTS[1].key).unlink()
    assert by_key(run) == {result.key: result for result in (changed, RESULTS[2], more)}
    assert len(parsed) == 5


def truncated(text, _):
    return text[: len(text) // 2].encode()


def of_bytes(text, _):
    return b"\x80\x81"


def without_a_number(text, _):
    data = json.loads(text)
    del data["conv_parameters"], data[DIGEST]  # as older versions wrote it
    return json.dumps(data).encode()


def of_another_trial(text, _):
    return result_text(replace(RESULTS[0], config=replace(RESULTS[0].config, seeds=Seeds(7, 7, 7)))).encode()


def with_another_digit(text, _):
    changed = text.replace('"total_parameters": 3', '"total_parameters": 7', 1)
    assert changed != text
    return changed.encode()


def of_another_format_by_a_flipped_digit(text, _):
    changed = text.replace('"format_version": 1', '"format_version": 3', 1)
    assert changed != text
    return changed.encode()


def with_a_damaged_name_of_the_digest(text, _):
    return text.replace('"digest"', '"digesu"').encode()


def with_a_number_that_is_none(text, _):
    return text.replace('"target_mean": ', '"target_mean": NaN, "x": ', 1).encode()


def nested_beyond_measure(text, _):
    return b"[" * 100_000


DAMAGES = [
    truncated,
    of_bytes,
    without_a_number,
    of_another_trial,
    with_another_digit,
    of_another_format_by_a_flipped_digit,
    with_a_damaged_name_of_the_digest,
    with_a_number_that_is_none,
    nested_beyond_measure,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_set_aside_and_named_and_its_trial_is_trained_again(paths, damage, capsys):
    path = paths.result(RESULTS[0].key)
    damaged = damage(path.read_text(), path)
    path.write_bytes(damaged)
    assert main(["results", str(paths.out), "--format", "csv"]) == 0
    said = capsys.readouterr()
    assert path.name in said.err
    assert "counts as not trained" in said.err
    assert len(said.err.splitlines()) == 1
    assert ",2," in said.out  # two seeds are left
    assert path.with_name(path.name + ".damaged").read_bytes() == damaged
    assert open_run(paths).finished == {result.key for result in RESULTS[1:]}
    assert main(["results", str(paths.out)]) == 0
    assert capsys.readouterr().err == ""


def test_a_result_of_a_later_version_is_not_taken_for_a_damaged_one(paths):
    path = paths.result(RESULTS[0].key)
    data = json.loads(path.read_text())
    del data[DIGEST]
    for more in ({"invented": 1}, {"format_version": 2}):
        later = {**data, **more}
        path.write_text(json.dumps({**later, DIGEST: digest(later)}))
        with pytest.raises(RecordError, match=path.name):
            _ = open_run(paths).results
        assert path.exists()


def test_a_result_without_a_digest_is_one_of_an_older_version(paths):
    path = paths.result(RESULTS[0].key)
    path.write_text(json.dumps(RESULTS[0].to_dict()))
    assert by_key(open_run(paths)) == {result.key: result for result in RESULTS}


def test_a_result_that_was_edited_by_hand_is_set_aside_and_the_message_says_so(paths, capsys):
    path = paths.result(RESULTS[0].key)
    path.write_text(json.dumps({**json.loads(path.read_text()), "target_mean": 0.25}, indent=1))
    assert find_result(path) is None
    assert "damaged, or edited by hand" in (said := capsys.readouterr().err)
    assert f"kept as {path.name}.damaged" in said


@given(st.data())
def test_no_change_of_a_byte_goes_unseen(data):
    """A file that reads is one whose JSON is the same: a blank may become a tab, a 1e5 may become a 1E5."""
    text = result_text(RESULTS[0]).encode()
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + bytes([data.draw(st.integers(0, 255).filter(lambda byte: byte != text[at]))]) + text[at + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        path = RunPaths(Path(folder)).result(RESULTS[0].key)
        path.parent.mkdir()
        path.write_bytes(changed)
        try:
            assert read_result(path) == RESULTS[0]
        except DamagedResultError:
            return
        assert json.loads(changed) == json.loads(text)


@pytest.mark.parametrize("damage", ["cut", "overwritten", "other columns"])
def test_damaged_predictions_count_as_missing_and_are_named(tmp_path, damage):
    paths = RunPaths(tmp_path)
    path = paths.predictions("a")
    path.parent.mkdir(parents=True)
    pd.DataFrame({"id": ["x"], "target": [1.0], "prediction": [2.0]}).to_parquet(path)
    assert list(open_run(paths).predictions("a")["set"]) == ["test"]
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "overwritten":
        path.write_bytes(b"\xff" * path.stat().st_size)
    else:
        pd.DataFrame({"id": ["x"]}).to_parquet(path)
    with pytest.warns(UserWarning, match=r"a\.parquet"):
        assert open_run(paths).predictions("a") is None
