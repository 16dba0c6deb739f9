"""The keywords of a pool: what each means, and how they are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import msgspec

from loadgen.config import values
from loadgen.config.known import check_options
from loadgen.dispatch import strategy as strategies
from loadgen.dispatch.strategy import Options, PushBackRule
from loadgen.errors import ConfigError
from loadgen.node.choice import POLICIES, mode_of
from loadgen.node.objective import Objective
from loadgen.node.thresholds import Mode, Thresholds


class NodeOptions(TypedDict, total=False):
    """The keywords of :class:`loadgen.NodePool`; what each means stands there."""

    mode: str | None
    policy: str | None
    thresholds: Thresholds | Mapping[str, Any] | None
    top_k: int | None
    half_life: float | str | None
    copies: float | str | None
    state: str | os.PathLike[str] | None
    deadline: float | str | None
    budget: float | None
    attempt_timeout: float | str | None
    call_timeout: float | str | None
    retry: int | Mapping[str, Any] | None
    push_back: PushBackRule | None
    rpm: float | None
    tpm: float | None
    tokens: Callable[[Any], int] | None
    coalesce: Callable[..., Any] | None
    journal: Any
    progress: Any
    trace: Callable[[Any], object] | bool | None
    seed: int


_DISPATCH = frozenset(
    {
        "attempt_timeout",
        "call_timeout",
        "retry",
        "push_back",
        "rpm",
        "tpm",
        "tokens",
        "coalesce",
        "journal",
        "trace",
        "seed",
    }
)


class PoolOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The keywords as they are used: checked, durations in seconds."""

    mode: Mode | None
    thresholds: Thresholds | None
    """The published rules, if they decide."""
    top_k: int
    half_life_s: float
    copies: float
    state: str | None
    objective: Objective | None
    progress: Any
    dispatch: Options

    def keeping(self, kind: type) -> PoolOptions:
        """Return the options with a journal that reads values as a type.

        Args:
            kind: The type.
        """
        from loadgen.dispatch.journal import Journal

        journal = self.dispatch.journal
        if journal is None or isinstance(journal, Journal):
            return self
        dispatch = msgspec.structs.replace(self.dispatch, journal=Journal(journal, codec=kind))
        return msgspec.structs.replace(self, dispatch=dispatch)


def read(given: Mapping[str, Any]) -> PoolOptions:
    """Read the keywords of a pool.

    Args:
        given: The keywords by name; ``None`` is the default.

    Raises:
        ConfigError: If one is unknown, or its value can't be used.
    """
    check_options(given, NodeOptions.__annotations__)
    said = {name: value for name, value in given.items() if value is not None}

    def value(name: str, how: Callable[[Any], Any], default: Any) -> Any:
        try:
            return how(said[name]) if name in said else default
        except ValueError as error:
            raise ConfigError(f"{name} {said[name]!r} {error}") from None

    rules = _thresholds(said.get("thresholds"))
    policy = value("policy", values.choice(*POLICIES), "auto")
    if policy == "auto" and "thresholds" in said:
        raise ConfigError("thresholds are given, and the policy is auto", 'say policy="thresholds"')
    return PoolOptions(
        mode=mode_of(said["mode"]) if "mode" in said else None,
        thresholds=rules if policy == "thresholds" else None,
        top_k=value("top_k", values.count, rules.hybrid_top_k),
        half_life_s=value("half_life", values.duration, 60.0),
        copies=value("copies", values.share, 0.2),
        state=value("state", values.path, None),
        objective=_objective(value("deadline", values.duration, None), value("budget", values.positive, None)),
        progress=said.get("progress"),
        dispatch=strategies.read("parallel", {name: said[name] for name in said if name in _DISPATCH}, str),
    )


def _objective(deadline_s: float | None, budget: float | None) -> Objective | None:
    if deadline_s is not None and budget is not None:
        raise ConfigError("deadline and budget are both given", "give one: the cheapest in time, or the fastest for it")
    return None if deadline_s is None and budget is None else Objective(deadline_s, budget)


def _thresholds(given: Any) -> Thresholds:
    if given is None:
        return Thresholds()
    if isinstance(given, Thresholds):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(f"thresholds is {type(given).__name__}", "give a mapping, such as {'dominant_ratio': 4}")
    for name in given:
        if name not in Thresholds.__struct_fields__:
            raise ConfigError(f"there is no threshold {name!r}", f"there are {', '.join(Thresholds.__struct_fields__)}")
    try:
        return msgspec.convert(dict(given), Thresholds)
    except msgspec.ValidationError as error:
        raise ConfigError(f"a threshold can't be used: {error}") from None
