"""A phase's requests, row by row: a view of the run log, read when it is asked for and never held as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from loadgen import _core
from loadgen.errors import ReportError
from loadgen.session import run_dir


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request, as the record has it; stamps are nanoseconds of the run's monotonic clock, ``None`` if never taken.

    Args:
        id: Its index in the session.
        phase: The number of its phase in the session.
        worker: The worker that ran it.
        sample: Index of its sample in the dataset.
        node: Index of the target that gave the outcome, among those of the run; 0 where there is one, ``None`` where it
            was given up before it went to any.
        planned_ns: When the plan wanted it; in a closed loop, when its slot was free.
        free_ns: Under a cap on a rate, when a slot was free for it.
        issued_ns: When a worker took it from the plan.
        sent_ns: Just before the first write of the attempt that gave the outcome.
        first_byte_ns: The read that brought the answer's first byte.
        first_token_ns: The read that brought the first token; streamed answers only.
        first_output_ns: The read that brought the first token that is not reasoning; streamed answers only.
        last_token_ns: The read that brought the last token; streamed answers only.
        done_ns: The end of the answer, or of the attempt to get one.
        connect_ns: Nanoseconds spent connecting for it; 0 on a kept-alive connection.
        status: The HTTP status; ``None`` where no answer came.
        failure: The class of its failure; ``none`` where it succeeded.
        detail: The rule that was broken.
        finish: Why the model stopped.
        streamed: Whether the answer was a stream.
        tokens_in: Prompt tokens by the server's usage.
        tokens_out: Output tokens by ``token_source``.
        token_source: Who counted the output tokens.
        events: Events of the stream.
        chunks: Those of them that carried tokens.
        bytes_in: Bytes received, heads included.
        bytes_out: Bytes sent, heads included.
        stamp_source: Who took the stamps.
        attempt_count: How many attempts it had; 0 means one.
    """

    id: int
    phase: int
    worker: int
    sample: int
    node: int | None
    planned_ns: int | None
    free_ns: int | None
    issued_ns: int | None
    sent_ns: int | None
    first_byte_ns: int | None
    first_token_ns: int | None
    first_output_ns: int | None
    last_token_ns: int | None
    done_ns: int | None
    connect_ns: int
    status: int | None
    failure: str
    detail: str
    finish: str
    streamed: bool
    tokens_in: int | None
    tokens_out: int | None
    token_source: str
    events: int
    chunks: int
    bytes_in: int
    bytes_out: int
    stamp_source: str
    attempt_count: int


class _Column(NamedTuple):
    name: str
    names: list[str] | None


class RequestTable:
    """The requests of a phase, in the order in which the log has them.

    ``polars.DataFrame(table)``, ``pyarrow.table(table)``, duckdb and whoever else reads the Arrow PyCapsule interface
    take it as it is; ``for request in table`` needs none of them. Each use reads the log again, in bounded memory.

    Args:
        directory: The run's directory.
        phase: The number of the phase in the log's rows.
        rows: How many rows there are.
    """

    def __init__(self, directory: Path, phase: int, rows: int) -> None:
        self._directory = directory
        self._phase = phase
        self._rows = rows

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[Request]:
        columns = [_Column(*column) for column in _core.row_columns()]
        names = [column.name for column in columns]
        try:
            reader = _core.read_rows(
                self._directory, phase=self._phase, children=False, token_counts=run_dir.counts(self._directory)
            )
            for batch in reader:
                values = [_values(column, *batch[column.name]) for column in columns]
                for row in zip(*values, strict=True):
                    yield Request(**dict(zip(names, row, strict=True)))
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from None

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return a capsule with an Arrow stream of all rows.

        Args:
            requested_schema: Ignored, as the interface allows: there is one schema.

        Raises:
            ReportError: If the log is gone or can't be read.
        """
        try:
            return _core.arrow_rows(self._directory, phase=self._phase, token_counts=run_dir.counts(self._directory))
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from None

    def __arrow_c_schema__(self) -> object:
        """Return a capsule with the rows' Arrow schema."""
        return _core.arrow_rows_schema()

    def __repr__(self) -> str:
        return f"RequestTable({self._rows:,} requests of phase {self._phase} in {self._directory})"

    def _unreadable(self, error: Exception) -> ReportError:
        return ReportError(f"can't read the requests of {self._directory}: {error}")


def _values(column: _Column, width: str, data: bytes, validity: bytes | None) -> list[Any]:
    """Return a column's values as Python has them."""
    numbers: list[Any] = memoryview(data).cast(run_dir.WIDTHS[width]).tolist()  # type: ignore[call-overload]
    if column.names is not None:
        return [column.names[code] for code in numbers]
    if column.name == "streamed":
        return [bool(number) for number in numbers]
    if validity is None:
        return numbers
    return [number if validity[i >> 3] >> (i & 7) & 1 else None for i, number in enumerate(numbers)]
