"""What `pip install` of the wheel gives, in an environment and a folder of its own."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from matbench_data import TASK, write_dataset

pytestmark = pytest.mark.full  # a build, an environment, and processes in it

ROOT = Path(__file__).resolve().parent.parent
SITE = 'kind = "local"\ndashboard = false\ncpus = 1\n'


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with the wheel, and the libraries of this one; its folder of commands."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    libraries = sysconfig.get_path("purelib")
    purelib = home / Path(libraries).relative_to(sys.prefix)
    (purelib / "libraries.pth").write_text(libraries + "\n")  # a .pth inside of it is not read: no editable install
    return home / "bin"


@pytest.fixture
def run(installed, tmp_path):
    def run(*arguments, status=0, **variables):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
        command = [str(installed / "srcgcnn"), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=800, check=False
        )
        assert done.returncode == status, (arguments, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout

    return run


def test_the_wheel_holds_every_definition_once(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    shipped = sorted(name.removeprefix("srcgcnn/shipped/") for name in names if "/shipped/" in name)
    ours = [
        path.relative_to(ROOT).as_posix() for kind in ("cluster", "sweeps") for path in (ROOT / kind).rglob("*.toml")
    ]
    assert shipped == sorted(ours)
    assert not [name for name in names if name.startswith(("cluster", "sweeps", "mlflow", "tests"))]
    kernel = "srcgcnn/models/blocks/cgcnn/kernels/native/convolution.cpp"
    assert {"srcgcnn/py.typed", kernel, "srcgcnn/analysis/report.html.jinja"} <= set(names)


def test_the_installed_command_knows_what_ships(run, installed, tmp_path):
    where = run_python(installed, tmp_path, "import srcgcnn; print(srcgcnn.__file__)")
    assert Path(where).is_relative_to(installed.parent)
    assert re.search(r"\d+ trials.* 0 finished before", run("sweep", "--dry-run"))
    assert "sweep 'paper' in runs/paper" in run("sweep", "--sweep", "paper", "--dry-run")
    assert "a local site" in run("cluster", "check", "local")
    nowhere = str(tmp_path / "bin")  # no SLURM there
    assert "BAD  SLURM commands: not on PATH: sbatch" in run("cluster", "check", "slurm", status=1, PATH=nowhere)
    assert "no site file 'typo'; known: kestrel, local, ncstate" in run_python(
        installed,
        tmp_path,
        "from srcgcnn.definitions import find_definition\n"
        "try: find_definition('cluster', 'typo')\nexcept OSError as error: print(error)",
    )


def run_python(installed, folder, code):
    done = subprocess.run([installed / "python", "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_installed_command_sweeps_and_reports_in_an_empty_folder(run, tmp_path):
    (tmp_path / "site.toml").write_text(SITE)
    said = run("sweep", "--cluster", "site.toml", "--models", "cgcnn", "--depths", "1", "--seeds", "1", "--epochs", "1")
    assert "report: runs/depth/report/index.html" in said
    assert "CGCNN" in run("results", "runs/depth")
    assert "runs/depth/report/index.html" in run("report", "runs/depth")
    assert (tmp_path / "runs/depth/report/index.html").stat().st_size > 10_000


def test_the_installed_command_records_a_fold_of_matbench(run, tmp_path):
    (tmp_path / "site.toml").write_text(SITE)
    write_dataset(tmp_path / "data", TASK.rows)
    flags = ["--cluster", "site.toml", "--depth", "1", "--epochs", "1", "--fold", "0"]
    assert "1 of 5 folds" in run("matbench", TASK.name, *flags, MATMINER_DATA="data")
    assert (tmp_path / "runs" / TASK.name / "matbench.json.gz").exists()
