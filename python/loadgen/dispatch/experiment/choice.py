"""From a callee's name to the callee, as the command line and scripts ask for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from loadgen.dispatch import regime
from loadgen.dispatch.experiment.callees import NAMES, Callee
from loadgen.dispatch.experiment.settings import Settings
from loadgen.errors import ConfigError
from loadgen.speech import option

if TYPE_CHECKING:
    from loadgen.dispatch.live import Call

SPEED = 20.0
"""How many times as fast as the real one the service is, where it is not simulated."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a callee is told.

    Args:
        service: A regime such as ``R0``, or a service written down (:func:`loadgen.dispatch.regime.read`).
        speed: How many times as fast the service runs; the simulator needs no hurry.
        url: A model's server to use instead of the mock; for ``mcp``.
        model: The model to ask there.
        trace: Told of each call as it ends.
    """

    service: str = "R0"
    speed: float = SPEED
    url: str | None = None
    model: str | None = None
    trace: Callable[[Call], None] | None = None


def callee(name: str, settings: Settings, options: Options) -> Callee:
    """Return a callee by its name.

    Args:
        name: ``sim``, ``http`` or ``mcp``.
        settings: Where the tool under test is.
        options: What it is told.

    Raises:
        ConfigError: If there is none of that name, or it can't do what is asked.
    """
    if name not in NAMES:
        raise ConfigError(f"there is no callee {name!r}", f"there are {', '.join(NAMES)}")
    if options.url is not None and name != "mcp":
        raise ConfigError(f"{option('url')} is for {option('callee', 'mcp')}; {name} has a service of its own")
    if (options.url is None) != (options.model is None):
        raise ConfigError(f"{option('url')} and {option('model')} go together")
    if name == "sim":
        from loadgen.dispatch.experiment.callees.sim import SimCallee

        return SimCallee(regime.read(options.service).described, trace=options.trace)
    if name == "http":
        from loadgen.dispatch.experiment.callees.http import HttpCallee

        return HttpCallee(regime.read(options.service).described, time_scale=1 / options.speed, trace=options.trace)
    from loadgen.dispatch.experiment.callees.mcp import McpCallee, Server

    if options.url is None:
        described, scale = regime.read(options.service).described, 1 / options.speed
        return McpCallee(settings.tool, described, time_scale=scale, trace=options.trace)
    server = Server(options.url, options.model or "")
    return McpCallee(settings.tool, None, server=server, time_scale=1.0, trace=options.trace)
