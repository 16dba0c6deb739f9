"""One run, from its options to its result: prepare all that may fail, drive the engine, derive the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from loadgen import _core
from loadgen.config import Config
from loadgen.errors import ConfigError, RunError
from loadgen.session import counting, describe, machine, prepare, run_dir, summary
from loadgen.session.phase import PhaseConfig, PhasePlan, check, phases_of
from loadgen.session.prepare import PreparedPhase
from loadgen.session.result import SessionResult

_POLL_S = 0.1


class Watcher(Protocol):
    """Sees a run go on; called on the thread that runs it, at most ten times a second."""

    def begun(self, phase: PhasePlan, directory: Path) -> None:
        """A phase has begun."""

    def going(self, phase: PhasePlan, engine: _core.Engine) -> None:
        """A phase is going on."""

    def ended(self, phase: PhasePlan, end: dict[str, Any]) -> None:
        """A phase has ended."""


class Run:
    """One run of the native engine.

    Args:
        config: The options.
        watcher: Sees the run go on.
        phases: The phases in order; ``None`` takes those that the options ask for.

    Raises:
        ConfigError: If the phases don't go together.
    """

    def __init__(
        self, config: Config, watcher: Watcher | None = None, phases: Sequence[PhaseConfig] | None = None
    ) -> None:
        self._config = config
        self._listed = phases is not None or bool(config.phases)
        self._phases = list(phases) if phases is not None else phases_of(config)
        check(self._phases)
        self._watcher = watcher
        self._engine: _core.Engine | None = None
        self._interrupt: str | None = None
        self._grace = 0.0
        self._state: Literal["preparing", "running", "reporting"] = "preparing"

    @property
    def state(self) -> Literal["preparing", "running", "reporting"]:
        """How far it is: requests may be sent from ``running`` on, and none is sent any more in ``reporting``."""
        return self._state

    def stop(self, why: str, grace: float) -> None:
        """Stop the run: issue nothing more, and give what is in flight some time. Callable from any thread.

        Args:
            why: What the report says of it, such as ``SIGINT``.
            grace: Seconds for requests in flight; 0 cancels them now.
        """
        self._interrupt, self._grace = self._interrupt or why, grace
        engine = self._engine
        if engine is not None:
            engine.stop(grace)

    def execute(self) -> SessionResult:
        """Run it, and return its result; ``report.json`` is written then.

        Raises:
            LoadgenError: If nothing could be sent, or the engine itself failed.
            KeyboardInterrupt: If Python was interrupted; what completed is in the run's directory.
        """
        config, phases = self._config, self._phases
        workers = machine.workers(config, phases)
        machine.reserve_descriptors(config, phases, workers)
        plan = prepare.plan(config, phases, listed=self._listed)
        with prepare.target(config) as url:
            ready = prepare.prepare(plan)
            del plan  # the prompts are in the core now; don't hold them twice
            if self._interrupt is not None:
                raise RunError(f"stopped before anything was sent ({self._interrupt})")
            with run_dir.create(config.out) as directory:
                about = prepare.meta(config, directory.id, ready)
                engine = self._start(prepare.run_config(config, ready, workers, url, directory.path, about), directory)
                told = describe.about(about, [phase.plan for phase in ready], workers, directory.path)
                engine.segment().describe(describe.written(told))
                problem = self._drive(engine, ready, directory.path)
                problem = problem or _count(directory.path, about["config"])
                report = _report(directory.path, about["config"])
        if problem is not None:
            raise problem
        return SessionResult.of(directory.path, report)

    def _start(self, told: str, directory: run_dir.RunDir) -> _core.Engine:
        # From here on an interrupt goes through the engine, so that nothing it began is left behind.
        self._state = "running"
        try:
            self._engine = _core.Engine(told)
        except ValueError as error:
            directory.discard()
            raise ConfigError(str(error)) from None
        except OSError as error:
            directory.discard()
            raise ConfigError(f"can't start the run in {directory.path}: {error}") from None
        return self._engine

    def _drive(self, engine: _core.Engine, phases: list[PreparedPhase], directory: Path) -> BaseException | None:
        """Run the phases and close the log; what went wrong is returned, as the report comes first."""
        problem: BaseException | None = None
        try:
            self._run_phases(engine, phases, directory)
        except KeyboardInterrupt as error:
            self.stop("interrupted", 0.0)
            problem = error
        except (OSError, RuntimeError, ValueError) as error:
            engine.stop(0.0)
            problem = _broken(error)
        try:
            engine.finish(*self._outcome(problem))
        except (OSError, RuntimeError) as error:
            problem = problem or _broken(error)
        self._state, self._engine = "reporting", None
        return problem

    def _run_phases(self, engine: _core.Engine, phases: list[PreparedPhase], directory: Path) -> None:
        for prepared in phases:
            if self._is_stopped():
                return
            phase = prepared.plan
            engine.begin(phase.json(), prepared.bodies)
            if self._is_stopped():  # it came between the look above and the phase's beginning
                engine.stop(self._grace)
            if self._watcher is not None:
                self._watcher.begun(phase, directory)
            end = self._wait(engine, phase)
            if self._watcher is not None:
                self._watcher.ended(phase, end)
            if end["reason"] in ("early", "disk", "stopped"):
                return

    def _is_stopped(self) -> bool:
        return self._interrupt is not None

    def _wait(self, engine: _core.Engine, phase: PhasePlan) -> dict[str, Any]:
        while (end := engine.wait(_POLL_S)) is None:
            if self._watcher is not None:
                self._watcher.going(phase, engine)
        found: dict[str, Any] = msgspec.json.decode(end)
        return found

    def _outcome(self, problem: BaseException | None) -> tuple[str, str]:
        if self._interrupt is not None:
            return "interrupted", self._interrupt
        if isinstance(problem, RunError):
            return "failed", problem.message
        return "complete", ""


def _broken(error: Exception) -> RunError:
    return RunError(f"the engine broke down: {error}")


def _count(directory: Path, config: dict[str, Any]) -> RunError | None:
    """Count what the server didn't; what went wrong is returned, as the report comes first."""
    if counting.is_owed(directory, config):
        try:
            counting.count(directory, config)
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
        run_dir.write(directory / run_dir.REPORT, content)
    except OSError as error:
        raise RunError(
            f"can't write {directory / run_dir.REPORT}: {error.strerror or error}",
            f"the run log is there: loadgen report {directory}",
        ) from None
