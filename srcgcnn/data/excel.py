"""Tables of Excel (.xlsx) as records of text: values only, no formulas and no macros are run. Needs openpyxl."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

from srcgcnn.data.source import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from srcgcnn.data.limits import SourceLimits

EXCEL = ".xlsx"


def excel_records(path: Path, limits: SourceLimits) -> Iterator[list[str]]:
    """Yield the rows of the first sheet, the header first; empty rows are left out.

    Raises:
        SourceError: openpyxl is missing, or this is not such a file, or a larger one than the limit.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise SourceError(
            f"{path}: Excel files need openpyxl (pip install 'srcgcnn[excel]'); or save the sheet as .csv"
        ) from None
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > limits.unpacked_bytes:
            raise SourceError(f"{path} unpacks to {size / 2**30:.0f} GiB, the limit is {limits.unpacked_gib:g}")
        book = load_workbook(path, read_only=True, data_only=True)
    except SourceError:
        raise
    except Exception as error:  # noqa: BLE001 - openpyxl raises whatever the parser of a part does
        raise SourceError(f"{path} is not an Excel table (.xlsx): {type(error).__name__}: {error}") from None
    try:
        for row in book.worksheets[0].iter_rows(values_only=True):
            cells = [_text(value) for value in row]
            if any(cells):
                yield cells
    finally:
        book.close()


def _text(value: Any) -> str:
    return "" if value is None else str(value)
