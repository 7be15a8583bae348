"""A folder with the raw answers to one query: fetched once, resumable, a source of crystals without a network.

Pages are written as they come (`page-*.json.gz`), `snapshot.json` at the end: a folder without it is an unfinished
fetch, and the same command continues with the first missing page.
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
from srcgcnn.data.materials_project.client import BACKOFF_S, PAGE_DOCUMENTS, MpClient, MpError
from srcgcnn.data.materials_project.query import MP_TARGETS, MpQuery, target_values
from srcgcnn.data.source import Source, SourceError, SourceRow
from srcgcnn.files import write_bytes, write_text
from srcgcnn.records import as_dict, canonical_json, digest, parse, read_json, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MARK = "snapshot.json"
STARTED = "started.json"
IDS_FILE = "ids.csv"  # what became of listed ids
IDS_PER_PAGE = 100  # they travel in the address, which servers limit to some 8,000 characters
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
    """What an unfinished fetch needs when it continues."""

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
        renamed: listed ids that have another id now: (listed, present).
        lost: listed ids that are not there any more.
    """

    query: MpQuery
    database_version: str
    fetched_at: str
    expected: int
    pages: tuple[Page, ...]
    client: str
    renamed: tuple[tuple[str, str], ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def provenance(self) -> str:
        """Where the data is from and how to cite it, in one line."""
        origin = f"Materials Project, database {self.database_version}, fetched {self.fetched_at}, {self.query}"
        return f"{origin}; cite {CITATION}{GNOME_CITATION if self.query.filter.gnome else ''}"


def default_snapshot(query: MpQuery) -> Path:
    """Return where the snapshot of a query is by default: below the user's cache folder."""
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
        raise SourceError(
            f"{folder}: this fetch is not finished; run the same `srcgcnn data fetch mp` again to continue"
        )
    with reading(folder / MARK, SNAPSHOT):
        return parse(Snapshot, json.loads((folder / MARK).read_text(encoding="utf-8")), str(folder / MARK))


def fetch_snapshot(
    query: MpQuery,
    folder: Path,
    *,
    page_documents: int = PAGE_DOCUMENTS,
    backoff_s: float = BACKOFF_S,
    on_page: Callable[[int, int], None] | None = None,
) -> Snapshot:
    """Fetch the missing part of a snapshot; a complete one needs no request and no key.

    Args:
        query: targets and materials.
        folder: of the snapshot; absent, or of the same query.
        page_documents: the most to ask for at once.
        backoff_s: first wait after a failure.
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
        client = MpClient(backoff_s)
        version = client.database_version()
        if query.ids:
            return _fetch_ids(client, _started(folder, query, version), query, version, folder, on_page)
        start = _started(folder, query, version) or _start(client, query, version, folder, page_documents)
        return _finish(client, start, folder, on_page)


def _same_query(folder: Path, found: MpQuery, requested: MpQuery) -> None:
    if found != requested:
        raise SourceError(
            f"{folder} holds another query ({', '.join(found.targets)}; {found}), requested "
            f"({', '.join(requested.targets)}; {requested}); choose another --out"
        )


def _started(folder: Path, query: MpQuery, version: str) -> FetchStart | None:
    """Return the fetch that was interrupted here, if it can continue."""
    path = folder / STARTED
    if not path.is_file():
        if any(folder.iterdir()):
            raise SourceError(f"{folder} is not empty and not a snapshot; choose another --out")
        return None
    start = parse(FetchStart, read_json(path), str(path))
    _same_query(folder, start.query, query)
    _same_version(folder, start, version)
    return start


def _same_version(folder: Path, start: FetchStart, version: str) -> None:
    """Refuse a change; called after every page and before it is kept, so that all pages are of one database."""
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
        pages.append(_page_of(path, documents))
        got = sum(page.documents for page in pages)
        if on_page:
            on_page(got, start.expected)
    if got != start.expected:
        raise MpError(
            f"the Materials Project promised {start.expected} materials and gave {got}; delete {folder}, retry"
        )
    return _conclude(start, folder, pages, got)


def _conclude(
    start: FetchStart,
    folder: Path,
    pages: Sequence[Page],
    got: int,
    renamed: tuple[tuple[str, str], ...] = (),
    lost: tuple[str, ...] = (),
) -> Snapshot:
    """Write what makes a snapshot complete."""
    from mp_api.client.core.client import __version__ as client_version

    today, client = datetime.now(UTC).date().isoformat(), f"mp-api {client_version}"
    snapshot = Snapshot(start.query, start.database_version, today, got, tuple(pages), client, renamed, lost)
    write_text(folder / MARK, json.dumps(as_dict(snapshot), indent=1) + "\n")
    return snapshot


def _fetch_ids(
    client: MpClient,
    start: FetchStart | None,
    query: MpQuery,
    version: str,
    folder: Path,
    on_page: Callable[[int, int], None] | None,
) -> Snapshot:
    """Fetch listed materials: first all by their ids, then those that are missing by their present names."""
    if start is None:
        start = FetchStart(query, version, IDS_PER_PAGE, len(query.ids))
        write_text(folder / STARTED, json.dumps(as_dict(start), indent=1) + "\n")
    found: dict[str, Any] = {}  # id -> nothing: what is there
    renamed: dict[str, str] = {}
    pages: list[Page] = []

    def add(ids: Sequence[str], ask: Callable[[Sequence[str]], tuple[list[Any], dict[str, str]]]) -> None:
        path = _page_file(folder, len(pages))
        if not path.exists():
            documents, names = ask(ids)
            _same_version(folder, start, client.database_version())
            _write_documents(path, start, documents, names)
        documents = _read_page(path)
        renamed.update(_read_record(path).get("renamed", {}))
        found.update(dict.fromkeys(str(document.get("material_id")) for document in documents))
        pages.append(_page_of(path, documents))
        if on_page:
            on_page(len(found), len(query.ids))

    def by_present_name(ids: Sequence[str]) -> tuple[list[Any], dict[str, str]]:
        names = client.renamed(ids)
        new = sorted(set(names.values()) - found.keys())
        return (_by_id(client.of_ids(query, new)) if new else []), names

    for chunk in _chunks(query.ids):
        add(chunk, lambda ids: (_by_id(client.of_ids(query, ids)), {}))
    for chunk in _chunks([one for one in query.ids if one not in found]):
        add(chunk, by_present_name)
    if not found:
        raise MpError(f"none of the {len(query.ids):,} listed ids is in the Materials Project, under any name")
    moved = tuple((one, renamed[one]) for one in query.ids if renamed.get(one) in found and one not in found)
    lost = tuple(one for one in query.ids if one not in found and one not in dict(moved))
    _write_ids(folder / IDS_FILE, query.ids, dict(moved), set(lost))
    return _conclude(start, folder, pages, len(found), moved, lost)


def _chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[first : first + IDS_PER_PAGE] for first in range(0, len(ids), IDS_PER_PAGE)]


def _by_id(documents: list[Any]) -> list[Any]:
    """Order documents as every other fetch does: by material id, compared as text."""
    return sorted(documents, key=lambda document: str(document.get("material_id")))


def _write_ids(path: Path, ids: Sequence[str], renamed: dict[str, str], lost: set[str]) -> None:
    """Write what became of every listed id."""
    rows = [(one, "" if one in lost else renamed.get(one, one), _fate(one, renamed, lost)) for one in ids]
    write_text(path, "\n".join(["id,present_id,fate", *(",".join(row) for row in rows)]) + "\n")


def _fate(one: str, renamed: dict[str, str], lost: set[str]) -> str:
    return "lost" if one in lost else "renamed" if one in renamed else "found"


def _page_file(folder: Path, number: int) -> Path:
    return folder / f"page-{number:05}.json.gz"


def _write_page(folder: Path, start: FetchStart, number: int, documents: list[Any]) -> None:
    """Write one page with its query, database version and time: it can be understood alone."""
    _write_documents(_page_file(folder, number), start, documents[: start.expected - number * start.page_documents])


def _page_of(path: Path, documents: list[Any]) -> Page:
    return Page(path.name, len(documents), hashlib.sha256(canonical_json(documents).encode()).hexdigest())


def _write_documents(
    path: Path, start: FetchStart, documents: list[Any], renamed: dict[str, str] | None = None
) -> None:
    record = {
        "query": asdict(start.query),
        "database_version": start.database_version,
        "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "documents": documents,
        **({"renamed": renamed} if renamed else {}),
    }
    write_bytes(path, gzip.compress(json.dumps(record).encode(), compresslevel=5))


def _read_page(path: Path) -> list[Any]:
    return list(_read_record(path)["documents"])


def _read_record(path: Path) -> dict[str, Any]:
    with reading(path, SNAPSHOT):
        with gzip.open(path) as stream:
            text = stream.read(MOST_PAGE_BYTES + 1)
        if len(text) > MOST_PAGE_BYTES:
            raise SourceError(f"{path} unpacks to more than {MOST_PAGE_BYTES / 2**30:g} GiB")
        record = json.loads(text)
        record["documents"]  # a page without them is damaged
        return dict(record)


def open_snapshot(folder: Path, targets: Sequence[str] | None = ()) -> Source:
    """Open a complete snapshot as a source.

    Raises:
        SourceError: it is not complete, or has no such target.
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
        documents = _read_page(folder / page.file)
        if _page_of(folder / page.file, documents) != page:
            raise SourceError(f"{folder / page.file} has changed since it was fetched; delete {folder}, fetch again")
        for document in documents:
            yield _row(document, number, targets)
            number += 1


def _row(document: Any, number: int, targets: tuple[str, ...]) -> SourceRow:
    if not isinstance(document, dict):
        return error_row(f"row-{number}", f"the document is not an object but {type(document).__name__}")
    row_id = row_identity(document.get("material_id"), number)
    values = target_values(document, targets)
    structure = document.get("structure")
    if not isinstance(structure, dict):
        return error_row(row_id, "the document has no structure", values)
    return SourceRow(row_id, "dict", structure, values)
