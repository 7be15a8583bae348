"""What a process that trains shows of itself."""

import subprocess
import sys

import pytest

from srcgcnn.data.manifest import StoreError
from srcgcnn.driver.payload import GroupOrder, WorkerSettings
from srcgcnn.driver.preemption import NODE_STORE
from srcgcnn.driver.trainable import train_in_worker
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import TrialGroup

CODE = """
from pathlib import Path
from srcgcnn.driver.trainable import entitle
entitle("SR-CGCNN T=3 seed 1, epoch 4/60")
print(Path("/proc/self/cmdline").read_bytes().replace(bytes(1), b" ").decode())
"""


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_title_of_a_process_that_trains_names_trial_and_epoch():
    shown = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("ray::ImplicitFunc SR-CGCNN T=3 seed 1, epoch 4/60")


def test_a_node_that_does_not_see_the_graphs_condemns_no_trial(tmp_path, trial_of, monkeypatch):
    """Another node may see them: the group is tried again, and its trials have not failed."""
    group = TrialGroup((trial_of(ModelConfig("cgcnn", 1)),))
    settings = WorkerSettings(str(tmp_path / "gone"), str(tmp_path / "out"), 1, 60.0, ())
    monkeypatch.setenv(NODE_STORE, str(tmp_path / "wiped"))  # the copy of this node, which somebody removed
    with pytest.raises(StoreError, match="gone"):
        train_in_worker(GroupOrder(group, None, settings).as_config())
    assert not list(RunPaths(tmp_path / "out").failures.glob("*"))
