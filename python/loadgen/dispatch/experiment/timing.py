"""A policy for a service that runs faster than the real one: every span of time in it, scaled."""

from __future__ import annotations

import json
from typing import Any

from loadgen import _core


def policy(strategy: str, time_scale: float, *, profile: str | None = None) -> dict[str, Any]:
    """Return what to lay over a strategy's configuration, so that it fits a service of another pace.

    Args:
        strategy: The strategy's name.
        time_scale: Seconds of ours for one second of the service; 0.05 is twenty times as fast.
        profile: A set of published values that is laid over first.
    """
    if time_scale == 1:
        return {}
    whole: dict[str, Any] = json.loads(_core.policy_config(strategy, 1_000, profile=profile))
    return scaled(whole, time_scale)


def scaled(config: dict[str, Any], time_scale: float) -> dict[str, Any]:
    """Return only the spans and the rates of a configuration, scaled: keys that end in ``_s``, and ``per_s``."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            if inner := scaled(value, time_scale):
                found[key] = inner
        elif key.endswith("_s") and isinstance(value, (int, float)):
            found[key] = value / time_scale if key.endswith("per_s") else value * time_scale
    return found
