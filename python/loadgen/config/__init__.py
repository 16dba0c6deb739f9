"""A run's options: one table of them, read from flags, a file or keywords, checked once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadgen.config import elsewhere, file, phases, secret, target
from loadgen.config.check import check, check_no_load, check_target
from loadgen.config.known import nearest
from loadgen.config.nodes import misfits
from loadgen.config.options import DEFAULTS, OPTIONS, Config, Option, PhaseOptions, RunOptions
from loadgen.config.speech import Speech, in_keywords, spoken_as
from loadgen.errors import ConfigError

__all__ = [
    "DEFAULTS",
    "OPTIONS",
    "Config",
    "Option",
    "PhaseOptions",
    "RunOptions",
    "api_key",
    "in_keywords",
    "redacted",
    "resolve",
    "spoken_as",
]

_FILES = {
    "dataset": "a dataset",
    "tokenizer": "a tokenizer",
    "cacert": "a PEM file",
    "cert": "a PEM file",
    "key": "a PEM file",
}


def resolve(
    url: str | Sequence[str] | None,
    given: Mapping[str, Any],
    *,
    config_file: str | None = None,
    speech: Speech = "keywords",
    needs_load: bool = True,
) -> Config:
    """Make a run's options from what a user gave, in full or not at all.

    Args:
        url: The target, or several; ``None`` takes the file's ``url``.
        given: Options by name, as typed; what is ``None`` was not given.
        config_file: A YAML or TOML file with further options; ``given`` wins over it, and over its phases.
        speech: Whether errors call an option ``--max-concurrency`` or ``max_concurrency``.
        needs_load: Whether the options must say a load; not where phases come from elsewhere.

    Returns:
        The validated options.

    Raises:
        ConfigError: With the value received, the rule it broke and a way out.
    """
    from_file = file.read(config_file) if config_file is not None else {}
    in_file = f" in {config_file}"
    sources = dict.fromkeys(from_file, in_file)
    raw: dict[str, Any] = {name: value for name, value in from_file.items() if value is not None}
    for name, value in given.items():
        if value is not None:
            raw[name] = value
            sources.pop(name, None)

    def called(name: str) -> str:
        return spoken_as(name, "keywords" if name in sources else speech) + sources.get(name, "")

    target = raw.pop("url", None) if url is None else url
    raw.pop("url", None)
    listed = raw.pop("phases", None)
    if "phases" in sources and listed is None:  # in YAML, a key with nothing behind it
        listed = []
    for name in raw:
        if name not in OPTIONS:
            raise _unknown(name, called, speech)
    if target is None:
        raise ConfigError("no target given", "name the server, such as http://127.0.0.1:8000 (or mock: to try loadgen)")
    typed = {name: _read(name, value, called) for name, value in raw.items()}
    if "balance" in typed and "balance" not in sources and listed is None:
        # What the file says of its own balance goes with it; with a list of phases, each of them sees to that.
        gone = [name for name in misfits(typed["balance"]) if name in sources]
        typed = {name: value for name, value in typed.items() if name not in gone}
    first, *others = _targets(target)
    targets: dict[str, Any] = {"url": first, "more_urls": tuple(others)}
    config = Config(**targets, **typed)
    if listed is not None:
        # Flags win over a file, its phases included; beside a caller's own list of phases they are defaults.
        wins = {name: typed[name] for name in typed if name not in sources} if "phases" in sources else {}
        defaults = {name: value for name, value in typed.items() if name not in wins}
        around = phases.Around(targets, defaults, wins, _read, sources.get("phases", ""))
        config = msgspec.structs.replace(config, phases=phases.phases(listed, around))
    elif needs_load:
        config = check(config, typed.keys(), lambda name: spoken_as(name, speech))
    else:
        check_target(config, lambda name: spoken_as(name, speech))
        check_no_load(config, lambda name: spoken_as(name, speech))
    api_key(config, called)
    return config


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


def _read(name: str, value: Any, called: Any) -> Any:
    option = OPTIONS[name]
    try:
        typed = option.read(value)
        if name in _FILES:
            target.readable(typed, _FILES[name])
    except ValueError as error:
        hidden = name in ("header", "extra_body", "proxy") or not isinstance(value, (str, int, float))
        shown = "" if hidden else f" {value}" if str(value).isprintable() else f" {value!r}"
        key, _, where = called(name).partition(" in ")
        way_out = _way_out(name, value, "flags" if key.startswith("--") else "keywords")
        raise ConfigError(f"{key}{shown[:200]}{f' in {where}' if where else ''} {error}", way_out) from None
    return typed


def _way_out(name: str, value: Any, speech: Speech) -> str:
    """Return what to do about a value that others take: several loads, an endless rate, the name of a model."""
    if name in ("concurrency", "rate") and (isinstance(value, (list, tuple)) or "," in str(value)):
        return "several loads, one after the other, are phases of one run, in its --config"
    if name == "rate" and str(value).strip().lower() in ("inf", "infinity"):
        return f"all at once is {spoken_as('burst', speech)}, so many at a time {spoken_as('concurrency', speech)}"
    if name == "tokenizer" and not Path(str(value)).exists():
        return "it takes a file, the model's tokenizer.json: nothing is fetched"
    if name == "dataset" and not Path(str(value)).exists():
        length = spoken_as("input_tokens", speech)
        return f"it takes a file of prompts; without one they are made, as long as {length} says"
    return ""


def _unknown(name: str, called: Any, speech: Speech) -> ConfigError:
    close = nearest(name, [*OPTIONS, "phases"])
    where = called(name)
    speech = "keywords" if " in " in where else speech
    way_out = elsewhere.hint(name, OPTIONS, "--" if speech == "flags" else "")
    way_out = way_out or (f"perhaps {spoken_as(close, speech)}?" if close else "`loadgen run --help` lists the options")
    return ConfigError(f"unknown option {where}", way_out)


def api_key(config: Config, called: Any = None) -> str | None:
    """Return the API key that the options name: from the file or variable given, else from ``OPENAI_API_KEY``.

    Args:
        config: The options.
        called: How the user calls an option.

    Returns:
        The key; ``None`` where there is none, where a header authorises, or for the built-in mock server.

    Raises:
        ConfigError: If the file or variable was named and holds no key.
    """
    called = called or (lambda name: name)
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
