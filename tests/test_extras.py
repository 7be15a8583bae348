"""What works with the core alone, and what a command says whose extra is not installed."""

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from srcgcnn.cli.extras import EXTRAS
from srcgcnn.models.config import ModelConfig

ROOT = Path(__file__).resolve().parent.parent
MISSING = sorted(package for packages in EXTRAS.values() for package in packages)
# As in an environment without them: an import fails as that of a package that is not there.
WITHOUT = f"import sys\nfor name in {MISSING}: sys.modules[name] = None\nfrom srcgcnn.cli.main import main\n"


def run_without_extras(folder, *arguments):
    command = [sys.executable, "-c", f"{WITHOUT}sys.exit(main(sys.argv[1:]))", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=250, check=False)


def test_the_extras_are_those_of_pyproject():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    distributions = packages_distributions()
    for extra, packages in EXTRAS.items():
        named = {Requirement(line).name for line in extras[extra]}
        assert all(named & set(distributions[package]) for package in packages)


@pytest.mark.full
@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (["sweep", "--stores", "stores"], "mlflow", "sweep"),
        (["sweep", "--cluster", "slurm"], "mlflow", "sweep"),
        (["report", "."], "statsmodels", "report"),
        (["data", "fetch", "mp", "--target", "band_gap", "--limit", "1"], "mp_api", "mp"),
    ],
)
def test_a_command_names_its_missing_extra_in_one_line(tmp_path, arguments, package, extra):
    (tmp_path / "sweep.json").write_text("{}")
    done = run_without_extras(tmp_path, *arguments)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"srcgcnn: this needs {package}, which is not installed: pip install 'srcgcnn[{extra}]'")
    assert {path.name for path in tmp_path.iterdir()} == {"sweep.json"}  # and has done nothing


@pytest.mark.full
def test_the_core_builds_trains_and_predicts(finished_sweep, tmp_path):
    out = finished_sweep([ModelConfig("srcgcnn", 2)]).out
    script = f"""{WITHOUT}
from pymatgen.core import Lattice, Structure
Structure(Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(filename="salt.cif")
assert main(["data", "build", "demo", "--out", "store", "--processes", "1"]) == 0
assert main(["sweep", "--dry-run", "--data", "store"]) == 0
sys.exit(main(["predict", {str(out)!r}, "salt.cif"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "salt" in done.stdout
