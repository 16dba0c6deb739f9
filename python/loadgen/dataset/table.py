"""CSV and TSV datasets: a header that names the columns, then a record a row; quoted fields may hold line ends."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TYPE_CHECKING

from loadgen.dataset.lines import MAX_LINE, Lines
from loadgen.errors import DatasetError

if TYPE_CHECKING:
    from _csv import Reader


def table(lines: Lines, name: str, delimiter: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ``(place, row)`` of a table, a row by its columns' names; blank lines are left out.

    Args:
        lines: The file's lines.
        name: What errors call the file.
        delimiter: What stands between columns. A header without it but with ``;`` is read with that.
    Raises:
        DatasetError: If the header names a column twice, a row has another width, or a quote is never closed.
    """
    text = lines.text()
    first = next(text, None)
    if first is None:
        raise DatasetError(f"{name} has no header line")
    if delimiter not in first[1] and ";" in first[1]:
        delimiter = ";"
    # Line ends go back in: within quotes they are part of the field.
    rows = csv.reader((line + "\n" for _, line in _chain(first, text)), delimiter=delimiter, strict=True)
    yield from _records(rows, name)


def _chain(first: tuple[int, str], rest: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield first
    yield from rest


def _records(rows: Reader, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    header: list[str] | None = None
    while True:
        start = rows.line_num + 1
        row = _next(rows, name, start)
        if row is None:
            return
        if not row:
            continue
        if header is None:
            header = _header(row, name)
        elif len(row) != len(header):
            raise DatasetError(f"{name}, line {start} has {len(row)} columns, but the header names {len(header)}")
        else:
            yield f"line {start}", dict(zip(header, row, strict=True))


def _next(rows: Reader, name: str, start: int) -> list[str] | None:
    # The module's limit is process-wide, so it is raised for one row and put back.
    before = csv.field_size_limit(MAX_LINE)
    try:
        return next(rows, None)
    except csv.Error as error:
        raise DatasetError(f"{name}, line {start} is not valid CSV: {error}") from error
    finally:
        csv.field_size_limit(before)


def _header(row: list[str], name: str) -> list[str]:
    twice = next((column for column in row if row.count(column) > 1), None)
    if twice is not None:
        raise DatasetError(f'{name} names the column "{twice}" twice in its header')
    return row
