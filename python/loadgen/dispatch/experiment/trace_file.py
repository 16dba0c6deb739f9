"""How a tool in another process tells of its calls: a line of JSON as each ends, and one for all at the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

import msgspec

from loadgen.dispatch.experiment.measured import Measured
from loadgen.errors import DispatchError, words_of

if TYPE_CHECKING:
    from loadgen.dispatch.live import Call

VARIABLE = "FMSR_TRACE"
"""The environment variable that names the file."""


class Line(msgspec.Struct, omit_defaults=True):
    """One line: a call that ended, or at last all of them.

    Args:
        row: The row of a call.
        column: Its column.
        at_s: Seconds from the start of the grid to its end.
        seconds: Seconds from its first attempt to its end.
        kind: The kind of attempt that settled it.
        attempts: How many there were.
        hedges: How many of them were copies.
        answer: What it brought.
        error: Why it brought nothing.
        measured: All calls; only in the last line.
    """

    row: str = ""
    column: str = ""
    at_s: float = 0.0
    seconds: float = 0.0
    kind: str = "first"
    attempts: int = 0
    hedges: int = 0
    answer: str | None = None
    error: str | None = None
    measured: Measured | None = None


class Writer:
    """Writes the file that ``FMSR_TRACE`` names; where it names none, nothing."""

    def __init__(self) -> None:
        name = os.environ.get(VARIABLE)
        self._file: BinaryIO | None = None
        if name:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.fdopen(os.open(name, flags, 0o600), "ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def call(self, call: Call) -> None:
        """Tell of a call that has ended."""
        error = call.error
        self._put(
            Line(
                row=call.row or "",
                column=call.column or "",
                at_s=call.at_s,
                seconds=call.seconds,
                kind=call.kind,
                attempts=call.attempts,
                hedges=call.hedges,
                answer=str(call.value) if call.ok else None,
                error=words_of(error) if isinstance(error, BaseException) else error,
            )
        )

    def whole(self, measured: Measured) -> None:
        """Tell of all calls, when they have ended."""
        self._put(Line(measured=measured))

    def _put(self, line: Line) -> None:
        if self._file is not None:
            self._file.write(msgspec.json.encode(line) + b"\n")


class Reader:
    """Reads such a file while it is written.

    Args:
        path: The file; it need not be there yet.
        told: Called with each call that has ended; ``None`` for nobody.
    """

    def __init__(self, path: Path, told: Callable[[Call], None] | None = None) -> None:
        self._path = path
        self._told = told
        self._at = 0
        self._index = 0
        self.measured: Measured | None = None
        """What all calls brought; ``None`` until the tool has told."""

    def read(self) -> None:
        """Read what is new, up to the last whole line.

        Raises:
            DispatchError: If a line isn't one of :class:`Line`; reading again raises it again.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                new = file.read()
        except FileNotFoundError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        try:
            lines = msgspec.json.Decoder(Line).decode_lines(whole)
        except (msgspec.DecodeError, RecursionError) as error:
            raise DispatchError(
                f"the tool wrote to {VARIABLE} what can't be read from byte {self._at} on: {error}",
                "each line is a JSON object with the fields of loadgen.dispatch.experiment.trace_file.Line",
            ) from None
        self._at += len(whole)
        for line in lines:
            if line.measured is not None:
                self.measured = line.measured
            else:
                self._tell(line)

    def _tell(self, line: Line) -> None:
        from loadgen.dispatch.live import Call

        if self._told is not None:
            self._told(
                Call(
                    at_s=line.at_s,
                    index=self._index,
                    item=(line.row, line.column),
                    ok=line.error is None,
                    value=line.answer,
                    error=line.error,
                    seconds=line.seconds,
                    kind=line.kind,
                    attempts=line.attempts,
                    hedges=line.hedges,
                    row=line.row,
                    column=line.column,
                )
            )
        self._index += 1
