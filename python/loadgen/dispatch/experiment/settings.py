"""The experiment's settings: strategies and their colours, scenarios, sources of rows and columns, published times."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadgen.config import file
from loadgen.errors import ConfigError

FILE = Path(__file__).with_name("experiment.yaml")


class Strategy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A strategy that takes part.

    Args:
        name: As the dispatcher calls it.
        label: As tables and plots call it.
        colour: In plots, as ``#rrggbb``.
    """

    name: str
    label: str
    colour: str


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the grid.

    Args:
        id: Its number, as published.
        about: What it keeps, in words.
        sensors: Words; a sensor stays if its name holds one of them. ``None`` keeps all.
        failure_modes: The same for failure modes.
    """

    id: str
    about: str = ""
    sensors: tuple[str, ...] | None = None
    failure_modes: tuple[str, ...] | None = None


class Sources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where rows and columns come from: the asset, and the commands of two MCP servers."""

    asset: str
    sensors: tuple[str, ...]
    failure_modes: tuple[str, ...]


class ToolServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The MCP server under test: its command, and the name of the tool that does the whole grid."""

    command: tuple[str, ...]
    name: str


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it.

    Args:
        strategies: In the order of tables and plots; the first is the baseline of speed-ups and answers.
        sources: Where rows and columns come from.
        tool: What ``--callee mcp`` tests.
        scenarios: The parts of the grid.
        published: Mean wall seconds by scenario and strategy.
    """

    strategies: tuple[Strategy, ...]
    sources: Sources
    tool: ToolServer
    scenarios: tuple[Scenario, ...]
    published: dict[str, dict[str, float]]

    @property
    def baseline(self) -> str:
        """The strategy that the others are compared with."""
        return self.strategies[0].name

    def strategy(self, name: str) -> Strategy:
        """Return a strategy by its name."""
        return next(strategy for strategy in self.strategies if strategy.name == name)


def read(path: str | None = None) -> Settings:
    """Read the experiment's settings.

    Args:
        path: A YAML or TOML file whose keys replace ours; ``None`` for ours alone.

    Raises:
        ConfigError: If it can't be read, or breaks a rule.
    """
    raw = file.read(str(FILE))
    if path is not None:
        raw |= file.read(path)
    where = path or str(FILE)
    try:
        settings = msgspec.convert(raw, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}", f"compare it with {FILE}") from None
    _check(settings, where)
    return settings


def _check(settings: Settings, where: str) -> None:
    for what, names in (
        ("strategy", [strategy.name for strategy in settings.strategies]),
        ("scenario", [scenario.id for scenario in settings.scenarios]),
    ):
        if not names:
            raise ConfigError(f"{where} names no {what}")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"{where} names the {what} {', '.join(twice)} twice")


def choose(what: str, names: str | None, known: Sequence[str]) -> tuple[str, ...]:
    """Return the names that a list such as ``hedged,auto`` chooses, in the order of ``known``.

    Args:
        what: What the list is called, for the error.
        names: The list; ``None`` chooses all.
        known: What there is.

    Raises:
        ConfigError: If a name is unknown, or none is given.
    """
    if names is None:
        return tuple(known)
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise ConfigError(f"{what} {names!r} names {', '.join(unknown) or 'nothing'}", f"there are {', '.join(known)}")
    return tuple(name for name in known if name in chosen)


def command(words: Sequence[str]) -> list[str]:
    """Return a command with ``{python}`` replaced by the Python that runs."""
    return [word.replace("{python}", sys.executable) for word in words]


def as_json(settings: Settings) -> dict[str, Any]:
    """Return the settings that decide what is measured, as plain values: not labels, colours or what was published."""
    plain: dict[str, Any] = msgspec.to_builtins(settings)
    return {name: plain[name] for name in ("sources", "tool", "scenarios")}
