"""The files through which the jobs of a sweep find each other."""

from unusual_site import UNUSUAL

from srcgcnn.launch.rendezvous import LaunchRequest, read_request, write_request
from srcgcnn.launch.site import parse_site
from srcgcnn.run.paths import RunPaths


def test_the_request_of_a_sweep_survives_its_file(tmp_path):
    paths, request = RunPaths(tmp_path), LaunchRequest(parse_site(UNUSUAL, "unusual"), "sqlite:///x.db", "login1")
    write_request(paths, request)
    assert read_request(paths) == request
