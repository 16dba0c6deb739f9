"""A run's live metrics for OpenTelemetry, by the names of its GenAI conventions, off the hot threads.

Needs the extra ``otel``. Source of names, units and bounds: github.com/open-telemetry/semantic-conventions-genai,
"Semantic conventions for generative AI client metrics".
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from loadgen import _core
from loadgen.errors import ConfigError, LoadgenError
from loadgen.metrics.distribution import read_hdr
from loadgen.metrics.snapshot import CounterStat, MetricsSnapshot, SeriesStat, SnapshotSource

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric, MetricExporter, MetricsData

_log = logging.getLogger("loadgen.metrics")

Attributes = Mapping[str, str | int]


class _Instrument(NamedTuple):
    """What a series is called elsewhere, its bounds in seconds, and what its points say in addition."""

    name: str
    bounds: tuple[float, ...]
    attributes: Attributes


_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_CHUNK = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_COUNTS = tuple(float(4**n) for n in range(14))

_SERIES = {
    "latency": _Instrument("gen_ai.client.operation.duration", _DURATION, {}),
    # Its failures' classes are counted elsewhere: for what isn't told, the conventions have this word.
    "failed_latency": _Instrument("gen_ai.client.operation.duration", _DURATION, {"error.type": "_OTHER"}),
    "ttft": _Instrument("gen_ai.client.operation.time_to_first_chunk", _FIRST, {}),
    "icl": _Instrument("gen_ai.client.operation.time_per_output_chunk", _CHUNK, {}),
}
_TIME_NS = 1e-9


class Exported(msgspec.Struct, frozen=True):
    """What became of exports.

    Args:
        done: Exports that were taken.
        failed: Exports that were refused, or could not be made.
    """

    done: int = 0
    failed: int = 0


class OpenTelemetryExport:
    """Exports a run's metrics every so often, and a last time when it is closed. A ``with`` block closes it.

    What fails is logged and counted, and the next export comes all the same: each has the numbers from the start.

    Args:
        source: The registry, or a look into a run.
        exporter: Any exporter of OpenTelemetry's SDK; ``None`` for OTLP over HTTP, which takes its endpoint and headers
            from the environment (``OTEL_EXPORTER_OTLP_ENDPOINT``, …).
        interval: Seconds between exports.
        attributes: What every point says, by the conventions' names: ``gen_ai.request.model``, ``server.address``, ….
            ``gen_ai.operation.name`` is ``chat`` unless it is given.

    Raises:
        ConfigError: If OpenTelemetry isn't installed.
        ValueError: If the interval is out of range.
    """

    def __init__(
        self,
        source: SnapshotSource,
        exporter: MetricExporter | None = None,
        *,
        interval: float = 10.0,
        attributes: Attributes | None = None,
    ) -> None:
        if not 0.1 <= interval <= 3600:
            raise ValueError(f"interval ({interval}) must be 0.1 to 3600 seconds")
        self._source = source
        self._exporter = exporter if exporter is not None else _otlp()
        self._interval = interval
        self._attributes: Attributes = {"gen_ai.operation.name": "chat", **(attributes or {})}
        self._done = self._failed = 0
        self._is_over = threading.Event()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._serve, name="loadgen-otel", daemon=True)
        self._thread.start()

    @property
    def exported(self) -> Exported:
        """What became of the exports so far."""
        return Exported(self._done, self._failed)

    def close(self, timeout: float = 10.0) -> None:
        """Export a last time, and end. May be called again.

        Args:
            timeout: Seconds that this may take.
        """
        if self._is_over.is_set() or self._pid != os.getpid():
            return
        self._is_over.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            _log.warning("the last export of metrics took longer than %g s, and was left", timeout)
            return
        self._exporter.shutdown(round(timeout * 1000))

    def _serve(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._is_over.wait(self._interval)
            self._export()

    def _export(self) -> None:
        try:
            self._taken(self._exporter.export(data_of(self._source, self._attributes)).name)
        except LoadgenError as error:
            self._taken(error.message)
        except Exception as error:  # noqa: BLE001  an exporter is anybody's, and this is the edge of a thread
            self._taken(f"the exporter raised {type(error).__name__}")  # its words may quote a header's secret

    def _taken(self, said: str) -> None:
        if said == "SUCCESS":
            self._done += 1
            return
        self._failed += 1
        _log.warning("metrics could not be exported: %s", said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def data_of(source: SnapshotSource, attributes: Attributes) -> MetricsData:
    """Return a run's metrics as OpenTelemetry's SDK hands them to exporters: cumulative, from the run's start.

    Args:
        source: The registry, or a look into a run.
        attributes: What every point says.

    Raises:
        MetricsError: If the run's metrics can't be read any more.
    """
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    snapshot = source.snapshot(percentiles=(), bins=1)
    resource = Resource.create({"service.name": "loadgen", "service.instance.id": snapshot.run})
    scope = InstrumentationScope("loadgen", _core.__version__)
    metrics = [*_Conversion(snapshot, attributes).metrics(source)]
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, metrics, "")], "")])


class _Conversion:
    """One snapshot in OpenTelemetry's terms."""

    def __init__(self, snapshot: MetricsSnapshot, attributes: Attributes) -> None:
        self._snapshot = snapshot
        self._attributes = attributes
        self._start = snapshot.wall_ns - (snapshot.ns - snapshot.start_ns)

    def metrics(self, source: SnapshotSource) -> list[Metric]:
        """Return them, the phases of one metric together."""
        from opentelemetry.sdk.metrics.export import Gauge, Metric, NumberDataPoint

        in_flight = NumberDataPoint(dict(self._attributes), self._start, self._snapshot.wall_ns, self._snapshot.pending)
        found = [Metric("loadgen.requests.in_flight", "Requests in flight", "{request}", Gauge([in_flight]))]
        counters: dict[str, list[CounterStat]] = {}
        for counter in self._snapshot.counters:
            counters.setdefault(counter.name, []).append(counter)
        found += [self._sum(name, stats) for name, stats in counters.items()]
        series: dict[str, list[SeriesStat]] = {}
        for stat in self._snapshot.series:
            series.setdefault(_instrument(stat).name, []).append(stat)
        return found + [self._histogram(name, stats, source) for name, stats in series.items()]

    def _sum(self, name: str, stats: list[CounterStat]) -> Metric:
        from opentelemetry.sdk.metrics.export import AggregationTemporality, Metric, NumberDataPoint, Sum

        points = [
            NumberDataPoint(self._said(stat.phase), self._start, self._snapshot.wall_ns, stat.value) for stat in stats
        ]
        data = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
        return Metric(f"loadgen.{name}", stats[0].help, stats[0].unit, data)

    def _histogram(self, name: str, stats: list[SeriesStat], source: SnapshotSource) -> Metric:
        from opentelemetry.sdk.metrics.export import (
            AggregationTemporality,
            Histogram,
            HistogramDataPoint,
            Metric,
        )

        points = []
        for stat in stats:
            try:
                found = read_hdr(source.hdr(stat.name, stat.phase))
            except LookupError:
                continue  # its place was given to another phase since the snapshot
            instrument, scale = _instrument(stat), _scale(stat)
            below = found.at_most([bound / scale for bound in instrument.bounds])
            points.append(
                HistogramDataPoint(
                    self._said(stat.phase, instrument.attributes),
                    self._start,
                    self._snapshot.wall_ns,
                    count=found.count,
                    sum=stat.total * scale,
                    bucket_counts=[b - a for a, b in zip([0, *below], [*below, found.count], strict=True)],
                    explicit_bounds=list(instrument.bounds),
                    min=(stat.min or 0) * scale,
                    max=(stat.max or 0) * scale,
                )
            )
        unit = "s" if stats[0].unit == "ns" else stats[0].unit
        return Metric(name, stats[0].help, unit, Histogram(points, AggregationTemporality.CUMULATIVE))

    def _said(self, phase: int | None, more: Attributes | None = None) -> dict[str, str | int]:
        where = {} if phase is None else {"loadgen.phase": phase}
        return {**self._attributes, **where, **(more or {})}


def _instrument(stat: SeriesStat) -> _Instrument:
    known = _SERIES.get(stat.name) if stat.unit == "ns" else None
    return known or _Instrument(f"loadgen.{stat.name}", _DURATION if stat.unit == "ns" else _COUNTS, {})


def _scale(stat: SeriesStat) -> float:
    return _TIME_NS if stat.unit == "ns" else 1.0


def _otlp() -> MetricExporter:
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    except ModuleNotFoundError as error:
        raise ConfigError(f"OpenTelemetry isn't installed ({error.name})", "pip install 'loadgen[otel]'") from None
    return OTLPMetricExporter()
