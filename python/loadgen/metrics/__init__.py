"""Live metrics of a run: registered, recorded, looked into from anywhere, published until a final snapshot.

Each name is imported when it is first used: a look into another process's run needs neither ZMQ nor an event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadgen.first_use import on_first_use

if TYPE_CHECKING:
    from loadgen.metrics.aggregate import Aggregate
    from loadgen.metrics.distribution import Distribution, read_hdr
    from loadgen.metrics.final import FinalPublished
    from loadgen.metrics.otel import OpenTelemetryExport
    from loadgen.metrics.prometheus import PrometheusEndpoint
    from loadgen.metrics.publisher import MetricsPublisher
    from loadgen.metrics.reader import MetricsReader, attach
    from loadgen.metrics.registry import MetricsRegistry
    from loadgen.metrics.service import MetricsAggregatorService
    from loadgen.metrics.snapshot import CounterStat, MetricsSnapshot, SeriesStat, SessionState
    from loadgen.metrics.subscriber import MetricsSnapshotSubscriber

__all__ = [
    "Aggregate",
    "CounterStat",
    "Distribution",
    "FinalPublished",
    "MetricsAggregatorService",
    "MetricsPublisher",
    "MetricsReader",
    "MetricsRegistry",
    "MetricsSnapshot",
    "MetricsSnapshotSubscriber",
    "OpenTelemetryExport",
    "PrometheusEndpoint",
    "SeriesStat",
    "SessionState",
    "attach",
    "read_hdr",
]

SNAPSHOT = "metrics.snapshot"
"""What the final snapshot is called in a run's directory."""

_FILES = {
    "aggregate": ("Aggregate",),
    "distribution": ("Distribution", "read_hdr"),
    "final": ("FinalPublished",),
    "otel": ("OpenTelemetryExport",),
    "prometheus": ("PrometheusEndpoint",),
    "publisher": ("MetricsPublisher",),
    "reader": ("MetricsReader", "attach"),
    "registry": ("MetricsRegistry",),
    "service": ("MetricsAggregatorService",),
    "snapshot": ("CounterStat", "MetricsSnapshot", "SeriesStat", "SessionState"),
    "subscriber": ("MetricsSnapshotSubscriber",),
}

if not TYPE_CHECKING:  # a checker would take any name for one of ours
    __getattr__, __dir__ = on_first_use(__name__, _FILES)
