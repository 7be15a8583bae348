"""Tests of one file run in one process of xdist; where its groups are not seen, nothing else would say so."""

import pytest


def test_xdist_sees_the_groups(request):
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("not in a process of xdist --dist loadgroup")
    assert request.node.nodeid.endswith("@test_lanes")
