"""The console script as a user meets it."""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from srcgcnn.cli.main import main, make_parser


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys\nfrom srcgcnn.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch','ray','mlflow','pymatgen','pandas'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_python_m_is_the_console_script():
    done = subprocess.run([sys.executable, "-m", "srcgcnn", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("srcgcnn ")


@pytest.mark.full
def test_build_info_verify_of_the_demonstration_data(tmp_path, capsys):
    store = tmp_path / "store"
    assert main(["data", "build", "demo", "--out", str(store)]) == 0
    built = capsys.readouterr().out
    assert "480 with" in built
    assert "electrostatic_energy [eV/atom]" in built
    assert main(["data", "info", str(store), "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["crystals"] == 480
    assert manifest["data_hash"] in built
    assert main(["data", "verify", str(store)]) == 0
    shard = store / manifest["shards"][0]["file"]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    capsys.readouterr()
    assert main(["data", "verify", str(store)]) == 2
    assert shard.name in capsys.readouterr().err


def test_params_prints_the_published_counts(capsys):
    assert main(["params", "--json"]) == 0
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["CGCNN-3"]["conv_params"] == 66_432
    assert rows["SR-CGCNN T=3 step-norm"]["conv_params"] == 22_912
    assert rows["SR-CGCNN T=3 step-norm alpha=learned"]["total_params"] == 37_316
    assert rows["SR-CGCNN T=8 shared-norm"]["total_params"] == 36_545


@pytest.mark.parametrize("command", [["results"], ["track"], ["ui"]])
def test_a_folder_without_a_sweep_is_said_and_neighbours_are_named(command, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "sweep.json").write_text("{}")
    assert main([*command, str(tmp_path / "typo")]) == 2
    assert str(tmp_path / "there") in capsys.readouterr().err


def test_an_unknown_source_or_target_is_said(tmp_path, capsys):
    assert main(["data", "build", "demo", "--processes", "0", "--out", str(tmp_path / "store")]) == 2
    assert "processes=0 must be 1 or more" in capsys.readouterr().err
    assert main(["data", "build", str(tmp_path / "missing.csv"), "--out", str(tmp_path / "store")]) == 2
    assert "missing.csv" in capsys.readouterr().err
    assert main(["data", "build", "demo", "--target", "band_gap", "--out", str(tmp_path / "store")]) == 2
    assert "electrostatic_energy" in capsys.readouterr().err


def commands_of(parser, words=()):
    """Yield every command with its words; groups of commands are walked through."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield words, parser
    for group in groups:
        for name, inner in group.choices.items():
            yield from commands_of(inner, (*words, name))


def test_every_command_says_what_it_does_and_shows_an_example_that_parses():
    parser = make_parser()
    for words, command in commands_of(parser):
        assert len(command.description or "") > 20, words
        _, _, examples = (command.epilog or "").partition(":\n")
        lines = [line for line in examples.splitlines() if line.strip().startswith("srcgcnn")]
        assert lines or words == ("completion",), words
        for line in lines:
            flags = shlex.split(re.split(r" {3,}| > ", line.strip())[0])[1:]
            assert parser.parse_args(flags).command, line


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_is_given_its_completions(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "--cluster" in script
    assert "matbench" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_definitions_of_the_present_folder_come_before_those_that_ship(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["cluster", "check", "local"]) == 0  # one that ships
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "local.toml").write_text("cpus = 0\n")
    capsys.readouterr()
    assert main(["cluster", "check", "local"]) == 2
    assert f"cluster{os.sep}local.toml" in capsys.readouterr().err
    assert main(["sweep", "--sweep", "typo", "--dry-run"]) == 2
    assert re.search(r"'typo'; known: .*depth, .*paper", capsys.readouterr().err)
