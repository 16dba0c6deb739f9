"""loadgen: load generation for LLM inference endpoints, exact where it matters.

``loadgen.run(url, rate=…, duration=…)`` drives a server and returns what a client saw; ``loadgen.arun`` is the same,
async. Everything is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loadgen._core import __version__
    from loadgen.dispatch import Batch, CallResult, Dispatcher, Grid, Unknown
    from loadgen.errors import (
        CallTimeoutError,
        ConfigError,
        DatasetError,
        DispatchError,
        EventError,
        LoadgenError,
        MetricsError,
        NodeError,
        PushBack,
        ReportError,
        RequestError,
        RunError,
        TargetError,
    )
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
    from loadgen.metrics import (
        MetricsAggregatorService,
        MetricsPublisher,
        MetricsRegistry,
        MetricsSnapshot,
        MetricsSnapshotSubscriber,
        SessionState,
    )
    from loadgen.node import Node, NodeBatch, NodePool
    from loadgen.session import (
        Drain,
        Limits,
        Metric,
        NodeResult,
        PhaseConfig,
        PhaseResult,
        PhaseSettings,
        PhaseType,
        SessionResult,
        arun,
        run,
    )
    from loadgen.session.benchmark import BenchmarkSession
    from loadgen.session.delays import constant_delays, gamma_delays, poisson_delays, uniform_delays
    from loadgen.session.http_issuer import HttpIssuer
    from loadgen.session.order import SampleOrder, Sequential, Single, WithoutReplacement, WithReplacement
    from loadgen.session.pattern import create_load_strategy
    from loadgen.session.phase_issuer import PhaseIssuer
    from loadgen.session.plan import Plan
    from loadgen.session.query import Query, QueryResult, SampleIssuer, StreamChunk, Usage
    from loadgen.session.strategy import (
        AdaptiveStrategy,
        BurstStrategy,
        ConcurrencyStrategy,
        LoadStrategy,
        TimedIssueStrategy,
    )

__all__ = [
    "AdaptiveStrategy",
    "Batch",
    "BenchmarkSession",
    "BurstStrategy",
    "CallResult",
    "CallTimeoutError",
    "ConcurrencyStrategy",
    "ConfigError",
    "DatasetError",
    "DispatchError",
    "Dispatcher",
    "Drain",
    "EventCodec",
    "EventError",
    "EventPublisherService",
    "EventRecord",
    "EventType",
    "Grid",
    "HttpIssuer",
    "Limits",
    "LoadStrategy",
    "LoadgenError",
    "ManagedZMQContext",
    "MessageCodec",
    "MessagePublisher",
    "MessageSubscriber",
    "Metric",
    "MetricsAggregatorService",
    "MetricsError",
    "MetricsPublisher",
    "MetricsRegistry",
    "MetricsSnapshot",
    "MetricsSnapshotSubscriber",
    "Node",
    "NodeBatch",
    "NodeError",
    "NodePool",
    "NodeResult",
    "PhaseConfig",
    "PhaseIssuer",
    "PhaseResult",
    "PhaseSettings",
    "PhaseType",
    "Plan",
    "PushBack",
    "Query",
    "QueryResult",
    "ReportError",
    "RequestError",
    "RunError",
    "SampleIssuer",
    "SampleOrder",
    "Sequential",
    "SessionResult",
    "SessionState",
    "Single",
    "StreamChunk",
    "TargetError",
    "TimedIssueStrategy",
    "Unknown",
    "Usage",
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
    "loadgen.dispatch": ("Batch", "CallResult", "Dispatcher", "Grid", "Unknown"),
    "loadgen.errors": (
        "CallTimeoutError",
        "ConfigError",
        "DatasetError",
        "DispatchError",
        "EventError",
        "LoadgenError",
        "MetricsError",
        "NodeError",
        "PushBack",
        "ReportError",
        "RequestError",
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
    "loadgen.metrics": (
        "MetricsAggregatorService",
        "MetricsPublisher",
        "MetricsRegistry",
        "MetricsSnapshot",
        "MetricsSnapshotSubscriber",
        "SessionState",
    ),
    "loadgen.node": ("Node", "NodeBatch", "NodePool"),
    "loadgen.session": (
        "Drain",
        "Limits",
        "Metric",
        "NodeResult",
        "PhaseConfig",
        "PhaseResult",
        "PhaseSettings",
        "PhaseType",
        "SessionResult",
        "arun",
        "run",
    ),
    "loadgen.session.benchmark": ("BenchmarkSession",),
    "loadgen.session.delays": ("constant_delays", "gamma_delays", "poisson_delays", "uniform_delays"),
    "loadgen.session.http_issuer": ("HttpIssuer",),
    "loadgen.session.order": ("SampleOrder", "Sequential", "Single", "WithReplacement", "WithoutReplacement"),
    "loadgen.session.pattern": ("create_load_strategy",),
    "loadgen.session.phase_issuer": ("PhaseIssuer",),
    "loadgen.session.plan": ("Plan",),
    "loadgen.session.query": ("Query", "QueryResult", "SampleIssuer", "StreamChunk", "Usage"),
    "loadgen.session.strategy": (
        "AdaptiveStrategy",
        "BurstStrategy",
        "ConcurrencyStrategy",
        "LoadStrategy",
        "TimedIssueStrategy",
    ),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}

if not TYPE_CHECKING:  # a checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        import importlib

        if name == "metrics":  # `loadgen.metrics.attach(run)` without another import
            return importlib.import_module("loadgen.metrics")
        if name not in _HOMES:
            raise AttributeError(f"module 'loadgen' has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
