"""The console script as a user meets it."""

import json
import subprocess
import sys

import pytest

from srcgcnn.cli.main import main


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
