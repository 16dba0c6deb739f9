"""Runs: ``run`` and ``arun``, their phases and their results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loadgen import config as configs
from loadgen.errors import ConfigError
from loadgen.session.metric import Metric
from loadgen.session.phase import Drain, Limits, PhaseConfig, PhaseSettings, PhaseType, refuse_one
from loadgen.session.requests import Request, RequestTable
from loadgen.session.result import Counts, NodeResult, PhaseResult, Prompts, SessionResult, Throughput, Trust
from loadgen.session.runner import Run, Watcher

if TYPE_CHECKING:
    from typing import Unpack

    from loadgen.config import RunOptions

__all__ = [
    "Counts",
    "Drain",
    "Limits",
    "Metric",
    "NodeResult",
    "PhaseConfig",
    "PhaseResult",
    "PhaseSettings",
    "PhaseType",
    "Prompts",
    "Request",
    "RequestTable",
    "Run",
    "SessionResult",
    "Throughput",
    "Trust",
    "Watcher",
    "arun",
    "run",
]


def run(
    url: str | Sequence[str] | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    **options: Unpack[RunOptions],
) -> SessionResult:
    """Load-test a server and return what a client saw.

    Args:
        url: The target: ``http://…``, ``https://…``, ``unix:PATH``, or ``mock:`` for a server within this process; a
            list of them where requests are spread over several; ``None`` takes the file's.
        config: A YAML or TOML file with further options; the keywords win over it.
        **options: By the names of the command line's flags; durations are seconds or text such as ``"250ms"``.
            ``phases`` makes it a run of several: mappings of these options, or :class:`PhaseConfig` objects.

    Returns:
        The result. A run whose requests failed has the status ``failed``; that is no exception.

    Raises:
        ConfigError: If an option can't be used. Nothing was sent.
        DatasetError: If the prompts can't be had. Nothing was sent.
        TargetError: If no model was named, and the server doesn't name exactly one. Nothing was sent.
        RunError: If the run itself broke down.
        KeyboardInterrupt: If it was interrupted; what completed is in the run's directory.
    """
    return _asked(url, config, options).execute()


async def arun(
    url: str | Sequence[str] | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    **options: Unpack[RunOptions],
) -> SessionResult:
    """Do what :func:`run` does without blocking the event loop; cancelling it stops the run at once.

    Args:
        url: As for :func:`run`.
        config: As for :func:`run`.
        **options: As for :func:`run`.

    Returns:
        As :func:`run`; what completed before a cancellation is in the run's directory.

    Raises:
        LoadgenError: As :func:`run`.
    """
    import asyncio

    from loadgen.dispatch.own_thread import gone, on_own_thread

    going = _asked(url, config, options)
    task = on_own_thread(going.execute)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        going.stop("cancelled", 0.0)
        await gone(task)  # it owns the run's log
        raise


def _asked(url: str | Sequence[str] | None, config: str | os.PathLike[str] | None, options: RunOptions) -> Run:
    """Return the run that a caller asks for; phases that are objects bring their own loads."""
    file = None if config is None else os.fspath(config)
    phases = options.get("phases") or ()
    refuse_one(phases)
    objects = [phase for phase in phases if isinstance(phase, PhaseConfig)]
    if not objects:
        return Run(configs.resolve(url, options, config_file=file))
    if len(objects) < len(phases):
        raise ConfigError("phases are mappings and PhaseConfig objects mixed", "give all of them as one or the other")
    rest = {name: value for name, value in options.items() if name != "phases"}
    return Run(configs.resolve(url, rest, config_file=file, needs_load=False), phases=objects)
