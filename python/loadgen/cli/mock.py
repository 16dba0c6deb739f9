"""``loadgen mock``: serve a mock of an LLM server until a signal stops it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Set as AbstractSet
from typing import Any

import click
import msgspec

from loadgen import _core
from loadgen.cli import stops
from loadgen.cli.options import GroupedCommand, GroupedOption
from loadgen.errors import ConfigError
from loadgen.session import mock
from loadgen.speech import option


def _mock(list_faults: bool, **given: Any) -> int:
    if list_faults:
        faults = _core.mock_faults()
        width = max(len(name) for name, _ in faults)
        for name, what in faults:
            click.echo(f"{name:<{width}}  {what}")
        return 0
    pairs = [
        (name, one)
        for name, value in given.items()
        for one in (value if isinstance(value, tuple) else [value])
        if one is not None
    ]
    config = mock.config_of(pairs, option)
    # Blocked before the server's threads begin, so that they inherit it and the signal waits for us.
    ends = {signal.SIGINT, *stops.from_outside()}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        _serve(config, ends)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return 0


def _serve(config: dict[str, Any], ends: AbstractSet[signal.Signals]) -> None:
    """Serve until one of the signals comes."""
    try:
        server = _core.MockServer(msgspec.json.encode(config).decode())
    except ValueError as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        words = str(error).removeprefix("mock server: ")
        raise ConfigError(f"the mock server can't start: {words}", _elsewhere(words)) from None
    try:
        click.echo(server.url)
        models = ", ".join(config.get("models", ["mock"]))
        click.echo(f"serving {models} at {server.url}; Ctrl-C stops it, {server.url}/truth tells what it did", err=True)
        sys.stdout.flush()
        signal.sigwait(ends)
    finally:
        server.stop()


def _elsewhere(words: str) -> str:
    """Return where else to listen; empty if that isn't what went wrong."""
    if "cannot listen on" not in words:
        return ""
    return (
        "take another port: --port N, or --port 0" if "in use" in words else "name an address of this machine: --host"
    )


def _flag(name: str, option: mock.MockOption) -> click.Parameter:
    spelled = "--" + name.replace("_", "-")
    if not option.metavar:
        return GroupedOption([spelled, name], is_flag=True, default=None, group=option.group, help=option.help)
    return GroupedOption(
        [spelled, name], metavar=option.metavar, multiple=option.many, group=option.group, help=option.help
    )


command = GroupedCommand(
    "mock",
    callback=_mock,
    help="Serve a mock of an LLM server, with exact timing and faults on demand.\n\n"
    "Its URL is printed to standard output once it listens.",
    params=[
        *(_flag(name, option) for name, option in mock.OPTIONS.items()),
        GroupedOption(
            ["--list-faults"], is_flag=True, group="Refusals and faults", help="Name all faults, and serve nothing."
        ),
    ],
)
