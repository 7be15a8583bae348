"""What a process that trains shows of itself."""

import subprocess
import sys

import pytest

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
