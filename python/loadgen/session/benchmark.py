"""A session from Python: phases, strategies and handlers of the user's own, on the native engine or any transport."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from loadgen import config as configs
from loadgen.config import OPTIONS, Config
from loadgen.dispatch.own_thread import gone, on_own_thread
from loadgen.errors import ConfigError, RunError
from loadgen.session.desk import Desk
from loadgen.session.http_issuer import HttpIssuer
from loadgen.session.native_desk import NativeDesk
from loadgen.session.phase import PhaseConfig, refuse_one
from loadgen.session.query import QueryResult, SampleIssuer
from loadgen.session.result import SessionResult
from loadgen.session.runner import Run
from loadgen.session.sink_desk import SinkDesk

if TYPE_CHECKING:
    from typing import Unpack

    from loadgen.config import RunOptions
    from loadgen.event import EventPublisherService

Handler = Callable[[QueryResult], object]

_ID = re.compile(r"[A-Za-z0-9_]{1,64}")
_OF_A_PHASE = ("Load",)


class BenchmarkSession:
    """One session: its phases run one after the other, over one issuer. It runs once.

    What the user brought (strategies, handlers, an issuer) runs on the event loop of whoever awaits the session. An
    exception of any of it ends the phase; what completed is reported, then it is raised again.

    Args:
        issuer: :class:`HttpIssuer` for the native engine, or a transport of the user's own.
        publisher: Publishes the session's events; it stays the caller's, who closes it.
        session_id: What the session is called; ``None`` makes one up.
        on_sample_complete: Called on the loop with the result of each request of the phases without a handler.
        **options: For a transport of the user's own: the run's options that aren't a phase's (``out``, ``tokenizer``).

    Raises:
        ConfigError: If an argument can't be used.
    """

    def __init__(
        self,
        issuer: HttpIssuer | SampleIssuer,
        publisher: EventPublisherService | None = None,
        *,
        session_id: str | None = None,
        on_sample_complete: Handler | None = None,
        **options: Unpack[RunOptions],
    ) -> None:
        if session_id is not None and not _ID.fullmatch(session_id):
            raise ConfigError(
                f"session_id {session_id!r} must be 1 to 64 letters, digits and underscores",
                "leave it out to have one made up",
            )
        _check_callback("on_sample_complete", on_sample_complete)
        if not isinstance(issuer, HttpIssuer):
            _check_issuer(issuer)
        self._issuer = issuer
        self._publisher = publisher
        self._id = session_id
        self._handler = on_sample_complete
        self._config = _config(issuer, options)
        self._process = os.getpid()
        self._run: Run | None = None
        self._stopped: tuple[str, float] | None = None

    def run(self, phases: Sequence[PhaseConfig]) -> SessionResult:
        """Run the session on an event loop of its own.

        Args:
            phases: The phases in order.

        Raises:
            RunError: If an event loop runs in this thread already, the session has run, or it broke down.
            LoadgenError: As :func:`loadgen.run`.
            KeyboardInterrupt: If it was interrupted; what completed is in the run's directory.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RunError("an event loop is running in this thread", "await session.arun(phases) on it")
        # The runner's own run() would put a handler on SIGINT: a library leaves signals alone.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return self._run_on(runner.get_loop(), phases)

    async def arun(self, phases: Sequence[PhaseConfig]) -> SessionResult:
        """Run the session on the running event loop; cancelling it stops the session at once.

        Args:
            phases: The phases in order.

        Raises:
            RunError: If the session has run, or it broke down.
            LoadgenError: As :func:`loadgen.run`.
        """
        self._check_process()
        if self._run is not None:
            raise RunError("the session has run", "make another one")
        desk = self._desk(asyncio.get_running_loop())
        run = self._run = Run(self._config, phases=self._handled(phases), desk=desk, run_id=self._id)
        if self._stopped is not None:
            run.stop(*self._stopped)
        thread = on_own_thread(run.execute)
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            run.stop("cancelled", 0.0)
            await gone(thread)
            raise

    def stop(self, grace: float = 0.0) -> None:
        """End the session: nothing more is issued, in this phase or a later one. From any thread; again does no harm.

        Args:
            grace: Seconds for what is in flight; 0 cancels it.
        """
        self._check_process()
        self._stopped = "stopped", grace
        if self._run is not None:
            self._run.stop("stopped", grace)

    def stop_current_phase(self) -> None:
        """End the current phase: it issues nothing more, drains, and the next one begins. From any thread.

        Raises:
            RunError: If no phase is running.
        """
        self._check_process()
        if self._run is None or not self._run.stop_phase():
            raise RunError("no phase is running", "stop() ends a session at any time")

    def _run_on(self, loop: asyncio.AbstractEventLoop, phases: Sequence[PhaseConfig]) -> SessionResult:
        task = loop.create_task(self.arun(phases))
        try:
            return loop.run_until_complete(task)
        except (KeyboardInterrupt, SystemExit):
            if self._run is not None:
                self._run.stop("interrupted", 0.0)
            task.cancel()
            while not task.done():
                try:
                    loop.run_until_complete(asyncio.wait([task]))
                except (KeyboardInterrupt, SystemExit):
                    continue  # it is stopping already, and the log must be closed
            raise

    def _desk(self, loop: asyncio.AbstractEventLoop) -> Desk:
        if isinstance(self._issuer, HttpIssuer):
            return NativeDesk(loop, self._publisher)
        return SinkDesk(loop, self._issuer, self._publisher)

    def _handled(self, phases: Sequence[PhaseConfig]) -> list[PhaseConfig]:
        refuse_one(phases)
        handled = []
        for phase in phases:
            _check_callback(f"the handler of phase {phase.name}", phase.handler)
            handled.append(phase if phase.handler else msgspec.structs.replace(phase, handler=self._handler))
        return handled

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RunError("this session belongs to the process that made it", "after a fork, the child makes its own")


def _config(issuer: HttpIssuer | SampleIssuer, options: RunOptions) -> Config:
    if isinstance(issuer, HttpIssuer) and options:
        raise ConfigError(f"{', '.join(options)} given to the session", "give the options to its HttpIssuer")
    given = issuer.options if isinstance(issuer, HttpIssuer) else options
    if "phases" in given:
        raise ConfigError("phases given to the session", "give them to run() or arun()")
    for name in given:
        if name in OPTIONS and OPTIONS[name].group in _OF_A_PHASE:
            raise ConfigError(f"{name} given to the session", "each phase has its own: give it to its PhaseConfig")
    if isinstance(issuer, HttpIssuer):
        return configs.resolve(issuer.url, given, needs_load=False)
    # No URL that one could type: it is the issuer who knows where requests go.
    config = configs.resolve("http://localhost", given, needs_load=False)
    return msgspec.structs.replace(config, url=f"python:{type(issuer).__name__}")


def _check_callback(name: str, callback: Any) -> None:
    if callback is not None and (not callable(callback) or inspect.iscoroutinefunction(callback)):
        raise ConfigError(
            f"{name} must be a plain function, not {type(callback).__name__ if not callable(callback) else 'async'}",
            "start a task from it for what takes time",
        )


def _check_issuer(issuer: Any) -> None:
    for name in ("issue", "recv", "shutdown"):
        if not callable(getattr(issuer, name, None)):
            raise ConfigError(
                f"{type(issuer).__name__} is no issuer: it has no {name}()",
                "an issuer has issue(query), async recv() and shutdown(); HttpIssuer(url) is the native one",
            )
    if inspect.iscoroutinefunction(issuer.issue):
        raise ConfigError(
            f"issue() of {type(issuer).__name__} is async: it sends and returns at once",
            "start a task in it, and give the answer to recv()",
        )
