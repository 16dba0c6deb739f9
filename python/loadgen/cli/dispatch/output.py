"""What a batch leaves behind: its answers as JSON lines in the order of its items, and a grid's matrix as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from loadgen.cli.dispatch.asked import Source
from loadgen.dispatch.requests import Answer
from loadgen.dispatch.result import CallResult
from loadgen.errors import words_of

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
    return " ".join((error if isinstance(error, str) else words_of(error)).split())


def lines(answers: Iterable[Written]) -> Iterator[bytes]:
    """Yield answers as lines of JSON."""
    return (_encode(one) + b"\n" for one in answers)


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
