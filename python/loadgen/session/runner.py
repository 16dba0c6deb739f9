"""One run, from its options to its result: prepare all that may fail, drive the engine, derive the report."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from loadgen import _core
from loadgen import config as configs
from loadgen.config import Config
from loadgen.errors import ConfigError, RunError
from loadgen.session import machine, mock_url, models, run_dir, summary
from loadgen.session.phase import PhasePlan, phases_of
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


class Plan(msgspec.Struct, frozen=True):
    """What will be run: everything that needs no connection to the target.

    Args:
        config: The options.
        phases: The phases in order.
        dataset: The prompts.
        note: What a reader must know of the prompts; empty where there is nothing to say.
    """

    config: Config
    phases: list[PhasePlan]
    dataset: Any
    note: str


def plan(config: Config) -> Plan:
    """Make the plan of a run: its prompts and phases.

    Args:
        config: The options.

    Raises:
        DatasetError: If the prompts can't be had.
    """
    from loadgen import dataset

    prompts = dataset.load(
        config.dataset,
        prompt_field=config.prompt_field,
        input_tokens=config.input_tokens,
        output_tokens=config.output_tokens,
        tokenizer=config.tokenizer,
        seed=config.seed,
    )
    about = {"name": prompts.name, "sha256": prompts.sha256, "samples": len(prompts.samples), "note": prompts.note}
    return Plan(config, phases_of(config, about), prompts, prompts.note or "")


def bodies(plan: Plan, model: str) -> tuple[list[bytes], list[int]]:
    """Render the request bodies of a plan.

    Args:
        plan: The plan.
        model: The model to ask for.

    Returns:
        The bodies, and for each the place of its unique marker.
    """
    from loadgen import endpoint

    config = plan.config
    extra = config.extra_body.sent if config.extra_body is not None else None
    rendered, holes = [], []
    for sample in plan.dataset.samples:
        body, hole = endpoint.render(
            config.api, sample, model=model, output_tokens=config.output_tokens, extra_body=extra
        )
        rendered.append(body)
        holes.append(hole)
    return rendered, holes


class Run:
    """One run of the native engine.

    Args:
        config: The options.
        watcher: Sees the run go on.
    """

    def __init__(self, config: Config, watcher: Watcher | None = None) -> None:
        self._config = config
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
        """
        config = self._config
        made = plan(config)
        workers = machine.workers(config)
        machine.reserve_descriptors(config, workers)
        key = configs.api_key(config)
        with _target(config) as url:
            model = _model(config, key)
            rendered, holes = bodies(made, model)
            prompts = _core.Bodies(rendered, holes)
            del rendered, holes
            made = Plan(config, made.phases, None, made.note)  # the samples are in the core now; don't hold them twice
            if self._interrupt is not None:
                raise RunError(f"stopped before anything was sent ({self._interrupt})")
            directory = run_dir.create(config.out)
            with directory:
                meta = _meta(config, directory.id, model)
                # From here on an interrupt goes through the engine, so that nothing it began is left behind.
                self._state = "running"
                try:
                    engine = _core.Engine(_run_config(config, url, key, workers, directory.path, meta))
                except BaseException:
                    directory.discard()
                    raise
                self._drive(engine, made.phases, prompts, directory.path)
                report = self._report(directory.path, meta)
        return SessionResult.of(directory.path, report)

    def _drive(self, engine: _core.Engine, phases: list[PhasePlan], prompts: _core.Bodies, directory: Path) -> None:
        self._engine = engine
        try:
            for phase in phases:
                if self._interrupt is not None:
                    break
                engine.begin(phase.json(), prompts)
                if self._interrupt is not None:  # it came between the look above and the phase's beginning
                    engine.stop(self._grace)
                if self._watcher is not None:
                    self._watcher.begun(phase, directory)
                end = self._wait(engine, phase)
                if self._watcher is not None:
                    self._watcher.ended(phase, end)
                if end["reason"] in ("early", "disk", "stopped"):
                    break
        except KeyboardInterrupt:
            # A program's own run() was interrupted: stop now, keep what completed, and let it be known.
            self.stop("interrupted", 0.0)
            raise
        finally:
            engine.finish()
            self._state, self._engine = "reporting", None

    def _wait(self, engine: _core.Engine, phase: PhasePlan) -> dict[str, Any]:
        while (end := engine.wait(_POLL_S)) is None:
            if self._watcher is not None:
                self._watcher.going(phase, engine)
        got: dict[str, Any] = msgspec.json.decode(end)
        return got

    def _report(self, directory: Path, meta: dict[str, Any]) -> dict[str, Any]:
        raw = _core.summarise(str(directory), summary.options_of(meta["config"]))
        found: dict[str, Any] = msgspec.json.decode(raw)
        if self._interrupt is not None:
            found["status"], found["reason"] = "interrupted", self._interrupt
        report = summary.assemble(directory, found)
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


@contextmanager
def _target(config: Config) -> Iterator[str]:
    """Give the URL to send to; for ``mock:`` that of a server that lives as long as the run."""
    if not config.url.startswith("mock:"):
        yield config.url
        return
    try:
        server = _core.MockServer(msgspec.json.encode(mock_url.config_of(config.url)).decode())
    except ValueError as error:
        raise ConfigError(f"{config.url}: {error}") from None
    try:
        yield server.url
    finally:
        server.stop()


def _model(config: Config, key: str | None) -> str:
    if config.model is not None:
        return config.model
    if config.url.startswith("mock:"):
        names = mock_url.config_of(config.url).get("models") or ["mock"]
        return str(names[0])
    return models.only(config, key)


def _meta(config: Config, id: str, model: str) -> dict[str, Any]:
    return {
        "id": id,
        "version": _core.__version__,
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "model": model,
        "environment": machine.environment(),
        "config": configs.redacted(config),
    }


def _run_config(config: Config, url: str, key: str | None, workers: int, directory: Path, meta: dict[str, Any]) -> str:
    told = {
        "url": url,
        "api": config.api,
        "stream": config.stream,
        "http2": config.http2,
        "insecure": config.insecure,
        "cacert": config.cacert,
        "cert": config.cert,
        "key": config.key,
        "proxy": config.proxy,
        "headers": [(header.name, header.value) for header in config.header],
        "api_key": key,
        "timeout_s": config.timeout,
        "connect_timeout_s": config.connect_timeout,
        "stall_timeout_s": config.stall_timeout,
        "workers": workers,
        "dir": str(directory),
        "save_responses": config.save_responses,
        "meta": meta,
    }
    return msgspec.json.encode(told).decode()
