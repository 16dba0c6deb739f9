"""What a user's own transport is given and gives back: queries, pieces of answers, results."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

Failure: TypeAlias = Literal["connect", "tls", "timeout", "stall", "http", "protocol", "body"]
"""Why a request failed, in the words of reports."""


class Query(msgspec.Struct, frozen=True):
    """One request to be made now.

    Args:
        id: Its id, unique in the session.
        sample: Index of its sample in the phase's dataset.
        body: What the native engine would send: a JSON object by the phase's API and settings.
        headers: The phase's further request headers. They may hold secrets.
        planned_ns: When it should have started, in monotonic nanoseconds.
    """

    id: int
    sample: int
    body: bytes
    headers: tuple[tuple[str, str], ...]
    planned_ns: int

    def json(self) -> dict[str, Any]:
        """Return the body as Python values."""
        decoded: dict[str, Any] = msgspec.json.decode(self.body)
        return decoded

    def __repr__(self) -> str:
        return f"Query(id={self.id}, sample={self.sample}, {len(self.body)} bytes)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # body and headers may hold secrets
        return [("id", self.id), ("sample", self.sample), ("bytes", len(self.body))]


class StreamChunk(msgspec.Struct, frozen=True):
    """A piece of an answer that has come; without text and tokens it is but the answer's first byte.

    Args:
        id: Its request.
        text: What it says.
        tokens: How many tokens it holds, where that is known.
        reasoning: Whether it is reasoning, not output.
        ns: When it came, in monotonic nanoseconds; ``None`` is when the session receives it.
    """

    id: int
    text: str = ""
    tokens: int | None = None
    reasoning: bool = False
    ns: int | None = None


class Usage(msgspec.Struct, frozen=True):
    """Tokens as somebody counted them; ``None`` where nobody did.

    Args:
        tokens_in: Tokens of the prompt.
        tokens_out: Tokens of the answer.
    """

    tokens_in: int | None = None
    tokens_out: int | None = None


class QueryResult(msgspec.Struct, frozen=True):
    """The end of a request: its answer, or why there is none.

    Args:
        id: Its request.
        output: The answer's text.
        error: Why it failed, in words; ``None`` for a good one.
        finish: Why the model stopped: ``stop``, ``length``, ``tool_calls``, …
        usage: Its tokens.
        ns: When it ended, in monotonic nanoseconds; ``None`` is when the session receives it.
        reasoning: What the model thought before it answered.
        failure: The class of a failure; left out, an ``error`` is one of ``http`` with a status of 300 or more, else
            of ``body``.
        status: The HTTP status, where there is one.
        sample: Index of its sample; the session fills it in for handlers.
    """

    id: int
    output: str = ""
    error: str | None = None
    finish: str = ""
    usage: Usage = Usage()
    ns: int | None = None
    reasoning: str = ""
    failure: Failure | Literal["cancelled"] | None = None
    status: int = 0
    sample: int | None = None

    @property
    def outcome(self) -> str:
        """``none`` for a good one, else the class of its failure."""
        if self.failure is not None:
            return self.failure
        if self.error is None:
            return "none"
        return "http" if self.status >= 300 else "body"


class SampleIssuer(Protocol):
    """A transport of the user's own. A session calls it on its event loop only."""

    def issue(self, query: Query) -> None:
        """Send a request and return at once; whatever takes time belongs into a task of the issuer's.

        Args:
            query: The request. An exception fails it, and ends the run.
        """

    async def recv(self) -> QueryResult | StreamChunk | None:
        """Wait for the next piece or end of any answer; ``None`` says that the transport has closed."""

    def shutdown(self) -> Awaitable[None] | None:
        """Let go of everything: called once, after the last phase. What it returns is awaited, if it can be."""
