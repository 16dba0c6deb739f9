"""What a user says of a dispatch: the strategy's name, its options, the environment; checked here, decided in Rust."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypedDict, cast

import msgspec

from loadgen import _core
from loadgen.config import values
from loadgen.config.known import check_options, no_choice
from loadgen.errors import ConfigError
from loadgen.speech import option

STRATEGIES = ("sequential", "parallel", "adaptive_ceiling", "hedged", "auto")
PROFILES = ("fmsr",)
PREFIX = "LOADGEN_"
PUBLISHED = "FMSR_"

MOST_IN_FLIGHT = 1_000
"""The ceiling where none is given and there are more items (contract: dispatch)."""

_SPARE_DESCRIPTORS = 64
_COPIES = 8
_RETRY: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "attempts": ("attempts", values.count32),
    "base": ("base_s", values.duration_or_zero),
    "most": ("most_s", values.duration),
    "jitter": ("jitter", str),
    "budget": ("budget", values.share),
    "retry_after_most": ("retry_after_most_s", values.duration_or_zero),
}

_PUSH_BACK = "must be a list of statuses and exceptions, or a function of the exception"

PushBackRule: TypeAlias = "list[int | type[BaseException]] | Callable[[BaseException], bool | float | None]"


class DispatchOptions(TypedDict, total=False):
    """The keywords of :class:`loadgen.Dispatcher`; what each means stands there."""

    max_concurrency: int | None
    workers: int | None
    hedge_after: float | str | None
    attempt_timeout: float | str | None
    call_timeout: float | str | None
    stall_timeout: float | str | None
    streaming: bool
    retry: int | Mapping[str, Any] | None
    push_back: PushBackRule | None
    rpm: float | None
    tpm: float | None
    budget: float | str | None
    key: Callable[[Any], Any] | None
    tokens: Callable[[Any], int] | None
    coalesce: Callable[..., Any] | None
    journal: Any
    progress: Any
    trace: Callable[[Any], object] | bool | None
    remember: str | os.PathLike[str] | None
    profile: str | None
    policy: Mapping[str, Any] | None
    seed: int


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options as they are used: checked, durations in seconds."""

    strategy: str = "auto"
    profile: str | None = None
    max_concurrency: int | None = None
    overrides: dict[str, Any] = {}
    push_back: Any = None
    key: Callable[[Any], Any] | None = None
    tokens: Callable[[Any], int] | None = None
    coalesce: Callable[..., Any] | None = None
    journal: Any = None
    progress: Any = None
    trace: Callable[[Any], object] | bool | None = None
    remember: str | None = None
    seed: int = 0

    def config(self, items: int | None, remembered: Mapping[str, float] | None = None) -> str:
        """Return the policy's whole configuration, as JSON.

        Args:
            items: How many calls there are; ``None`` where they come one by one.
            remembered: What an earlier batch learned of the endpoint.

        Raises:
            ConfigError: In the core's words, if the options contradict each other.
        """
        most = self.max_concurrency or min(ceiling(self.strategy, items), _descriptors())
        overrides = dict(self.overrides)
        if remembered is not None and self.strategy == "auto":
            overrides["remembered"] = dict(remembered)
        try:
            return _core.policy_config(self.strategy, most, json.dumps(overrides), profile=self.profile)
        except ValueError as error:
            raise ConfigError(str(error)) from None


def ceiling(strategy: str, items: int | None) -> int:
    """Return how many calls may be in flight where nobody says: one an item, and in a small batch a copy of each.

    Args:
        strategy: Its name.
        items: How many calls there are; ``None`` where they come one by one.
    """
    if items is None:
        return MOST_IN_FLIGHT
    copies = min(items, _COPIES) if strategy in ("hedged", "auto") else 0
    return max(1, min(max(items, min(items + copies, 2 * _COPIES)), MOST_IN_FLIGHT))


def read(strategy: str | None, given: Mapping[str, Any], called: Callable[[str], str] = option) -> Options:
    """Read a strategy's name and options.

    Args:
        strategy: One of ``STRATEGIES``; ``None`` is ``auto``.
        given: The options by name; ``None`` is the default.
        called: How the user calls an option.

    Raises:
        ConfigError: If one is unknown, or its value can't be used.
    """
    return _read(_strategy(strategy, called("strategy")), given, called)


def from_env(
    prefix: str, strategy: str | None, given: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[str, DispatchOptions]:
    """Read what the environment says; what is given in code wins.

    Args:
        prefix: ``LOADGEN_``, or ``FMSR_`` for the published names, and the published behaviour with them.
        strategy: As for :func:`read`; ``None`` asks the environment.
        given: As for :func:`read`.
        environ: The environment.

    Returns:
        The strategy and the options to use.

    Raises:
        ConfigError: As :func:`read`, naming the variable; or if the prefix is another.
    """
    if prefix not in (PREFIX, PUBLISHED):
        raise ConfigError(f"prefix {prefix!r} is none that dispatch reads", f"use {PREFIX!r} or {PUBLISHED!r}")
    names = {"workers": f"{prefix}PARALLEL_WORKERS", "hedge_after": f"{prefix}HEDGE_AFTER_S"}
    options = {name: value for name, value in given.items() if value is not None}
    said: dict[str, str] = {}
    for name, variable in names.items():
        if name not in options and environ.get(variable, "").strip():
            options[name] = environ[variable]
            said[name] = variable
    variable = f"{prefix}STRATEGY"
    if strategy is None and environ.get(variable, "").strip():
        strategy = _strategy(environ[variable].strip(), variable)
    elif strategy is None and prefix == PUBLISHED:
        strategy = "parallel"
    name = _strategy(strategy, option("strategy"))
    if prefix == PUBLISHED:
        options.setdefault("profile", "fmsr")
    _read(name, options, lambda name: said.get(name) or option(name))
    return name, cast("DispatchOptions", options)


def _strategy(name: str | None, called: str) -> str:
    if name is None:
        return "auto"
    if name not in STRATEGIES:
        raise no_choice(called, name, STRATEGIES)
    return name


def _read(strategy: str, given: Mapping[str, Any], called: Callable[[str], str]) -> Options:
    check_options(given, DispatchOptions.__annotations__)
    said = {name: value for name, value in given.items() if value is not None}

    def value(name: str, how: Callable[[Any], Any]) -> Any:
        if name not in said:
            return None
        try:
            return how(said[name])
        except ValueError as error:
            raise ConfigError(f"{called(name)} {_shown(said[name])} {error}") from None

    for name in ("key", "tokens", "coalesce", "trace"):
        if name in said and not callable(said[name]) and (name != "trace" or not isinstance(said[name], bool)):
            raise ConfigError(f"{name} must be a function, not {type(said[name]).__name__}")
    return Options(
        strategy=strategy,
        profile=value("profile", _profile),
        max_concurrency=value("max_concurrency", values.count32),
        overrides=_overrides(strategy, value),
        push_back=said.get("push_back"),
        key=said.get("key"),
        tokens=said.get("tokens"),
        coalesce=said.get("coalesce"),
        journal=said.get("journal"),
        progress=said.get("progress"),
        trace=said.get("trace"),
        remember=value("remember", values.path),
        seed=value("seed", values.whole) or 0,
    )


def _overrides(strategy: str, value: Callable[[str, Callable[[Any], Any]], Any]) -> dict[str, Any]:
    """What differs from the named strategy, by the keys of the core's configuration."""
    workers = value("workers", values.count32)
    after_s = value("hedge_after", values.duration)
    budget = value("budget", values.share)
    plain = {
        "attempt_timeout_s": value("attempt_timeout", values.duration),
        "call_timeout_s": value("call_timeout", values.duration),
        "stall_timeout_s": value("stall_timeout", values.duration),
        "streaming": value("streaming", values.flag),
    }
    overrides: dict[str, Any] = {name: got for name, got in plain.items() if got is not None}
    if workers is not None and strategy == "parallel":
        overrides["limit"] = {"kind": "fixed", "n": workers}
    if after_s is not None and strategy == "hedged":
        overrides["hedge"] = {"after_s": after_s}
    if budget is not None and strategy == "auto":
        overrides["hedge"] = {"cap": budget}
    retry = {**({} if budget is None else {"budget": budget}), **(value("retry", _retry) or {})}
    if retry:
        overrides["retry"] = retry
    rates = {name: value(name, values.positive) for name in ("rpm", "tpm")}
    if any(rates.values()):
        overrides["rates"] = {name: got for name, got in rates.items() if got is not None}
    statuses = value("push_back", _statuses)
    if statuses:
        overrides["push_back"] = {"statuses": statuses}
    _lay_over(overrides, value("policy", _mapping) or {})
    return overrides


def _lay_over(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Put what is said in the core's own words over the rest, key by key and to any depth."""
    for key, value in over.items():
        inner = base.get(key)
        if isinstance(inner, dict) and isinstance(value, Mapping) and "kind" not in value:
            _lay_over(inner, value)
        else:
            base[key] = value


def _mapping(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError("must be a mapping of the policy's own keys")  # noqa: TRY004  # as all readers of values
    return given


def _retry(given: Any) -> dict[str, Any]:
    """Read how often and how a failed call is made again: attempts in all, or a mapping of what differs."""
    if not isinstance(given, Mapping):
        return {"attempts": values.count32(given)}
    read: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _RETRY:
            raise ValueError(f"has the unknown key {name!r}: there are {', '.join(_RETRY)}")
        key, how = _RETRY[name]
        try:
            read[key] = how(value)
        except ValueError as error:
            raise ValueError(f"has {name} {value!r}, which {error}") from None
    return read


def _profile(given: Any) -> str:
    if given not in PROFILES:
        raise ValueError(f"is none: there is {', '.join(PROFILES)}")
    return str(given)


def _statuses(given: Any) -> list[int]:
    """Read which statuses are push-back; exceptions and functions are asked where calls end."""
    if callable(given) and not isinstance(given, type):
        return []
    if not isinstance(given, (list, tuple, set, frozenset)):
        raise ValueError(_PUSH_BACK)  # noqa: TRY004  # as all readers of values
    statuses = []
    for one in given:
        if isinstance(one, type) and issubclass(one, BaseException):
            continue
        if isinstance(one, bool) or not isinstance(one, int) or not 100 <= one <= 999:
            raise ValueError(f"holds {one!r}, which is neither a status nor an exception")
        statuses.append(one)
    return statuses


def _shown(value: Any) -> str:
    if isinstance(value, (str, int, float)):
        return str(value) if str(value).isprintable() else repr(value)
    return repr(value)[:80]


def _descriptors() -> int:
    """How many calls the limit on open files allows at once, with some left for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_IN_FLIGHT if soft == resource.RLIM_INFINITY else max(1, soft - _SPARE_DESCRIPTORS)
