"""Site files: those of the project are valid, and a wrong one is refused with what is allowed."""

from pathlib import Path

import pytest

from srcgcnn.launch.site import LocalSite, parse_site, read_site
from srcgcnn.launch.slurm_site import SlurmSite
from srcgcnn.records import RecordError, parse

ROOT = Path(__file__).resolve().parents[2]


def test_every_site_file_of_the_project_is_valid_and_the_commented_values_of_slurm_toml_are_the_defaults():
    for path in (ROOT / "cluster").glob("*.toml"):
        assert read_site(path).kind in ("local", "ray", "slurm")
    assert read_site(ROOT / "cluster" / "slurm.toml") == SlurmSite()
    assert isinstance(read_site(ROOT / "cluster" / "local.toml"), LocalSite)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "pbs"}, "known kinds: local, slurm, ray"),
        ({"kind": "slurm", "acount": "a"}, "known keys: account"),
        ({"kind": "slurm", "worker": {"gpu": 1}}, "known keys: constraint, count"),
        ({"kind": "slurm", "worker": {"gpu_form": "gpu"}}, "gpu_form"),
        ({"kind": "slurm", "worker": {"count": 0}}, "count=0 must be positive"),
        ({"kind": "slurm", "cpus_per_group": 8}, "do not fit worker.cpus=4"),
        ({"kind": "slurm", "gpus_per_group": 2}, "do not fit worker.gpus=1"),
        ({"kind": "slurm", "port_range": [20000, 20001]}, "at least 10 ports"),
        ({"kind": "slurm", "environment": {"A B": "1"}}, "not the name of a variable"),
        ({"kind": "slurm", "worker": {"time_min": 1}}, "leaves no time"),
        ({"kind": "slurm", "max_jobs": 1}, "max_jobs=1"),
        ({"kind": "slurm", "gang": True, "more_workers": [{}]}, "take more_workers out"),
        ({"kind": "slurm", "more_workers": [{"gpus": 0}]}, "do not fit worker.gpus=0"),
    ],
)
def test_a_wrong_site_file_is_refused_with_what_is_allowed(values, message):
    with pytest.raises(RecordError, match=message):
        parse_site(values, "site.toml")


@pytest.mark.parametrize("place", ["site", "head", "worker"])
@pytest.mark.parametrize("extra", [{"nice=1\n#SBATCH --wrap": "x"}, {"comment": "a\nrm -rf ~"}, {"a b": 1}, {"": 1}])
def test_an_option_cannot_become_another_line(place, extra):
    data = {"kind": "slurm", "extra": extra} if place == "site" else {"kind": "slurm", place: {"extra": extra}}
    with pytest.raises(RecordError, match="extra"):
        parse(SlurmSite, data, "site.toml")
