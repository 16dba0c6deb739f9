"""One run, from its options to its result: prepare all that may fail, drive the engine, derive the report."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import msgspec

from loadgen import _core, private_file
from loadgen.config import Config
from loadgen.errors import ConfigError, RunError
from loadgen.session import counting, describe, machine, prepare, run_dir, scoring, summary
from loadgen.session.phase import PhaseConfig, check, phases_of
from loadgen.session.phase_plan import PhasePlan
from loadgen.session.prepare import PreparedPhase
from loadgen.session.result import SessionResult
from loadgen.session.served import served
from loadgen.session.strategy import is_planned
from loadgen.speech import option

if TYPE_CHECKING:
    from loadgen.session.desk import Desk

Core: TypeAlias = _core.Engine | _core.Sink
"""What carries a run out: the native engine, or the sink of an issuer of the user's own."""

_POLL_S = 0.1
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a disk, a quota or a file that may not grow any more."""


class Watcher(Protocol):
    """Sees a run go on; called on the thread that runs it, at most ten times a second."""

    def begun(self, phase: PhasePlan, directory: Path) -> None:
        """A phase has begun."""

    def going(self, phase: PhasePlan, engine: Core) -> None:
        """A phase is going on."""

    def ended(self, phase: PhasePlan, end: dict[str, Any]) -> None:
        """A phase has ended."""


class Run:
    """One run of the native engine.

    Args:
        config: The options.
        watcher: Sees the run go on.
        phases: The phases in order; ``None`` takes those that the options ask for.
        desk: The event loop's part, where Python issues requests or hears of their ends.
        run_id: What the run is called; ``None`` makes a name up.

    Raises:
        ConfigError: If the phases don't go together.
    """

    def __init__(
        self,
        config: Config,
        watcher: Watcher | None = None,
        phases: Sequence[PhaseConfig] | None = None,
        *,
        desk: Desk | None = None,
        run_id: str | None = None,
    ) -> None:
        self._config = config
        self._listed = phases is not None or bool(config.phases)
        self._phases = list(phases) if phases is not None else phases_of(config)
        check(self._phases)
        for phase in self._phases if desk is None else ():
            if phase.handler is not None or not is_planned(phase.strategy):
                raise ConfigError(
                    f"phase {phase.name} has a handler or a strategy of its own, which need an event loop",
                    "run it in a BenchmarkSession",
                )
        self._watcher = watcher
        self._desk = desk
        if desk is not None:
            desk.answer_to(self.fail)
        self._id = run_id
        self._engine: Core | None = None
        self._failure: tuple[str, BaseException | None] | None = None
        self._phase: tuple[int, PhasePlan] | None = None
        self._skipped: set[int] = set()
        self._interrupt: str | None = None
        self._grace = 0.0
        self._begun = 0
        self._notes: list[str] = []
        self._state: Literal["preparing", "running", "reporting"] = "preparing"

    @property
    def state(self) -> Literal["preparing", "running", "reporting"]:
        """How far it is: requests may be sent from ``running`` on, and none is sent any more in ``reporting``."""
        return self._state

    @property
    def notes(self) -> list[str]:
        """What went otherwise than wanted with the live metrics, in sentences, once the run has ended."""
        return self._notes

    def stop(self, why: str, grace: float) -> None:
        """Stop the run: issue nothing more, and give what is in flight some time. Callable from any thread.

        Args:
            why: What the report says of it, such as ``SIGINT``.
            grace: Seconds for requests in flight; 0 cancels them now.
        """
        self._interrupt, self._grace = self._interrupt or why, grace
        self._stop_now(grace)

    def stop_phase(self) -> bool:
        """End the current phase: it issues nothing more, drains, and the next begins. From any thread.

        Returns:
            Whether there was one.
        """
        current, engine = self._phase, self._engine
        if current is None or engine is None:
            return False
        # By its index all the way: the run's thread goes on meanwhile, and the next phase is nobody's to stop.
        index, phase = current
        self._skipped.add(index)
        engine.stop_phase(index, phase.drain_timeout_s)
        if self._desk is not None:
            self._desk.stop_phase(index)
        return True

    def fail(self, what: str, problem: BaseException | None) -> None:
        """End the run because of something that the user brought. What completed is reported first. From any thread.

        Args:
            what: Who raised it, or what has happened where nothing was raised.
            problem: What was raised; it is raised again. The first one counts.
        """
        if self._failure is None:
            # The words of a foreign exception may hold anything, secrets too: the report has its type.
            said = problem.message if isinstance(problem, RunError) else f"raised {type(problem).__name__}"
            why = what if problem is None else f"{what}: {said}" if isinstance(problem, RunError) else f"{what} {said}"
            self._failure = why, problem
        self._stop_now(0.0)

    def _stop_now(self, grace: float) -> None:
        if self._engine is not None:
            self._engine.stop(grace)
        if self._desk is not None:
            self._desk.stop(grace)

    def execute(self) -> SessionResult:
        """Run it, and return its result; ``report.json`` is written then.

        Raises:
            LoadgenError: If nothing could be sent, or the engine itself failed.
            KeyboardInterrupt: If Python was interrupted; what completed is in the run's directory.
        """
        try:
            return self._execute()
        except BaseException as problem:
            self._let_go(problem)
            raise

    def _let_go(self, problem: BaseException) -> None:
        """Whatever went wrong, and be it before anything was sent: the user's issuer is shut down."""
        told = self._failure
        try:
            if self._desk is not None:
                self._desk.close()
        except RunError as error:  # the loop has gone, and nobody can reach the issuer any more
            problem.add_note(f"the issuer was not shut down: {error.message}")
        if self._failure is not None and self._failure is not told:
            problem.add_note(f"besides, {self._failure[0]}")

    def _execute(self) -> SessionResult:
        config, phases = self._config, self._phases
        workers = machine.workers(config, phases)
        machine.reserve_descriptors(config, phases, workers)
        plan = prepare.plan(config, phases, listed=self._listed)
        with prepare.targets(config) as urls, served(config) as show:
            ready = prepare.prepare(plan)
            del plan  # the prompts are in the core now; don't hold them twice
            if self._interrupt is not None:
                raise RunError(f"stopped before anything was sent ({self._interrupt})")
            with run_dir.create(config.out, self._id) as directory:
                about = prepare.meta(config, directory.id, ready)
                publish = self._desk is not None and self._desk.publishes
                told = prepare.run_config(config, ready, workers, urls, directory.path, about, publish=publish)
                engine = self._start(told, directory)
                about_run = describe.about(about, [phase.plan for phase in ready], workers, directory.path)
                engine.segment().describe(describe.written(about_run))
                show(directory.id, engine)
                problem = self._drive(engine, ready, directory.path)
                if problem is None or self._failure is not None:  # the user's own has raised; the log is whole
                    settled = self._settle(ready, directory.path, about["config"])
                    problem = problem or settled
                report = _report(directory.path, about["config"])
        if problem is not None:
            problem.add_note(f"what completed is reported in {directory.path}")
            raise problem
        return SessionResult.of(directory.path, report)

    def _start(self, told: str, directory: run_dir.RunDir) -> Core:
        # From here on an interrupt goes through the engine, so that nothing it began is left behind.
        self._state = "running"
        try:
            self._engine = _core.Engine(told) if self._desk is None else self._desk.open(told)
        except ValueError as error:
            directory.discard()
            raise ConfigError(str(error)) from None
        except OSError as error:
            directory.discard()
            is_full = error.errno in _FULL
            raise ConfigError(
                f"can't start the run in {directory.path}: {error.strerror or error}",
                f"make room there, or have the run elsewhere: {option('out', 'DIR')}" if is_full else "",
            ) from None
        return self._engine

    def _drive(self, engine: Core, phases: list[PreparedPhase], directory: Path) -> BaseException | None:
        """Run the phases and close the log; what went wrong is returned, as the report comes first."""
        problem: BaseException | None = None
        try:
            self._run_phases(engine, phases, directory)
        except KeyboardInterrupt as error:
            self.stop("interrupted", 0.0)
            problem = error
        except (OSError, RuntimeError, ValueError) as error:
            self._stop_now(0.0)
            problem = _broken(error)
        try:
            if self._desk is not None:
                self._desk.close()
        except (KeyboardInterrupt, RunError) as error:  # an interrupt may hit the loop's part; the log is closed first
            problem = problem or error
        try:
            engine.finish(*self._outcome(problem))
        except (OSError, RuntimeError) as error:
            problem = problem or _broken(error)
        try:
            if self._desk is not None:
                self._desk.finished()
        except (KeyboardInterrupt, OSError, RuntimeError) as error:
            problem = problem or error
        if self._failure is not None:
            problem = self._failure[1] or problem
        self._notes = engine.segment().notes
        self._state, self._engine = "reporting", None
        return problem

    def _run_phases(self, engine: Core, phases: list[PreparedPhase], directory: Path) -> None:
        for index, prepared in enumerate(phases):
            if self._is_stopped():
                break
            phase = prepared.plan
            engine.begin(phase.json(), prepared.bodies)
            self._begun += 1
            self._phase = index, phase
            if self._is_stopped():  # it came between the look above and the phase's beginning
                engine.stop(self._grace)
            if self._desk is not None:
                self._desk.begun(prepared)
            if self._watcher is not None:
                self._watcher.begun(phase, directory)
            end = self._wait(engine, phase, is_last=index + 1 == len(phases))
            self._phase = None
            if self._desk is not None:
                self._desk.ended()
            if self._watcher is not None:
                self._watcher.ended(phase, end)
            if end["reason"] in ("early", "disk", "stopped") and index not in self._skipped:
                break
        # Phases that don't drain, or were stopped, have left requests, which go on to their end.
        engine.segment().advance("draining")

    def _settle(self, phases: list[PreparedPhase], directory: Path, config: dict[str, Any]) -> RunError | None:
        """Score and count what the answers were kept for; what went wrong is returned, as the report comes first."""
        problem: RunError | None = None
        for index, phase in enumerate(phases[: self._begun]):
            if phase.dataset is not None:
                try:
                    scoring.score_phase(directory, index, phase.dataset.samples, phase.config.scorer)
                except RunError as error:
                    problem = problem or error
        keeps = any(phase.config.options(self._config).save_responses for phase in phases)
        return problem or _count(directory, config, keeps=keeps)

    def _is_stopped(self) -> bool:
        return self._interrupt is not None or self._failure is not None

    def _wait(self, engine: Core, phase: PhasePlan, *, is_last: bool) -> dict[str, Any]:
        while (end := engine.wait(_POLL_S)) is None:
            if (is_last or self._is_stopped()) and not engine.is_issuing:
                engine.segment().advance("draining")
            if self._desk is not None:
                self._desk.going()
            if self._watcher is not None:
                self._watcher.going(phase, engine)
        found: dict[str, Any] = msgspec.json.decode(end)
        return found

    def _outcome(self, problem: BaseException | None) -> tuple[str, str]:
        if self._interrupt is not None:
            return "interrupted", self._interrupt
        if self._failure is not None:
            return "failed", self._failure[0]
        if isinstance(problem, RunError):
            return "failed", problem.message
        return "complete", ""


def _broken(error: Exception) -> RunError:
    return RunError(f"the engine broke down: {error}")


def _count(directory: Path, config: dict[str, Any], *, keeps: bool) -> RunError | None:
    """Count what the server didn't; what went wrong is returned, as the report comes first."""
    if counting.is_owed(directory, config):
        try:
            counting.count(directory, config, keeps=keeps)
        except RunError as error:
            return error
    return None


def _report(directory: Path, config: dict[str, Any]) -> dict[str, Any]:
    try:
        report = summary.of_run(directory, config)
    except (OSError, ValueError) as error:
        raise RunError(f"the run ended, and its log can't be read: {error}", f"the log is in {directory}") from None
    save(directory, report)
    return report


def save(directory: Path, report: dict[str, Any]) -> None:
    """Write ``report.json`` into a run's directory, in full or not at all.

    Args:
        directory: The run's directory.
        report: The report.

    Raises:
        RunError: If the disk refuses; the run log is still there.
    """
    content = msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"
    try:
        private_file.write(directory / run_dir.REPORT, content)
    except OSError as error:
        raise RunError(
            f"can't write {directory / run_dir.REPORT}: {error.strerror or error}",
            f"the run log is there: loadgen report {directory}",
        ) from None
