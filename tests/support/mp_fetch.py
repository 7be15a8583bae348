"""Fetching from the small server of `mp_server.py`, as tests do."""

from srcgcnn.data.materials_project.query import MpQuery
from srcgcnn.data.materials_project.snapshot import fetch_snapshot, open_snapshot

COUNT = 23  # documents of the server
ENDPOINT = "mp_api.client.core.settings.MAPI_CLIENT_SETTINGS.ENDPOINT"  # mp_api takes seconds to import
ENERGY = MpQuery(("formation_energy",))


def fetch(folder, query=ENERGY, **options):
    return fetch_snapshot(query, folder, **{"page_documents": 5, "backoff_s": 0.01, **options})


def ids(folder):
    return [row.row_id for row in open_snapshot(folder).rows()]
