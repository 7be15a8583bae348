"""A Materials Project to fetch from: a small server that answers, and fails, as the real one does."""

import socket

import pytest
from mp_fetch import COUNT, ENDPOINT
from mp_server import KEY, Materials, serving

from srcgcnn.data.demo import demo_source
from srcgcnn.data.materials_project import client as mp_client


def documents(count=COUNT):
    """Documents as the summary endpoint has them, with crystals of the demonstration dataset."""
    made = []
    for number, row in enumerate(demo_source(count).rows()):
        crystal = row.content.remove_oxidation_states()
        made.append(
            {
                "material_id": f"mp-{number + 1}",
                "structure": crystal.as_dict(),
                "elements": sorted({site.specie.symbol for site in crystal}),
                "nsites": len(crystal),
                "formation_energy_per_atom": row.targets["electrostatic_energy"] / 10,
                "energy_above_hull": 0.01 * (number % 5),
                "is_stable": number % 5 == 0,
                "band_gap": 0.25 * (number % 4),
                "bulk_modulus": {"voigt": 102.0, "reuss": 98.0, "vrh": 100.0 + number},
                "theoretical": number % 2 == 0,
                "batch_id": "gnome_r2scan_statics" if number == 7 else None,
                "description": "x" * 500,  # nobody asks for it
            }
        )
    return made


@pytest.fixture(scope="module")
def made():
    return documents()


@pytest.fixture
def materials(made, monkeypatch, tmp_path):
    """A running server; the client is led to it as a user would, and to nowhere else."""
    known = Materials([dict(document) for document in made])
    with serving(known) as address:
        monkeypatch.setattr(ENDPOINT, address)
        monkeypatch.setattr(mp_client, "ATTEMPTS", 3)
        monkeypatch.setenv("MP_API_KEY", KEY)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        only_this_machine(monkeypatch)
        yield known


def only_this_machine(monkeypatch):
    from mp_api.client.core.client import _Rester

    _Rester._get_heartbeat_info.cache_clear()
    connect = socket.socket.connect

    def local(self, address):
        assert not isinstance(address, tuple) or address[0] == "127.0.0.1", address
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)
