"""A small server that answers as the Materials Project's API does: heartbeat and pages of summary documents.

Faults are put into `faults` and happen once each, in order, on the requests for documents.
"""

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

KEY = "0123456789abcdefghijklmnopqrstuv"  # 32 characters, as the real ones


@dataclass
class Materials:
    """What the server knows and what it was asked.

    `faults` holds statuses to answer with, `"cut"` (the connection ends in the middle of an answer), functions to call.
    """

    documents: list
    database_version: str = "2025.09.25"
    faults: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    answered: list = field(default_factory=list)


@contextmanager
def serving(materials):
    """Run the server on a free port and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            address = urlparse(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            others = {"heartbeat": heartbeat, "materials/core": former}
            if address.path.strip("/") in others:
                self.answer(200, others[address.path.strip("/")](materials, query))
                return
            assert address.path.strip("/") == "materials/summary", self.path
            materials.asked.append(query)
            fault = materials.faults.pop(0) if materials.faults else None
            if self.headers.get("x-api-key") != KEY:
                self.answer(401, {"message": f"Unauthorized: {self.headers.get('x-api-key')}"})
            elif callable(fault):
                fault()
                self.answer(200, page(materials, query))
            elif isinstance(fault, int):
                self.answer(fault, {"detail": "not now"}, retry_after=fault == 429)
            else:
                self.answer(200, page(materials, query), cut=fault == "cut")

        def answer(self, status, content, *, cut=False, retry_after=False):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if retry_after:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
            if status == 200 and not cut and "data" in content:
                materials.answered.append([document_id(document) for document in content["data"]])
            self.close_connection = True

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def document_id(document):
    return document.get("material_id") if isinstance(document, dict) else None


def heartbeat(materials, _query):
    return {
        "status": "OK",
        "db_version": materials.database_version,
        "version": "0.87.3",
        "access_controlled_batch_ids": [],
    }


def page(materials, query):
    """Answer a request for documents: filter, sort, cut out the page, keep the wanted fields."""
    found = [document for document in materials.documents if matches(document, query)]
    if query.get("_sort_fields") == "material_id":
        found.sort(key=lambda document: str(document_id(document)))
    size = int(query.get("_per_page", query["_limit"]))
    assert size <= 1000
    start = (int(query.get("_page", 1)) - 1) * size
    wanted = query["_fields"].split(",")
    shown = [
        {name: document[name] for name in wanted if name in document} if isinstance(document, dict) else document
        for document in found[start : start + size]
    ]
    return {"data": shown, "meta": {"api_version": "0.87.3", "total_doc": len(found)}}


def former(materials, query):
    """Answer which materials have calculations of these ids."""
    wanted = set(query["task_ids"].split(","))
    found = [document for document in materials.documents if wanted & set(document.get("task_ids", ()))]
    shown = [{"material_id": one["material_id"], "task_ids": one["task_ids"]} for one in found]
    return {"data": shown, "meta": {"api_version": "0.87.3", "total_doc": len(found)}}


def matches(document, query):
    return not isinstance(document, dict) or all(fits(document, name, value) for name, value in query.items())


def fits(document, name, value):
    stem, _, end = name.rpartition("_")
    inside, wanted = set(document.get("elements", ())), set(value.split(","))
    if end in ("min", "max"):
        held = document.get(stem)
        return held is not None and (held >= float(value) if end == "min" else held <= float(value))
    if name == "material_ids":
        return document["material_id"] in wanted
    if name in ("is_stable", "theoretical", "deprecated"):
        return str(document.get(name, False)) == value
    if name == "elements":
        return wanted <= inside
    if name == "exclude_elements":
        return not wanted & inside
    return name != "batch_id_not_eq" or document.get("batch_id") != value
