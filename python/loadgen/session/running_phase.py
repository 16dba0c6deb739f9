"""One phase on the event loop: its strategy's task, and the callbacks that learn of each end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from loadgen.errors import RunError
from loadgen.session.phase_issuer import PhaseIssuer
from loadgen.session.strategy import is_planned

if TYPE_CHECKING:
    from loadgen.session.prepare import PreparedPhase
    from loadgen.session.query import QueryResult

_LOG = logging.getLogger(__name__)

LINGER_S = 1.0
"""So long a strategy may take to return once its phase is over; then it is cancelled, and has as long again."""


class Failed(Protocol):
    """Told when something that the user brought has raised."""

    def __call__(self, what: str, problem: Exception | None) -> None:
        """End the run with it.

        Args:
            what: Who raised it, or what has happened where nothing was raised; for the report.
            problem: What was raised, and will be raised again.
        """


class RunningPhase:
    """One phase on the loop.

    Args:
        phase: The phase.
        failed: Told of the first exception of a strategy or a handler; it ends the phase.
    """

    def __init__(self, phase: PreparedPhase, failed: Failed) -> None:
        self.name = phase.plan.name
        self.drains = phase.plan.drain
        self._strategy = phase.config.strategy
        self._handler = phase.config.handler
        self._failed = failed
        self._issuer: PhaseIssuer | None = None
        self._task: asyncio.Task[None] | None = None
        self._quiet = False
        self._is_over = self._has_ended = False

    @property
    def wants_answers(self) -> bool:
        """Whether somebody is to see each result."""
        return self._handler is not None

    @property
    def is_native(self) -> bool:
        """Whether the native engine runs the phase by its plan alone."""
        return is_planned(self._strategy)

    def start(self, issuer: PhaseIssuer, end_issue: Callable[[], None]) -> None:
        """Let the strategy issue.

        Args:
            issuer: What it issues through.
            end_issue: Called when it has returned, so that the phase drains and ends.
        """
        self._issuer = issuer
        self._task = asyncio.get_running_loop().create_task(self._execute(issuer, end_issue), name=f"load {self.name}")

    async def _execute(self, issuer: PhaseIssuer, end_issue: Callable[[], None]) -> None:
        try:
            await self._strategy.execute(issuer)
        except Exception as problem:  # noqa: BLE001 - the task's edge: it is told, and raised again after the report
            self.fail(f"the strategy of phase {self.name}", problem)
        except asyncio.CancelledError:
            if not self._is_over:  # something that it awaited was cancelled: nobody else would tell
                self.fail(f"the strategy of phase {self.name}", RunError("it was cancelled, though its phase went on"))
            raise
        finally:
            issuer.stop()
            end_issue()

    def completed(self, request: int, result: QueryResult | None) -> None:
        """One of the phase's requests has ended.

        Args:
            request: Its id.
            result: What became of it, where somebody wants to know.
        """
        if self._issuer is not None:
            self._issuer.complete(request)
        if self._quiet:
            return
        if self._task is not None:
            on_complete = getattr(self._strategy, "on_complete", None)  # a user's own may have none
            if on_complete is not None:
                self._call(f"on_complete of phase {self.name}", on_complete, request)
        if self._handler is not None and result is not None:
            self._call(f"the handler of phase {self.name}", self._handler, result)

    def slot_freed(self, request: int) -> None:
        """A request that an earlier phase had handed over has ended: its slot is this phase's now."""
        if self._issuer is not None:
            self._issuer.complete(request, occupied=True)

    def fail(self, what: str, problem: Exception) -> None:
        """Something of the user's has raised: no callback of the phase is called any more.

        Args:
            what: Who raised it.
            problem: What was raised.
        """
        self._quiet = True
        self._failed(what, problem)

    def stop(self, *, now: bool) -> None:
        """Issue nothing more.

        Args:
            now: Cancel the strategy, rather than let it see that the phase is stopped.
        """
        if self._issuer is not None:
            self._issuer.stop()
        if now and self._task is not None:
            self._is_over = True
            self._task.cancel()

    async def end(self) -> None:
        """The phase is over: see the strategy's task out. Again does no harm."""
        if self._has_ended or self._issuer is None or self._task is None:
            return
        self._is_over = self._has_ended = True
        self._issuer.close() if self.drains else self._issuer.leave()
        if not await see_out(self._task):
            _LOG.error("the strategy of phase %s goes on after its phase's end, though it was cancelled", self.name)
            self.fail(f"the strategy of phase {self.name}", RunError("it doesn't end when it is cancelled"))

    def _call(self, what: str, callback: Callable[..., object], argument: object) -> None:
        try:
            callback(argument)
        except Exception as problem:  # noqa: BLE001 - a user's callback: it is told, and raised again after the report
            self.fail(what, problem)


async def see_out(task: asyncio.Future[Any], patience: float = LINGER_S) -> bool:
    """Wait for a task of the user's, but not for ever: it is cancelled then, and has as long again as a strategy.

    Args:
        task: The task; what it raised is left in it.
        patience: Seconds until it is cancelled.

    Returns:
        Whether it has ended.
    """
    done, _ = await asyncio.wait([task], timeout=patience)
    if not done:
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=LINGER_S)
    return bool(done)
