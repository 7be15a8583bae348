"""`srcgcnn profile`: the phases of a step, through the command line."""

import json

import pytest

from srcgcnn.cli.main import main


def rows_of(said, heading):
    lines = said.split(heading, 1)[1].splitlines()[1:]
    return [line for line in lines[: lines.index("")] if line] if "" in lines else [line for line in lines if line]


@pytest.mark.full
def test_the_phases_of_a_step_add_up_and_the_operators_are_named(demo_store, capsys, tmp_path):
    trace = tmp_path / "trace.json"
    options = ["--depth", "2", "--members", "2", "--batch-size", "16", "--epochs", "2", "--trace", str(trace)]
    assert main(["profile", str(demo_store.folder), *options]) == 0
    said = capsys.readouterr().out
    phases = rows_of(said, "host ms")
    names = [row.strip().split("  ")[0] for row in phases]
    assert names == [
        "batch",
        "forward",
        "of it embedding",
        "of it head",
        "backward",
        "optimiser",
        "evaluation (per epoch)",
    ]
    shares = [int(row.split()[-2]) for row in phases if row.endswith("%") and "of it" not in row]
    assert 97 <= sum(shares) <= 103
    assert said.startswith("3 training steps")  # 48 training rows in batches of 16
    assert "aten::" in said
    assert {"forward", "backward"} <= {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}


def test_a_profile_of_one_epoch_or_no_member_is_refused(demo_store, capsys):
    assert main(["profile", str(demo_store.folder), "--epochs", "1"]) == 2
    assert main(["profile", str(demo_store.folder), "--members", "0"]) == 2
    said = capsys.readouterr().err
    assert "at least 2 epochs" in said
    assert "--members 0" in said


def test_a_profile_as_json_holds_the_same_phases(demo_store, capsys):
    assert main(["profile", str(demo_store.folder), "--epochs", "2", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [phase["name"] for phase in found["phases"]][:2] == ["batch", "forward"]
    assert found["steps"] > 0


def test_a_device_that_is_not_there_is_refused(demo_store, capsys):
    assert main(["profile", str(demo_store.folder), "--device", "cuda:99"]) == 2
    assert main(["profile", str(demo_store.folder), "--device", "abacus"]) == 2
    said = capsys.readouterr().err
    assert "--device cuda:99: this PyTorch" in said
    assert "--device abacus: unknown" in said
