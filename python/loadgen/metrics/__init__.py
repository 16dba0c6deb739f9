"""Live metrics of a run: registered, recorded, looked into from anywhere, published until a final snapshot.

Each name is imported when it is first used: a look into another process's run needs neither ZMQ nor an event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
_HOMES = {name: file for file, names in _FILES.items() for name in names}

if not TYPE_CHECKING:  # a checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'loadgen.metrics' has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(f"loadgen.metrics.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
