"""The grid's rows and columns: sensors and failure modes as MCP servers tell them, and what a scenario keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from loadgen.dispatch.experiment import mcp_client
from loadgen.dispatch.experiment.settings import Scenario, Sources, command
from loadgen.errors import DispatchError

_ANSWER_S = 60.0


class Catalogue(msgspec.Struct, frozen=True):
    """What there is of an asset.

    Args:
        asset: Its name.
        sensors: The names of its sensors, in the server's order.
        failure_modes: The names of the ways it fails, with the effect of each.
    """

    asset: str
    sensors: tuple[str, ...]
    failure_modes: dict[str, str]


class Grid(msgspec.Struct, frozen=True):
    """The part of the grid that a scenario keeps: row-major, a call for each pair.

    Args:
        rows: Sensors.
        cols: Failure modes.
        effects: What each of ``cols`` does.
    """

    rows: tuple[str, ...]
    cols: tuple[str, ...]
    effects: dict[str, str]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each row with each column, row by row."""
        return [(row, col) for row in self.rows for col in self.cols]

    def prompt(self, row: str, col: str) -> str:
        """Return what is asked about one pair."""
        return prompt(row, col, self.effects.get(col, ""))


def prompt(sensor: str, failure_mode: str, effect: str = "") -> str:
    """Return what is asked about a sensor and a failure mode."""
    why = f" ({effect})" if effect else ""
    return (
        f"Does the sensor '{sensor}' help to detect the failure mode '{failure_mode}'{why}? "
        "Answer yes or no, and give the reason in one sentence."
    )


def pick(catalogue: Catalogue, scenario: Scenario) -> Grid:
    """Return what a scenario keeps of a catalogue.

    Raises:
        DispatchError: If it keeps no sensor, or no failure mode.
    """
    rows = _kept(catalogue.sensors, scenario.sensors, f"scenario {scenario.id} keeps no sensor of {catalogue.asset}")
    modes = tuple(catalogue.failure_modes)
    cols = _kept(modes, scenario.failure_modes, f"scenario {scenario.id} keeps no failure mode of {catalogue.asset}")
    return Grid(rows, cols, {name: catalogue.failure_modes[name] for name in cols})


def _kept(names: Sequence[str], words: Sequence[str] | None, error: str) -> tuple[str, ...]:
    kept = tuple(name for name in names if words is None or any(word.casefold() in name.casefold() for word in words))
    if not kept:
        looked = f"none of {', '.join(names)} holds " if names else "the server names none; looked for "
        raise DispatchError(error, looked + (" or ".join(map(repr, words or ())) or "any name"))
    return kept


async def fetch(sources: Sources) -> Catalogue:
    """Ask both servers what there is.

    Args:
        sources: The asset, and the servers' commands.

    Raises:
        DispatchError: If a server can't be started, doesn't answer in a minute, or answers something else.
        ConfigError: If the package ``mcp`` isn't installed.
    """
    asked = {"asset": sources.asset}
    sensors = await _ask(sources.sensors, "sensors", asked)
    modes = await _ask(sources.failure_modes, "failure_modes", asked)
    try:
        names = msgspec.convert(sensors, tuple[str, ...])
        known = msgspec.convert(modes, list[dict[str, str]])
        return Catalogue(sources.asset, names, {mode["name"]: mode.get("effect", "") for mode in known})
    except (msgspec.ValidationError, KeyError) as error:
        raise DispatchError(
            f"the servers of {sources.asset} answer something else than names: {error}",
            "`sensors` gives a list of names, `failure_modes` a list of objects with name and effect",
        ) from None


async def _ask(words: Sequence[str], tool: str, arguments: dict[str, Any]) -> Any:
    async with mcp_client.connected(command(words)) as client:
        return await mcp_client.call(client, tool, arguments, timeout_s=_ANSWER_S)
