"""What a batch leaves behind: its answers as JSON lines in the order of its items, and a grid's matrix as CSV."""

from __future__ import annotations

import csv
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from loadgen.cli.dispatch.asked import Source
from loadgen.dispatch.requests import Answer
from loadgen.dispatch.result import CallResult
from loadgen.errors import ConfigError, DispatchError

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")

_encode = msgspec.json.Encoder(enc_hook=repr).encode


class Written(msgspec.Struct, omit_defaults=True):
    """A call as it is written: ``item``, or ``row`` and ``col``, and a value or an error.

    Args:
        index: Its place, from 0.
        ok: Whether there is a value.
        item: What it was made of, in a list.
        row: What it was made of, in a grid.
        col: As ``row``.
        value: The answer's text.
        reasoning: What the model thought before it, where the server tells.
        finish: Why the model stopped: ``stop``, ``length``, …
        error: Why there is none.
        restored: Whether a journal had it.
        stats: What it met; times are seconds since the batch began.
    """

    index: int
    ok: bool
    item: Any = msgspec.UNSET
    row: Any = msgspec.UNSET
    col: Any = msgspec.UNSET
    value: str | msgspec.UnsetType = msgspec.UNSET
    reasoning: str = ""
    finish: str = ""
    error: str | msgspec.UnsetType = msgspec.UNSET
    restored: bool = False
    stats: Any = None


def answer(source: Source, call: CallResult[Any]) -> Written:
    """Return a call as it is written."""
    stats = call.stats
    given = None if stats is None else {name: getattr(stats, name) for name in stats.__struct_fields__}
    if given is not None:
        given["waits"] = dict(given["waits"])
    return written(source, call.index, call.error if call.error is not None else call.value, call.restored, given)


def written(source: Source, index: int, outcome: Any, restored: bool, stats: Any) -> Written:
    """Return what is written of a call: of its answer, or of why it has none.

    Args:
        source: What it was made of.
        index: Its place, from 0.
        outcome: Its :class:`Answer`, or its error.
        restored: Whether a journal had the answer.
        stats: What it met.
    """
    made_of = source.calls[index]
    if not isinstance(outcome, Answer):
        return Written(index, ok=False, error=reason(outcome or "failed"), stats=stats, **made_of)
    return Written(
        index,
        ok=True,
        value=outcome.text,
        reasoning=outcome.reasoning,
        finish=outcome.finish,
        restored=restored,
        stats=stats,
        **made_of,
    )


def reason(error: BaseException | str) -> str:
    """Return why a call failed, in one line."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}".removesuffix(": ")
    return " ".join(text.split())


class Replaced:
    """A private file that takes its name, and the place of one that has it, when it is written; use it in a ``with``.

    What isn't a plain file, such as ``/dev/null`` or a pipe, keeps its place and is written to.

    Args:
        path: The file; None for none.
        flag: How the user gives it.

    Raises:
        ConfigError: On entering, if it can't be made.
    """

    def __init__(self, path: str | None, flag: str) -> None:
        self._path = None if path is None else Path(path)
        self._flag = flag
        self._temporary: Path | None = None

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        if self._path.is_dir():
            raise ConfigError(f"{self._flag} {self._path} is a directory", "name a file in it")
        if self._path.exists() and not self._path.is_file():
            return self
        place = self._path.resolve()  # of a link, what it names is replaced
        temporary = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise ConfigError(
                f"can't write {self._flag} {self._path}: {error.strerror or error}", "name another file"
            ) from None
        self._temporary = temporary
        return self

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def put(self, pieces: Iterable[bytes]) -> None:
        """Write the file, all of it, and give it its name.

        Raises:
            DispatchError: If the disk refuses; the file that had the name is still there.
        """
        assert self._path is not None
        try:
            if self._temporary is None:
                with self._path.open("wb") as file:
                    file.writelines(pieces)
                return
            with self._temporary.open("wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            self._temporary.replace(self._path.resolve())
        except OSError as error:
            raise DispatchError(
                f"can't write {self._flag} {self._path}: {error.strerror or error}",
                "the answers are in the journal, if one was kept",
            ) from None
        self._temporary = None


def lines(answers: Iterable[Written]) -> Iterator[bytes]:
    """Yield answers as lines of JSON."""
    return (_encode(one) + b"\n" for one in answers)


def to_stdout(pieces: Iterable[bytes]) -> None:
    """Write to standard output; unbuffered it takes as much at a time as a pipe holds.

    Raises:
        OSError: If the reader is gone.
    """
    for piece in pieces:
        left = memoryview(piece)
        while left:
            left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()


def matrix(source: Source, values: Mapping[int, str]) -> bytes:
    """Return a grid as CSV: a row's name and its cells on each line, the columns' names above.

    Args:
        source: The grid.
        values: What stands in the cells, by index; a cell that isn't there is left empty.
    """
    text = io.StringIO()
    sheet = csv.writer(text)
    sheet.writerow(["", *map(_cell, source.columns)])
    width = len(source.columns)
    for row, name in enumerate(source.rows):
        cells = (values.get(index, "") for index in range(row * width, (row + 1) * width))
        sheet.writerow([_cell(name), *map(_cell, cells)])
    return text.getvalue().encode()


def cell(one: Written) -> str:
    """Return what stands for a call in the matrix: its answer, or that it is unknown and why."""
    if not one.ok:
        return f"unknown: {one.error}"
    return one.value or ""


def _cell(text: str) -> str:
    """Keep a sheet from taking text for a formula; a number stays one."""
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text
