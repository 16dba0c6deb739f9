"""loadgen: load generation for LLM inference endpoints, exact where it matters.

``loadgen.run(url, rate=…, duration=…)`` drives a server and returns what a client saw; ``loadgen.arun`` is the same,
async. Everything is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadgen.first_use import on_first_use

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
    from loadgen.session.adaptive import AdaptiveStrategy
    from loadgen.session.benchmark import BenchmarkSession
    from loadgen.session.delays import constant_delays, gamma_delays, poisson_delays, uniform_delays
    from loadgen.session.http_issuer import HttpIssuer
    from loadgen.session.issuer import Issuer
    from loadgen.session.order import SampleOrder, Sequential, Single, WithoutReplacement, WithReplacement
    from loadgen.session.pattern import create_load_strategy
    from loadgen.session.phase_issuer import PhaseIssuer
    from loadgen.session.plan import Plan
    from loadgen.session.query import Query, QueryResult, SampleIssuer, StreamChunk, Usage
    from loadgen.session.strategy import (
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
    "Issuer",
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
    "_core": ("__version__",),
    "dispatch": ("Batch", "CallResult", "Dispatcher", "Grid", "Unknown"),
    "errors": (
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
    "event": (
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
    "metrics": (
        "metrics",
        "MetricsAggregatorService",
        "MetricsPublisher",
        "MetricsRegistry",
        "MetricsSnapshot",
        "MetricsSnapshotSubscriber",
        "SessionState",
    ),
    "node": ("Node", "NodeBatch", "NodePool"),
    "session": (
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
    "session.adaptive": ("AdaptiveStrategy",),
    "session.benchmark": ("BenchmarkSession",),
    "session.delays": ("constant_delays", "gamma_delays", "poisson_delays", "uniform_delays"),
    "session.http_issuer": ("HttpIssuer",),
    "session.issuer": ("Issuer",),
    "session.order": ("SampleOrder", "Sequential", "Single", "WithReplacement", "WithoutReplacement"),
    "session.pattern": ("create_load_strategy",),
    "session.phase_issuer": ("PhaseIssuer",),
    "session.plan": ("Plan",),
    "session.query": ("Query", "QueryResult", "SampleIssuer", "StreamChunk", "Usage"),
    "session.strategy": (
        "BurstStrategy",
        "ConcurrencyStrategy",
        "LoadStrategy",
        "TimedIssueStrategy",
    ),
}

if not TYPE_CHECKING:  # a checker would take any name for one of ours
    __getattr__, __dir__ = on_first_use(__name__, _ROOMS)
