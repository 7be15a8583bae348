"""Requests to the Materials Project through mp-api, and its failures in one line each.

The key comes from `MP_API_KEY` or pymatgen's configuration, travels in a header that mp-api sets, and is stored nowhere
else. Only the API's own host is queried: mp-api takes whole tables from AWS when a search has no condition, and ours
always has one.
"""

from __future__ import annotations

import time
import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from srcgcnn.data.materials_project.query import MpQuery

KEY_PAGE = "https://next-gen.materialsproject.org/api"
PAGE_DOCUMENTS = 1000  # the most that the API gives at once (emmet-api's PaginationQuery)
TIMEOUT_S = 60  # a page of 1,000 structures is about 10 MB
# mp-api itself tries four times within a second, waits as long as a Retry-After header says, and gives up at once after
# 500, 503 or a connection that breaks in the middle of an answer; these attempts are around that
ATTEMPTS = 6
BACKOFF_S = 1.0  # doubles with every attempt
TRANSIENT_STATUS = (429, 500, 502, 503, 504)


class MpError(RuntimeError):
    """The Materials Project did not answer as needed; the message says why and what to do."""


class MpClient:
    """The summary endpoint, page by page.

    Attributes:
        total: materials that match the query, known after the first page.
    """

    def __init__(self, backoff_s: float = BACKOFF_S) -> None:
        """Find the key and contact the API.

        Raises:
            MpError: no key, or no answer.
        """
        from mp_api.client.routes.materials.summary import SummaryRester

        self.total: int | None = None
        self._status: int | None = None
        self._backoff_s = backoff_s
        self._key = _api_key()
        self._rester = self._answer(
            lambda: SummaryRester(use_document_model=False, mute_progress_bars=True, timeout=TIMEOUT_S)
        )
        self._rester.session.hooks["response"].append(self._look)

    def database_version(self) -> str:
        """Return the version that the API serves now; mp-api remembers the first answer, so it is requested here."""
        heartbeat = f"{self._rester.base_endpoint}heartbeat"
        answer = self._answer(lambda: self._rester.session.get(heartbeat, timeout=TIMEOUT_S).json())
        version = answer.get("db_version") if isinstance(answer, dict) else None
        if not version:
            raise MpError(
                f"{heartbeat} names no database version: the service is incomplete at the moment; try again later"
            )
        return str(version)

    def page(self, query: MpQuery, number: int, documents: int) -> list[Any]:
        """Return one page of raw documents, sorted by material id.

        Args:
            query: the query.
            number: of the page, from 0.
            documents: on a page.

        Raises:
            MpError: a wrong key, a query that the API refuses, or no complete answer after some attempts.
        """
        return self._answer(
            lambda: self._rester.search(
                **query.search_arguments,
                fields=query.fields,
                chunk_size=documents,
                num_chunks=1,
                _page=number + 1,  # the API counts from 1
                _sort_fields="material_id",
            )
        )

    def of_ids(self, query: MpQuery, ids: Sequence[str]) -> list[Any]:
        """Return the raw documents of some materials, in no order; those that are not there are missing.

        Raises:
            MpError: as `page`.
        """
        arguments = {**query.search_arguments, "material_ids": list(ids), "fields": query.fields}
        return self._answer(lambda: self._rester.search(**arguments, chunk_size=PAGE_DOCUMENTS, num_chunks=1))

    def renamed(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the present ids of renamed materials; a former id is that of a calculation.

        Raises:
            MpError: as `page`.
        """
        documents = self._answer(
            lambda: self._materials.search(
                task_ids=list(ids), fields=["material_id", "task_ids"], chunk_size=PAGE_DOCUMENTS, num_chunks=1
            )
        )
        requested, found = set(ids), {}
        for document in documents:
            for former in requested & {str(one) for one in document.get("task_ids") or ()}:
                found[former] = str(document["material_id"])
        return found

    @cached_property
    def _materials(self) -> Any:
        from mp_api.client.routes.materials.materials import MaterialsRester

        rester = self._answer(
            lambda: MaterialsRester(use_document_model=False, mute_progress_bars=True, timeout=TIMEOUT_S)
        )
        rester.session.hooks["response"].append(self._look)
        return rester

    def _look(self, response: Any, **_: Any) -> None:
        """Keep what mp-api does not return: the status of an answer and the number of matches."""
        self._status = response.status_code
        if self.total is None and response.status_code == 200:
            meta = response.json().get("meta") or {}
            self.total = meta.get("total_doc")

    def _answer(self, ask: Callable[[], Any]) -> Any:
        """Try again while the connection breaks; other errors are raised at once."""
        from mp_api.client.core.exceptions import MPRestError
        from requests.exceptions import RequestException

        for attempt in range(1, ATTEMPTS + 1):
            self._status = None
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # mp-api warns of its own habits
                    return ask()
            except (MPRestError, RequestException, KeyError, ValueError) as error:
                reason = self._without_key(error)
                if self._status in (401, 403):
                    raise MpError(f"the Materials Project refuses the key (status {self._status}); {_ADVICE}") from None
                if self._status not in (None, 200, *TRANSIENT_STATUS):
                    raise MpError(f"the Materials Project refuses the query: {reason}") from None
            if attempt < ATTEMPTS:
                time.sleep(self._backoff_s * 2 ** (attempt - 1))
        raise MpError(
            f"no complete answer from the Materials Project after {ATTEMPTS} attempts ({reason}); check the network, "
            "or fetch on a machine that has one; the same command continues where it stopped"
        )

    def _without_key(self, error: Exception) -> str:
        """Return the text of an error in one line; a server may echo what it was sent."""
        text = " ".join(str(error).split()).replace(self._key, "<key>")
        return text[:300] or type(error).__name__


_ADVICE = f"get one at {KEY_PAGE} and put it into the environment variable MP_API_KEY"


def _api_key() -> str:
    """Return the key as mp-api finds it.

    Raises:
        MpError: there is none, or it is not valid.
    """
    from mp_api.client.core.exceptions import MPRestError
    from mp_api.client.core.utils import validate_api_key

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            key = validate_api_key()
    except MPRestError:
        raise MpError(f"the key for the Materials Project is not valid (keys have 32 characters); {_ADVICE}") from None
    if not key:
        raise MpError(f"no key for the Materials Project; {_ADVICE}")
    return key
