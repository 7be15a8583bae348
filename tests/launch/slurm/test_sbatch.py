"""The sbatch text against golden files: what would be submitted, without SLURM.

`UPDATE_GOLDEN=1 pytest tests/launch/slurm/test_sbatch.py` writes the golden files anew; read the difference.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from unusual_site import UNUSUAL

from srcgcnn.launch.site import parse_site, read_site
from srcgcnn.launch.slurm.sbatch import WorkerArray, build_executor, sbatch_texts, worker_arrays
from srcgcnn.launch.slurm_site import HeadRequest, SlurmSite, WorkerRequest
from srcgcnn.run.paths import RunPaths

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = Path(__file__).resolve().parent / "golden"
GANG = {"kind": "slurm", "gang": True, "worker": {"count": 3}}
GROUPS = 1000


@pytest.fixture
def here(monkeypatch, tmp_path):
    """A folder without a machine's own names: submitit writes absolute paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["slurm", "perlmutter", "kestrel", "ncstate", "unusual", "gang"])
def test_the_sbatch_text_is_the_golden_one(name, here):
    ours = {"unusual": UNUSUAL, "gang": GANG}
    site = parse_site(ours[name], name) if name in ours else read_site(ROOT / "cluster" / f"{name}.toml")
    site, paths = replace(site, python="python"), RunPaths(Path("runs/depth"))
    text = "\n".join(sbatch_texts(site, paths, "srcgcnn-depth", GROUPS).values()).replace(str(here), "/shared")
    golden = GOLDEN / f"sbatch_{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


def test_workers_are_as_many_as_are_of_use_and_arrays_no_longer_than_the_site_allows():
    site = SlurmSite(worker=WorkerRequest(count=2500, cpus=4, gpus=0))
    assert site.groups_on(site.worker) == 4
    assert site.worker_counts(9) == [3]
    assert worker_arrays(site, 100_000) == [WorkerArray(0, 1000), WorkerArray(0, 1000), WorkerArray(0, 500)]
    assert SlurmSite(gpus_per_group=0.5).workers == 8


def test_a_second_kind_of_worker_takes_what_the_first_leaves_and_no_user_limit_is_passed():
    site = SlurmSite(worker=WorkerRequest(count=4, gpus=2), more_workers=(WorkerRequest(count=6, max_array_size=4),))
    assert site.worker_counts(7) == [4, 0]
    assert site.worker_counts(11) == [4, 3]
    assert site.workers == 14
    assert worker_arrays(site, 99) == [WorkerArray(0, 4), WorkerArray(1, 4), WorkerArray(1, 2)]
    assert replace(site, max_jobs=6).worker_counts(99) == [4, 1]
    assert replace(site, max_jobs=3).worker_counts(99) == [2, 0]


def test_a_dropped_line_is_that_option_and_no_other(here):
    site = SlurmSite(drop=("mem", "nodes"), extra={"mem-bind": "local"})
    text = build_executor(site, here, HeadRequest(), "depth").text(["ask", "StoreJob"])
    assert "#SBATCH --mem-bind=local" in text
    assert "#SBATCH --mem=" not in text
    assert "#SBATCH --nodes" not in text
