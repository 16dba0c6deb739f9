"""The desk of a user's own transport: queries go out through it, and one receiver tells the sink what comes back."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from loadgen import _core
from loadgen.errors import RunError
from loadgen.session.desk import Desk
from loadgen.session.phase_issuer import PhaseIssuer
from loadgen.session.prepare import PreparedPhase
from loadgen.session.query import Query, QueryResult, SampleIssuer, StreamChunk
from loadgen.session.running_phase import RunningPhase, see_out

if TYPE_CHECKING:
    from loadgen.event import EventPublisherService

_LOG = logging.getLogger(__name__)

_TURN_S = 0.025
"""How often the loop tells the sink that it has its turn, for the report's trust section."""

_CLOSING_S = 0.25
"""So long the receiver is heard after the issuer was shut down; what comes then is counted as late."""

_SHUTDOWN_S = 60.0
_SHUTDOWN_STOPPED_S = 2.0
"""So long an issuer may take to shut down; the shorter time after a stop."""


class SinkDesk(Desk):
    """Drives a :class:`SampleIssuer`.

    Args:
        loop: The loop of whoever awaits the session.
        issuer: The transport.
        publisher: Publishes the sink's events, if anybody does.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        issuer: SampleIssuer,
        publisher: EventPublisherService | None = None,
    ) -> None:
        super().__init__(loop, publisher)
        self._issuer = issuer
        self._sink: _core.Sink | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._flying: dict[int, tuple[RunningPhase, int]] = {}
        self._headers: list[list[str]] = []
        self._closing = False

    @property
    def core(self) -> _core.Sink:
        """The sink."""
        assert self._sink is not None
        return self._sink

    def _open(self, told: str) -> None:
        self._sink = _core.Sink(told)
        self._headers = msgspec.json.decode(told)["headers"]

    async def _listen(self) -> None:
        self._receiver = self._loop.create_task(self._receive(), name="loadgen receiver")
        self._turn(_core.now_ns())

    async def _begin(self, running: RunningPhase, phase: PreparedPhase) -> None:
        own = (phase.plan.request or {}).get("headers", self._headers)
        headers = tuple((name, value) for name, value in own)
        sink = self.core

        def claim(sample: int | None, planned_ns: int | None) -> int | None:
            issued = sink.issue(sample, planned_ns)
            return None if issued is None else self._send(running, issued, headers)

        occupied = sum(flown in self._handed_over for flown, _ in self._flying.values())
        issuer = PhaseIssuer(claim, seed=phase.plan.seed, start_ns=sink.start(), occupied=occupied)
        running.start(issuer, sink.end_issue)

    async def _hear(self) -> None:
        self._take_cancelled()

    def _take_cancelled(self) -> None:
        """Learn what the sink has cancelled: it leaves its slot, and its handler is told."""
        for request in sorted(self.core.take_cancelled()):
            flown = self._flying.pop(request, None)
            if flown is not None:
                self._completed(flown[0], QueryResult(request, failure="cancelled", sample=flown[1]))

    async def _close(self) -> None:
        self._closing = True
        if self._beat is not None:
            self._beat.cancel()
        try:
            shut = self._issuer.shutdown()
            if inspect.isawaitable(shut):
                await self._shut_down(asyncio.ensure_future(shut))
        except Exception as problem:  # noqa: BLE001 - the user's own: it is told, and raised again after the report
            self.fail("the issuer's shutdown()", problem)
        if self._receiver is not None:
            await self._hear_out(self._receiver)

    async def _hear_out(self, receiver: asyncio.Task[None]) -> None:
        if not await see_out(receiver, _CLOSING_S):
            _LOG.error("the issuer's recv() goes on after the session's end, though it was cancelled")
            self.fail("the issuer's recv()", RunError("it doesn't end when it is cancelled"))
        elif not receiver.cancelled():
            receiver.exception()  # an interrupt has come out of the loop already: asyncio needn't tell it again

    async def _shut_down(self, shut: asyncio.Future[None]) -> None:
        """Wait for the issuer's end; one that never comes holds up neither the report nor the caller."""
        seconds = _SHUTDOWN_S if self._stopping is None else _SHUTDOWN_STOPPED_S
        done, _ = await asyncio.wait([shut], timeout=seconds)
        if not done:
            await see_out(shut, 0)
            raise RunError(f"it took longer than {seconds:g} s", "let go of what is in flight without waiting for it")
        if shut.cancelled():
            raise RunError("something that it awaited was cancelled", "catch the CancelledError of what it cancels")
        shut.result()

    def _send(self, running: RunningPhase, issued: tuple[int, int, int], headers: tuple[tuple[str, str], ...]) -> int:
        request, sample, planned_ns = issued
        sink = self.core
        body = sink.body(request)
        assert body is not None, "a request that was just issued is in flight"
        query = Query(request, sample, body, headers, planned_ns)
        self._flying[request] = running, sample
        sink.sent(request)
        try:
            self._issuer.issue(query)
        except Exception as problem:
            self._flying.pop(request, None)
            sink.complete(request, "connect", error=f"the issuer's issue() raised {type(problem).__name__}")
            running.fail("the issuer's issue()", problem)
            raise
        return request

    async def _receive(self) -> None:
        try:
            while (item := await self._issuer.recv()) is not None:
                self._take(item)
        except Exception as problem:  # noqa: BLE001 - the task's edge: it is told, and raised again after the report
            self._lose("the issuer's recv()", problem)
        except asyncio.CancelledError:
            if not self._closing:  # something that it awaited was cancelled: nobody else would tell
                self._lose("the issuer's recv()", RunError("it was cancelled, though the session went on"))
            raise
        else:
            self._lose("the issuer's transport has closed", None)

    def _take(self, item: Any) -> None:
        if isinstance(item, StreamChunk):
            tokens = item.tokens if item.tokens is not None or item.text else 0
            self.core.chunk(item.id, tokens, not item.reasoning, item.ns)
        elif isinstance(item, QueryResult):
            self._finish(item)
        else:
            raise TypeError(f"recv() gave {type(item).__name__}: it gives a StreamChunk, a QueryResult or None")

    def _finish(self, result: QueryResult) -> None:
        usage = result.usage
        was_in_flight = self.core.complete(
            result.id,
            result.outcome,
            status=result.status,
            finish=result.finish,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            text=_whole(result.output),
            reasoning=_whole(result.reasoning),
            error=_whole(result.error or ""),
            ns=result.ns,
        )
        flown = self._flying.pop(result.id, None)
        if was_in_flight and flown is not None:
            running, sample = flown
            if running.wants_answers:
                result = msgspec.structs.replace(result, sample=sample, ns=result.ns or _core.now_ns())
            self._completed(running, result)

    def _completed(self, running: RunningPhase, result: QueryResult) -> None:
        running.completed(result.id, result)
        if self._ended_in(running) and self._running is not None:
            self._running.slot_freed(result.id)

    def _lose(self, what: str, problem: Exception | None) -> None:
        """The transport has gone: nothing in flight will be answered, and nothing more can be issued."""
        if self._closing and problem is None:
            return
        lost, self._flying = self._flying, {}
        why = what if problem is None else f"{what} raised {type(problem).__name__}"
        for request, (running, sample) in lost.items():
            if self.core.complete(request, "protocol", error=why):
                self._completed(running, QueryResult(request, error=why, failure="protocol", sample=sample))
        self.fail(what, problem)

    def _turn(self, due_ns: int) -> None:
        self.core.turn(due_ns)
        self._take_cancelled()
        next_ns = _core.now_ns() + int(_TURN_S * 1e9)
        self._beat = self._loop.call_later(_TURN_S, self._turn, next_ns)


def _whole(text: str) -> str:
    """Return a text without halves of characters, which no file can hold; a server's JSON may."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
