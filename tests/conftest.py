"""Parts that many tests share: a small store of the demonstration dataset, trials on it, an empty MLflow store."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings
from two_targets import with_volumes

from srcgcnn.data.build import build_store
from srcgcnn.data.demo import demo_source
from srcgcnn.data.store import GraphStore
from srcgcnn.driver.worker import run_group
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.training_config import TrainingConfig
from srcgcnn.run.trial import DataRef, Seeds, Target, TrialConfig
from srcgcnn.sweep.plan import TrialGroup
from srcgcnn.sweep.record import SweepRecord, write_record
from srcgcnn.sweep.spec import SweepSpec

signal.signal(signal.SIGINT, signal.default_int_handler)  # started with & Ctrl-C is ignored, and tests send it
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # a machine that does other things, too, is no defect
LONGEST_NAME = 200
torch.set_num_threads(1)  # tiny tensors: a second thread only waits, on busy cores twenty times longer


def pytest_make_parametrize_id(val, argname):
    """Name a long text by its length: some are megabytes, and each process of a run is told all names."""
    return f"{argname} of {len(val)}" if isinstance(val, str | bytes) and len(val) > LONGEST_NAME else None


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """Make a file or folder once for all processes of the run: `shared(name, make)`; nobody may change it."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    def get(name: str, make: Callable[[Path], object]) -> Path:
        path, made = folder / name, folder / f"{name}.made"
        with FileLock(folder / f"{name}.lock"):
            if not made.exists():
                make(path)
                made.touch()
        return path

    return get


@pytest.fixture(scope="session")
def demo_store(shared) -> GraphStore:
    """80 crystals of the demonstration dataset."""
    return GraphStore(shared("demo", lambda path: build_store(demo_source(80), path, processes=1)))


def _trials_on(data: DataRef):
    recipe = TrainingConfig(epochs=3, batch_size=16, milestones=(2,))

    def make(model: ModelConfig, seed: int = 0, **training) -> TrialConfig:
        model = replace(model, outputs=len(data.each))
        return TrialConfig(model, replace(recipe, **training), Seeds(seed, seed, 0), data)

    return make


@pytest.fixture(scope="session")
def trial_of(demo_store):
    """Make trial configurations on the small store: `trial_of(model, seed, **training)`."""
    target = demo_store.manifest.targets[0]
    return _trials_on(DataRef(demo_store.manifest.data_hash, "demo", target.name, target.unit))


@pytest.fixture(scope="session")
def gapped_store(shared) -> GraphStore:
    """The crystals of `demo_store`, of which 20 lack their volume and 10 their energy."""
    lacking = {0: "volume", 4: "volume", 7: "electrostatic_energy"}
    source = with_volumes(demo_source(80), lambda number: lacking.get(number % 8))
    return GraphStore(shared("gapped", lambda path: build_store(source, path, processes=1)))


@pytest.fixture(scope="session")
def two_target_trial_of(gapped_store):
    """Make trial configurations for both targets, as `trial_of` does."""
    targets = [Target(column.name, column.unit) for column in gapped_store.manifest.targets]
    return _trials_on(DataRef.of(gapped_store.manifest.data_hash, "demo", targets))


@pytest.fixture(scope="session")
def two_target_sweep(gapped_store, two_target_trial_of, tmp_path_factory) -> RunPaths:
    """A finished sweep for both targets: SR-CGCNN T=2 and CGCNN-1, two seeds each."""
    run_paths = RunPaths(tmp_path_factory.mktemp("runs") / "two")
    trials = [
        two_target_trial_of(model, seed, epochs=6, learning_rate=5e-3)
        for model in (ModelConfig("srcgcnn", 2), ModelConfig("cgcnn", 1))
        for seed in (0, 1)
    ]
    for trial in trials:
        run_group(TrialGroup((trial,)), gapped_store.folder, run_paths, checkpoint_interval_s=60)
    write_record(run_paths, SweepRecord(SweepSpec("two"), trials[0].data, str(gapped_store.folder), "srcgcnn sweep"))
    return run_paths


@pytest.fixture(scope="session")
def empty_mlflow_db(shared):
    """MLflow's tables without rows: creating them takes seconds, once is enough."""
    from mlflow.tracking import MlflowClient

    return shared("mlflow.db", lambda path: MlflowClient(f"sqlite:///{path}").search_experiments())


@pytest.fixture
def temp_folder():
    """A temporary folder of nodes with a path short enough for sockets, not shared with jobs of the same number."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="s") as folder:
        yield folder


@pytest.fixture
def paths(tmp_path, empty_mlflow_db) -> RunPaths:
    """Folder of a sweep with an empty MLflow store and nothing else."""
    run_paths = RunPaths(tmp_path / "out")
    run_paths.out.mkdir()
    shutil.copy(empty_mlflow_db, run_paths.mlflow_db)
    return run_paths


@pytest.fixture
def finished_sweep(demo_store, trial_of, tmp_path):
    """Train a sweep without Ray: `finished_sweep(models, seeds)` gives its folder."""

    def make(models: list[ModelConfig], seeds: int = 1) -> RunPaths:
        run_paths = RunPaths(tmp_path / "finished")
        trials = [trial_of(model, seed) for model in models for seed in range(seeds)]
        record = SweepRecord(SweepSpec("finished"), trials[0].data, str(demo_store.folder), "srcgcnn sweep")
        write_record(run_paths, record)
        for trial in trials:
            run_group(TrialGroup((trial,)), demo_store.folder, run_paths, checkpoint_interval_s=60)
        return run_paths

    return make


@pytest.hookimpl(tryfirst=True)  # xdist's own hook reads the groups
def pytest_collection_modifyitems(items):
    """Put tests of one file into one process, and let those of the full lane, which mostly wait, run anywhere.

    Tests that share a fixture of their file stay together. The long ones come first, so that short ones fill the end.
    """
    for item in items:
        if not item.get_closest_marker("full") or _shares_with_its_file(item):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    files = {item.path: 0 for item in items}
    for item in items:
        files[item.path] += bool(item.get_closest_marker("full"))
    items.sort(key=lambda item: -files[item.path])


def _shares_with_its_file(item):
    """Whether a test has a fixture that is set up once for its file."""
    used = item._fixtureinfo.name2fixturedefs.values()
    return any(found[-1].scope == "module" for found in used)
