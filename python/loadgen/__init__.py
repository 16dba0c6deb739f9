"""loadgen: load generation for LLM inference endpoints, exact where it matters.

``loadgen.run(url, rate=…, duration=…)`` drives a server and returns what a client saw; ``loadgen.arun`` is the same,
async. Everything is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loadgen._core import __version__
    from loadgen.errors import ConfigError, DatasetError, EventError, LoadgenError, ReportError, RunError, TargetError
    from loadgen.event import (
        EventCodec,
        EventPublisherService,
        EventRecord,
        EventType,
        ManagedZMQContext,
        MessageCodec,
        MessagePublisher,
        MessageSubscriber,
        ZmqMessagePublisher,
        ZmqMessageSubscriber,
    )
    from loadgen.session import (
        Drain,
        Limits,
        Metric,
        PhaseConfig,
        PhaseResult,
        PhaseSettings,
        PhaseType,
        SessionResult,
        arun,
        run,
    )
    from loadgen.session.delays import constant_delays, gamma_delays, poisson_delays, uniform_delays
    from loadgen.session.order import SampleOrder, Sequential, Single, WithoutReplacement, WithReplacement
    from loadgen.session.plan import Plan
    from loadgen.session.strategy import (
        BurstStrategy,
        ConcurrencyStrategy,
        LoadStrategy,
        TimedIssueStrategy,
        create_load_strategy,
    )

__all__ = [
    "BurstStrategy",
    "ConcurrencyStrategy",
    "ConfigError",
    "DatasetError",
    "Drain",
    "EventCodec",
    "EventError",
    "EventPublisherService",
    "EventRecord",
    "EventType",
    "Limits",
    "LoadStrategy",
    "LoadgenError",
    "ManagedZMQContext",
    "MessageCodec",
    "MessagePublisher",
    "MessageSubscriber",
    "Metric",
    "PhaseConfig",
    "PhaseResult",
    "PhaseSettings",
    "PhaseType",
    "Plan",
    "ReportError",
    "RunError",
    "SampleOrder",
    "Sequential",
    "SessionResult",
    "Single",
    "TargetError",
    "TimedIssueStrategy",
    "WithReplacement",
    "WithoutReplacement",
    "ZmqMessagePublisher",
    "ZmqMessageSubscriber",
    "__version__",
    "arun",
    "constant_delays",
    "create_load_strategy",
    "gamma_delays",
    "poisson_delays",
    "run",
    "uniform_delays",
]

_ROOMS = {
    "loadgen._core": ("__version__",),
    "loadgen.errors": (
        "ConfigError",
        "DatasetError",
        "EventError",
        "LoadgenError",
        "ReportError",
        "RunError",
        "TargetError",
    ),
    "loadgen.event": (
        "EventCodec",
        "EventPublisherService",
        "EventRecord",
        "EventType",
        "ManagedZMQContext",
        "MessageCodec",
        "MessagePublisher",
        "MessageSubscriber",
        "ZmqMessagePublisher",
        "ZmqMessageSubscriber",
    ),
    "loadgen.session": (
        "Drain",
        "Limits",
        "Metric",
        "PhaseConfig",
        "PhaseResult",
        "PhaseSettings",
        "PhaseType",
        "SessionResult",
        "arun",
        "run",
    ),
    "loadgen.session.delays": ("constant_delays", "gamma_delays", "poisson_delays", "uniform_delays"),
    "loadgen.session.order": ("SampleOrder", "Sequential", "Single", "WithReplacement", "WithoutReplacement"),
    "loadgen.session.plan": ("Plan",),
    "loadgen.session.strategy": (
        "BurstStrategy",
        "ConcurrencyStrategy",
        "LoadStrategy",
        "TimedIssueStrategy",
        "create_load_strategy",
    ),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}

if not TYPE_CHECKING:  # a checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'loadgen' has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
