"""A run's options: one table of them, read from flags, a file or keywords, checked once."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from loadgen.config import elsewhere, file, phases, secret, target
from loadgen.config.check import check, check_no_load, check_target
from loadgen.config.known import nearest
from loadgen.config.nodes import misfits
from loadgen.config.options import DEFAULTS, OPTIONS, Config, Option, PhaseOptions, RunOptions
from loadgen.errors import ConfigError
from loadgen.speech import option

__all__ = [
    "DEFAULTS",
    "OPTIONS",
    "Config",
    "Option",
    "PhaseOptions",
    "RunOptions",
    "api_key",
    "redacted",
    "resolve",
]

_FILES = {
    "dataset": "a dataset",
    "tokenizer": "a tokenizer",
    "cacert": "a PEM file",
    "cert": "a PEM file",
    "key": "a PEM file",
}


class _Given(msgspec.Struct, frozen=True):
    """Options as a user gave them, before they are read.

    Args:
        values: By name, as typed; what was given beside a file has taken the place of the file's.
        in_file: The names of those that stand in the file.
        where: What an error says behind these, such as `` in load.yaml``.
    """

    values: dict[str, Any]
    in_file: set[str]
    where: str

    @classmethod
    def of(cls, given: Mapping[str, Any], config_file: str | None) -> Self:
        from_file = file.read(config_file) if config_file is not None else {}
        beside = {name: value for name, value in given.items() if value is not None}
        values = {**{name: value for name, value in from_file.items() if value is not None}, **beside}
        if values.get("phases") is None and "phases" in from_file:  # in YAML, a key with nothing behind it
            values["phases"] = []
        return cls(values, from_file.keys() - beside.keys(), f" in {config_file}")

    def called(self, name: str) -> str:
        """Return how the user calls an option."""
        return f"{name}{self.where}" if name in self.in_file else option(name)

    def typed(self) -> dict[str, Any]:
        """Read all but the target and the phases.

        Raises:
            ConfigError: If one can't be used.
        """
        alone = {name: value for name, value in self.values.items() if name not in ("url", "phases")}
        typed = {name: _read(name, value, self.called) for name, value in alone.items()}
        if "balance" in typed and "balance" not in self.in_file and "phases" not in self.values:
            # What the file says of its own balance goes with it; with a list of phases, each of them sees to that.
            for name in self.in_file.intersection(misfits(typed["balance"])):
                typed.pop(name, None)
        return typed


def resolve(
    url: str | Sequence[str] | None,
    given: Mapping[str, Any],
    *,
    config_file: str | None = None,
    needs_load: bool = True,
) -> Config:
    """Make a run's options from what a user gave, in full or not at all.

    Args:
        url: The target, or several; ``None`` takes the file's ``url``.
        given: Options by name, as typed; what is ``None`` was not given.
        config_file: A YAML or TOML file with further options; ``given`` wins over it, and over its phases.
        needs_load: Whether the options must say a load; not where phases come from elsewhere.

    Returns:
        The validated options.

    Raises:
        ConfigError: With the value received, the rule it broke and a way out.
    """
    said = _Given.of(given, config_file)
    for name in said.values:
        if name not in (*OPTIONS, "url", "phases"):
            raise _unknown(name, said)
    target = said.values.get("url") if url is None else url
    if target is None:
        raise ConfigError("no target given", "name the server, such as http://127.0.0.1:8000 (or mock: to try loadgen)")
    typed = said.typed()
    first, *others = _targets(target)
    targets: dict[str, Any] = {"url": first, "more_urls": tuple(others)}
    config = Config(**targets, **typed)
    if "phases" in said.values:
        config = msgspec.structs.replace(config, phases=_phases(said, targets, typed))
    elif needs_load:
        config = check(config, typed.keys(), option)
    else:
        check_target(config, option)
        check_no_load(config, option)
    api_key(config, said.called)
    return config


def _phases(said: _Given, targets: Mapping[str, Any], typed: Mapping[str, Any]) -> tuple[PhaseOptions, ...]:
    """Read the list of phases, given what stands beside it."""
    is_files = "phases" in said.in_file
    # Flags win over a file, its phases included; beside a caller's own list of phases they are defaults.
    wins = {name: value for name, value in typed.items() if is_files and name not in said.in_file}
    defaults = {name: value for name, value in typed.items() if name not in wins}
    around = phases.Around(targets, defaults, wins, _read, said.where if is_files else "")
    return phases.phases(said.values["phases"], around)


def _targets(given: Any) -> tuple[str, ...]:
    listed = given if isinstance(given, (list, tuple)) else (given,)
    try:
        target.check_count(listed)
    except ValueError as error:
        raise ConfigError(f"the targets {error}") from None
    found = tuple(_target(url, number if listed[1:] else None) for number, url in enumerate(listed, start=1))
    servers = [target.server(url) for url in found]
    # Two servers of `mock:` are two; anything else would be one node that counts as two.
    twice = [at for at, server in enumerate(servers) if server in servers[:at] and not found[at].startswith("mock:")]
    if twice:
        at, before = twice[0], servers.index(servers[twice[0]])
        also = "" if found[at] == found[before] else f", also as {secret.shown_url(found[before])}"
        raise ConfigError(
            f"{secret.shown_url(found[at])} is named twice{also}", "balance weighted sends one node more than others"
        )
    return found


def _target(url: Any, number: int | None) -> str:
    """Read one target; the ``number``-th, where there are several."""
    try:
        return target.url(url)
    except ValueError as error:
        shown = secret.shown_url(url) if isinstance(url, str) and "@" not in url else ""
        if number is not None:
            shown = f"target {number}, {shown}," if shown else f"target {number}"
        raise ConfigError(f"{shown or 'the target'} {error}") from None


def _read(name: str, value: Any, called: Callable[[str], str]) -> Any:
    try:
        typed = OPTIONS[name].read(value)
        if name in _FILES:
            target.readable(typed, _FILES[name])
    except ValueError as error:
        hidden = name in ("header", "extra_body", "proxy") or not isinstance(value, (str, int, float))
        shown = "" if hidden else f" {value}" if str(value).isprintable() else f" {value!r}"
        key, _, where = called(name).partition(" in ")
        where = f" in {where}" if where else ""
        raise ConfigError(f"{key}{shown[:200]}{where} {error}", _way_out(name, value)) from None
    return typed


def _way_out(name: str, value: Any) -> str:
    """Return what to do about a value that others take: several loads, an endless rate, the name of a model."""
    if name in ("concurrency", "rate") and (isinstance(value, (list, tuple)) or "," in str(value)):
        return f"several loads, one after the other, are phases of one run, in its {option('config')}"
    if name == "rate" and str(value).strip().lower() in ("inf", "infinity"):
        return f"all at once is {option('burst')}, so many at a time {option('concurrency')}"
    if name == "tokenizer" and not Path(str(value)).exists():
        return "it takes a file, the model's tokenizer.json: nothing is fetched"
    if name == "dataset" and not Path(str(value)).exists():
        return f"it takes a file of prompts; without one they are made, as long as {option('input_tokens')} says"
    return ""


def _unknown(name: str, said: _Given) -> ConfigError:
    close = nearest(name, [*OPTIONS, "phases"])
    called = str if name in said.in_file else option
    way_out = elsewhere.hint(name, OPTIONS, called)
    way_out = way_out or (f"perhaps {called(close)}?" if close else "`loadgen run --help` lists the options")
    return ConfigError(f"unknown option {said.called(name)}", way_out)


def api_key(config: Config, called: Callable[[str], str] = str) -> str | None:
    """Return the API key that the options name: from the file or variable given, else from ``OPENAI_API_KEY``.

    Args:
        config: The options.
        called: How the user calls an option.

    Returns:
        The key; ``None`` where there is none, where a header authorises, or for the built-in mock server.

    Raises:
        ConfigError: If the file or variable was named and holds no key.
    """
    name = "api_key_file" if config.api_key_file is not None else "api_key_env"
    try:
        if config.api_key_file is not None:
            return secret.key_from_file(config.api_key_file)
        if config.api_key_env is not None:
            return secret.key_from_env(config.api_key_env, needed=True)
        if config.is_mock or any(header.name.lower() == "authorization" for header in config.header):
            return None
        return secret.key_from_env("OPENAI_API_KEY")
    except ValueError as error:
        raise ConfigError(f"{called(name)} {error}") from None


def redacted(config: Config) -> dict[str, Any]:
    """Return the options as they may be stored and shown: plain JSON values, no secrets, defaults included.

    Args:
        config: The options; their list of phases, if any, is left out.
    """
    urls = [secret.shown_url(url) for url in config.urls]
    shown: dict[str, Any] = {"url": urls if config.more_urls else urls[0]}
    for name in OPTIONS:
        value = getattr(config, name)
        if name == "header":
            value = {header.name: secret.HIDDEN for header in config.header}
        elif name == "extra_body":
            value = None if config.extra_body is None else config.extra_body.stored
        elif name == "proxy" and value is not None:
            value = secret.shown_url(value)
        shown[name] = (
            [list(item) if isinstance(item, tuple) else item for item in value] if isinstance(value, tuple) else value
        )
    return shown
