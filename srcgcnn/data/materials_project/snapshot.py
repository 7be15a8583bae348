"""A folder with the raw answers to one query: fetched once, resumable, a source of crystals without a network.

Pages are written as they come (`page-*.json.gz`), `snapshot.json` at the end: a folder without it is an unfinished
fetch, and the same command goes on with the first page that is missing.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from srcgcnn.data.columns import choose_targets, error_row, reading, row_identity
from srcgcnn.data.materials_project.client import BACKOFF_SECONDS, PAGE_DOCUMENTS, MpClient, MpError
from srcgcnn.data.materials_project.query import MP_TARGETS, MpQuery, target_values
from srcgcnn.data.source import Source, SourceError, SourceRow
from srcgcnn.files import write_bytes, write_text
from srcgcnn.records import as_dict, canonical_json, digest, parse, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MARK = "snapshot.json"
STARTED = "started.json"
MOST_PAGE_BYTES = 2**30  # a page of 1,000 structures has about 10 MB
SNAPSHOT = "Materials Project snapshot"
CITATION = (
    "A. Jain et al., Commentary: The Materials Project, APL Materials 1, 011002 (2013), doi:10.1063/1.4812323; "
    "data under CC BY 4.0"
)
GNOME_CITATION = "; with GNoME: A. Merchant et al., Nature 624, 80 (2023), doi:10.1038/s41586-023-06735-9, CC BY-NC 4.0"


@dataclass(frozen=True)
class Page:
    """One file of raw documents; the hash is of their content, so that two fetches of the same data agree."""

    file: str
    documents: int
    sha256: str


@record
class FetchStart:
    """What an unfinished fetch must find again when it goes on."""

    query: MpQuery
    database_version: str
    page_documents: int
    expected: int


@record
class Snapshot:
    """Contents of `snapshot.json`.

    Attributes:
        expected: materials that the API promised for the query, after its limit.
        fetched_at: day of the last page.
    """

    query: MpQuery
    database_version: str
    fetched_at: str
    expected: int
    pages: tuple[Page, ...]
    client: str

    @property
    def provenance(self) -> str:
        """Where the data is from and how to cite it, in one line."""
        origin = f"Materials Project, database {self.database_version}, fetched {self.fetched_at}, {self.query.filter}"
        return f"{origin}; cite {CITATION}{GNOME_CITATION if self.query.filter.gnome else ''}"


def default_snapshot(query: MpQuery) -> Path:
    """Return where the snapshot of a query lies when nobody says otherwise: below the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "srcgcnn" / "materials-project" / query.key


def is_snapshot(folder: Path) -> bool:
    """Whether a fetch was started or finished here."""
    return is_complete(folder) or (folder / STARTED).is_file()


def is_complete(folder: Path) -> bool:
    """Whether all pages are here."""
    return (folder / MARK).is_file()


def read_snapshot(folder: Path) -> Snapshot:
    """Read what a snapshot holds.

    Raises:
        SourceError: the fetch has not ended, or the file is damaged.
    """
    if not is_complete(folder):
        raise SourceError(f"{folder}: this fetch has not ended; run the same `srcgcnn data fetch mp` again to go on")
    with reading(folder / MARK, SNAPSHOT):
        return parse(Snapshot, json.loads((folder / MARK).read_text(encoding="utf-8")), str(folder / MARK))


def fetch_snapshot(
    query: MpQuery,
    folder: Path,
    *,
    page_documents: int = PAGE_DOCUMENTS,
    backoff_seconds: float = BACKOFF_SECONDS,
    on_page: Callable[[int, int], None] | None = None,
) -> Snapshot:
    """Fetch what is missing of a snapshot, or find it whole; then nothing is asked and no key is needed.

    Args:
        query: targets and materials.
        folder: of the snapshot; absent, or of the same query.
        page_documents: the most to ask for at once.
        backoff_seconds: first wait after a failure.
        on_page: called with the documents so far and their total.

    Raises:
        MpError: no key, no answer, no match, or another database version than at the start.
        SourceError: the folder holds another query.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if is_complete(folder):
            snapshot = read_snapshot(folder)
            _same_query(folder, snapshot.query, query)
            return snapshot
        client = MpClient(backoff_seconds)
        version = client.database_version()
        start = _started(folder, query, version) or _start(client, query, version, folder, page_documents)
        return _finish(client, start, folder, on_page)


def _same_query(folder: Path, found: MpQuery, wanted: MpQuery) -> None:
    if found != wanted:
        raise SourceError(
            f"{folder} holds another query ({', '.join(found.targets)}; {found.filter}), wanted "
            f"({', '.join(wanted.targets)}; {wanted.filter}); choose another --out"
        )


def _started(folder: Path, query: MpQuery, version: str) -> FetchStart | None:
    """Return the fetch that was interrupted here, if it can go on."""
    path = folder / STARTED
    if not path.is_file():
        if any(folder.iterdir()):
            raise SourceError(f"{folder} is not empty and no snapshot; choose another --out")
        return None
    start = parse(FetchStart, json.loads(path.read_text(encoding="utf-8")), str(path))
    _same_query(folder, start.query, query)
    _same_version(folder, start, version)
    return start


def _same_version(folder: Path, start: FetchStart, version: str) -> None:
    """Refuse a change; asked after every page and before it is kept, so that all pages are of one database."""
    if version != start.database_version:
        raise MpError(
            f"the Materials Project has changed from database {start.database_version} to {version} since this fetch "
            f"began, and a mixture is no dataset; delete {folder} and run the same command again"
        )


def _start(client: MpClient, query: MpQuery, version: str, folder: Path, page_documents: int) -> FetchStart:
    """Fetch the first page, which tells how many materials match."""
    limit = query.filter.limit or math.inf
    # equal pages, so that at most a few documents beyond the limit travel; the first one is of the same size
    size = page_documents if limit == math.inf else math.ceil(limit / math.ceil(limit / page_documents))
    documents = client.page(query, 0, size)
    if not documents:
        raise MpError(f"no material matches ({query.filter}; targets {', '.join(query.targets)}); loosen the filters")
    total = len(documents) if client.total is None else client.total
    start = FetchStart(query, version, size, int(min(limit, total)))
    _same_version(folder, start, client.database_version())
    write_text(folder / STARTED, json.dumps(as_dict(start), indent=1) + "\n")
    _write_page(folder, start, 0, documents)
    return start


def _finish(client: MpClient, start: FetchStart, folder: Path, on_page: Callable[[int, int], None] | None) -> Snapshot:
    pages = []
    for number in range(math.ceil(start.expected / start.page_documents)):
        path = _page_file(folder, number)
        if not path.exists():
            documents = client.page(start.query, number, start.page_documents)
            _same_version(folder, start, client.database_version())
            _write_page(folder, start, number, documents)
        documents = _read_page(path)
        pages.append(Page(path.name, len(documents), hashlib.sha256(canonical_json(documents).encode()).hexdigest()))
        got = sum(page.documents for page in pages)
        if on_page:
            on_page(got, start.expected)
    if got != start.expected:
        raise MpError(
            f"the Materials Project promised {start.expected} materials and gave {got}; delete {folder}, retry"
        )
    from mp_api.client.core.client import __version__ as client_version

    today = datetime.now(UTC).date().isoformat()
    snapshot = Snapshot(
        start.query, start.database_version, today, start.expected, tuple(pages), f"mp-api {client_version}"
    )
    write_text(folder / MARK, json.dumps(as_dict(snapshot), indent=1) + "\n")
    return snapshot


def _page_file(folder: Path, number: int) -> Path:
    return folder / f"page-{number:05}.json.gz"


def _write_page(folder: Path, start: FetchStart, number: int, documents: list[Any]) -> None:
    """Write one page with its query, database version and time: it can be understood alone."""
    kept = documents[: start.expected - number * start.page_documents]
    record = {
        "query": asdict(start.query),
        "database_version": start.database_version,
        "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "documents": kept,
    }
    write_bytes(_page_file(folder, number), gzip.compress(json.dumps(record).encode(), compresslevel=5))


def _read_page(path: Path) -> list[Any]:
    with reading(path, SNAPSHOT):
        with gzip.open(path) as stream:
            text = stream.read(MOST_PAGE_BYTES + 1)
        if len(text) > MOST_PAGE_BYTES:
            raise SourceError(f"{path} unpacks to more than {MOST_PAGE_BYTES / 2**30:g} GiB")
        return json.loads(text)["documents"]


def open_snapshot(folder: Path, targets: Sequence[str] | None = ()) -> Source:
    """Open a whole snapshot as a source.

    Raises:
        SourceError: it is not whole, or has no such target.
    """
    snapshot = read_snapshot(folder)
    held = snapshot.query.targets
    chosen = choose_targets(str(folder), targets or held, held, held)
    return Source(
        name="mp",
        content_hash=digest([SNAPSHOT, [page.sha256 for page in snapshot.pages]]),
        targets=chosen,
        units=tuple(MP_TARGETS[name].unit for name in chosen),
        provenance=snapshot.provenance,
        count=snapshot.expected,
        rows=partial(_rows, folder, snapshot, chosen),
    )


def _rows(folder: Path, snapshot: Snapshot, targets: tuple[str, ...]) -> Iterator[SourceRow]:
    number = 0
    for page in snapshot.pages:
        for document in _read_page(folder / page.file):
            yield _row(document, number, targets)
            number += 1


def _row(document: Any, number: int, targets: tuple[str, ...]) -> SourceRow:
    if not isinstance(document, dict):
        return error_row(f"row-{number}", f"the document is no object but {type(document).__name__}")
    row_id = row_identity(document.get("material_id"), number)
    values = target_values(document, targets)
    structure = document.get("structure")
    if not isinstance(structure, dict):
        return error_row(row_id, "the document has no structure", values)
    return SourceRow(row_id, "dict", structure, values)
