"""A file's records, whatever form it has: which reader it needs, and where each record stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from loadgen.dataset.json_lines import json_lines, json_list, sha256
from loadgen.dataset.lines import BOM, Lines, open_file
from loadgen.dataset.table import table
from loadgen.errors import DatasetError

_NOT_READ = {
    ".parquet": "Parquet",
    ".arrow": "Arrow",
    ".gz": "compressed",
    ".zst": "compressed",
    ".xz": "compressed",
    ".bz2": "compressed",
    ".zip": "compressed",
}


class Records:
    """The records of a file: ``(place, record)`` one after the other, the place such as ``line 17`` for errors.

    A record is a decoded JSON value, a row of a table by its columns' names, or a line of plain text that isn't blank.
    Use it as a context manager, and go through it once.

    Args:
        path: A JSONL, JSON (a list), CSV, TSV or text file.

    Raises:
        DatasetError: If it can't be read, or is of a form that isn't.
    """

    def __init__(self, path: Path) -> None:
        if (kind := _NOT_READ.get(path.suffix.lower())) is not None:
            raise DatasetError(f"the dataset {path} is {kind}, which isn't read", "convert it to JSONL")
        self.path = path
        self.name = str(path)
        """What errors call the file."""
        self._file = open_file(path)
        self.form = self._form()
        """``jsonl``, ``list``, ``csv``, ``tsv`` or ``text``."""
        self._lines = Lines(self._file, self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        if self.form == "list":
            return json_list(self._file, self.name)
        if self.form == "jsonl":
            return json_lines(self._lines, self.name)
        if self.form in ("csv", "tsv"):
            return table(self._lines, self.name, "," if self.form == "csv" else "\t")
        return ((f"line {number}", line) for number, line in self._lines.text() if line.strip())

    def sha256(self) -> str:
        """Return the hex digest of the whole file; the records are gone through by then."""
        return sha256(self._file) if self.form == "list" else self._lines.sha256()

    def _form(self) -> str:
        """Tell the file's form by its name, or by its first character where the name says nothing."""
        suffix = self.path.suffix.lower()
        if suffix in (".jsonl", ".ndjson"):
            return "jsonl"
        if suffix in (".csv", ".tsv"):
            return suffix[1:]
        if suffix == ".txt":
            return "text"
        start = self._file.read(4096).removeprefix(BOM).lstrip()
        self._file.seek(0)
        if start.startswith(b"["):
            return "list"
        return "jsonl" if suffix == ".json" or start.startswith(b"{") else "text"
