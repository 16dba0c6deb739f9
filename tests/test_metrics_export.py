"""Metrics for others: Prometheus's text format and endpoint, OpenTelemetry's data and export."""

import http.client
import http.server
import logging
import re
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from event_support import until
from loadgen.errors import ConfigError, MetricsError
from loadgen.metrics import MetricsRegistry, OpenTelemetryExport, PrometheusEndpoint, SessionState, prometheus
from loadgen.metrics.otel import data_of
from metrics_support import WAIT_S, Source

MS = 1_000_000


@pytest.fixture
def registry() -> Iterator[MetricsRegistry]:
    with MetricsRegistry("run-1", directories=["/proc/nowhere"]) as made:
        for phase in (0, 1):
            made.counter("issued", help="Requests issued", phase=phase).increment(4)
            made.counter("completed", phase=phase).increment(3)
        ttft = made.series("ttft", help="First token", phase=0)
        for ms in (1, 3, 40, 400_000):
            ttft.record(ms * MS)
        yield made


# --- Prometheus

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\\\|\\"|\\n)*",?)*)\})? (\S+)$')


def parsed(text: str) -> dict[tuple[str, str], float]:
    """Read the text format by its own rules: a type for every metric before its samples, each sample once."""
    types, found = {}, dict[tuple[str, str], float]()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types
            types[name] = kind
        elif not line.startswith("# HELP "):
            match = SAMPLE.match(line)
            assert match, line
            name = match[1]
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert types.get(name, types.get(base)) in ("counter", "gauge", "histogram"), line
            assert (name, match[2] or "") not in found
            found[name, match[2] or ""] = float(match[3])
    return found


def test_metrics_are_named_by_prometheus_conventions(registry: MetricsRegistry) -> None:
    text = prometheus.render(registry)
    found = parsed(text)
    assert "# TYPE loadgen_issued_total counter" in text
    assert "# HELP loadgen_issued_total Requests issued" in text
    assert found["loadgen_issued_total", 'phase="1"'] == 4
    assert found["loadgen_requests_in_flight", ""] == 2
    assert found["loadgen_run_info", 'run="run-1"'] == 1
    assert (found["loadgen_state", 'state="live"'], found["loadgen_state", 'state="complete"']) == (1, 0)


def test_a_histograms_buckets_are_cumulative_and_in_seconds(registry: MetricsRegistry) -> None:
    found = parsed(prometheus.render(registry))
    bounds = {key: value for (name, key), value in found.items() if name == "loadgen_ttft_seconds_bucket"}
    assert bounds['phase="0",le="0.001"'] == 1
    assert bounds['phase="0",le="0.02"'] == 2
    assert bounds['phase="0",le="300"'] == 3
    assert bounds['phase="0",le="+Inf"'] == found["loadgen_ttft_seconds_count", 'phase="0"'] == 4
    assert list(bounds.values()) == sorted(bounds.values())
    assert found["loadgen_ttft_seconds_sum", 'phase="0"'] == pytest.approx(400.044)


@pytest.mark.parametrize(
    ("value", "written"),
    [('say "hi"', 'say \\"hi\\"'), ("a\\b", "a\\\\b"), ("two\nlines", "two\\nlines")],
)
def test_labels_are_escaped(value: str, written: str) -> None:
    source = Source()
    source.run = value
    text = prometheus._labels(run=value)
    assert text == f'{{run="{written}"}}'


def test_units_and_names_that_prometheus_can_not_hold_are_made_so() -> None:
    with MetricsRegistry("run-1", directories=["/proc/nowhere"]) as registry:
        registry.counter("http 5xx", help="a\\b").increment()
        registry.counter("cpu", "ns").increment(1_500_000_000)
        registry.counter("tokens", "tokens").increment(7)
        registry.counter("reused tokens", "tokens").increment(3)
        registry.series("answer", "tokens", low=1, high=10**6).record(70)
        text = prometheus.render(registry)
    found = parsed(text)
    assert found["loadgen_http_5xx_total", ""] == 1
    assert "# HELP loadgen_http_5xx_total a\\\\b\n" in text
    assert found["loadgen_cpu_seconds_total", ""] == 1.5
    assert (found["loadgen_tokens_total", ""], found["loadgen_reused_tokens_total", ""]) == (7, 3)  # the unit once
    assert [found["loadgen_answer_tokens_bucket", f'le="{le}"'] for le in ("64", "256", "+Inf")] == [0, 1, 1]


def asked(endpoint: PrometheusEndpoint, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=WAIT_S)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


def test_a_scrape_gets_the_metrics_as_they_are(registry: MetricsRegistry) -> None:
    with PrometheusEndpoint(registry) as endpoint:
        assert endpoint.url == f"http://127.0.0.1:{endpoint.port}/metrics"
        status, kind, text = asked(endpoint)
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert parsed(text)["loadgen_issued_total", 'phase="0"'] == 4
        registry.increment("issued", phase=0)
        assert parsed(asked(endpoint)[2])["loadgen_issued_total", 'phase="0"'] == 5
        assert asked(endpoint, method="HEAD")[2] == ""
        assert asked(endpoint, "/")[0] == 404
        assert asked(endpoint, method="POST")[0] == 501
    with pytest.raises(ConnectionRefusedError):
        asked(endpoint)
    endpoint.close()


def test_one_that_says_nothing_holds_nobody_else_up(registry: MetricsRegistry) -> None:
    with PrometheusEndpoint(registry) as endpoint, socket.create_connection(("127.0.0.1", endpoint.port)) as silent:
        silent.sendall(b"GET /met")
        assert asked(endpoint)[0] == 200


def test_metrics_that_can_not_be_read_are_an_answer_too() -> None:
    class Gone(Source):
        def snapshot(self, **_: Any) -> Any:
            raise MetricsError("the file was cut")

    with PrometheusEndpoint(Gone()) as endpoint:
        assert asked(endpoint)[::2] == (503, "the file was cut\n")


def test_it_listens_on_this_machine_alone_unless_told(registry: MetricsRegistry) -> None:
    with PrometheusEndpoint(registry) as endpoint:
        assert endpoint._server.server_address[0] == "127.0.0.1"
        with pytest.raises(ConfigError, match=f"127.0.0.1:{endpoint.port}"):
            PrometheusEndpoint(registry, endpoint.port)
    with pytest.raises(ConfigError, match="name another port"):
        PrometheusEndpoint(registry, 70_000)


# --- OpenTelemetry


class Keeper:
    """An exporter that keeps what it gets, or does what it is told."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.then: Any = None
        self.shut = False

    def export(self, metrics_data: Any, timeout_millis: float = 0, **_: Any) -> Any:
        from opentelemetry.sdk.metrics.export import MetricExportResult

        self.kept.append(metrics_data)
        if self.then is None:
            return MetricExportResult.SUCCESS
        if isinstance(self.then, Exception):
            raise self.then
        return self.then

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
        self.shut = True


def metrics_of(data: Any) -> dict[str, Any]:
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    assert resource.resource.attributes["service.name"] == "loadgen"
    assert scope.scope.name == "loadgen"
    return {metric.name: metric for metric in scope.metrics}


def test_series_have_the_names_of_the_genai_conventions(registry: MetricsRegistry) -> None:
    latency, failed = registry.series("latency", phase=0), registry.series("failed_latency", phase=0)
    latency.record(30 * MS)
    failed.record(10 * MS)
    registry.series("icl", phase=0).record(20 * MS)
    found = metrics_of(data_of(registry, {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}))
    assert set(found) == {
        "loadgen.requests.in_flight",
        "loadgen.issued",
        "loadgen.completed",
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.operation.time_per_output_chunk",
    }
    good, bad = found["gen_ai.client.operation.duration"].data.data_points
    assert found["gen_ai.client.operation.duration"].unit == "s"
    assert good.attributes == {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "loadgen.phase": 0}
    assert bad.attributes["error.type"] == "_OTHER"
    assert (good.count, good.sum, good.min, good.max) == (1, *[pytest.approx(0.03)] * 3)
    first = found["gen_ai.client.operation.time_to_first_chunk"].data.data_points[0]
    assert dict(zip([*first.explicit_bounds, "more"], first.bucket_counts, strict=True))["more"] == 1
    assert sum(first.bucket_counts) == first.count == 4
    assert first.start_time_unix_nano < first.time_unix_nano
    assert [point.value for point in found["loadgen.issued"].data.data_points] == [4, 4]
    assert found["loadgen.issued"].data.is_monotonic


def test_it_exports_every_so_often_and_at_the_end(registry: MetricsRegistry) -> None:
    keeper: Any = Keeper()
    with OpenTelemetryExport(registry, keeper, interval=0.1) as export:
        until(lambda: len(keeper.kept) >= 2)
        registry.increment("issued", 96, phase=0)
        registry.advance(SessionState.COMPLETE)
    assert keeper.shut
    assert metrics_of(keeper.kept[-1])["loadgen.issued"].data.data_points[0].value == 100
    assert (export.exported.done, export.exported.failed) == (len(keeper.kept), 0)
    export.close()


@pytest.mark.parametrize("how", ["raises", "refuses"])
def test_what_fails_is_counted_and_the_next_comes(
    registry: MetricsRegistry, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    from opentelemetry.sdk.metrics.export import MetricExportResult

    keeper: Any = Keeper()
    keeper.then = RuntimeError("header Bearer canary-7f3a") if how == "raises" else MetricExportResult.FAILURE
    caplog.set_level(logging.WARNING, "loadgen.metrics")
    with OpenTelemetryExport(registry, keeper, interval=0.1) as export:
        until(lambda: export.exported.failed >= 2)
        keeper.then = None
        until(lambda: export.exported.done >= 1)
    said = "the exporter raised RuntimeError" if how == "raises" else "FAILURE"
    assert f"metrics could not be exported: {said}" in caplog.text
    assert "canary" not in caplog.text


def test_by_default_it_speaks_otlp_to_where_the_environment_says(
    registry: MetricsRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    bodies: list[bytes] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        export = OpenTelemetryExport(registry, interval=3600)
        export.close(WAIT_S)
        server.shutdown()
    assert (export.exported.done, export.exported.failed) == (1, 0)
    told = ExportMetricsServiceRequest.FromString(bodies[0])
    names = [metric.name for metric in told.resource_metrics[0].scope_metrics[0].metrics]
    assert "gen_ai.client.operation.time_to_first_chunk" in names


def test_without_the_extra_it_says_how_to_get_it(registry: MetricsRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)
    with pytest.raises(ConfigError, match=r"loadgen\[otel\]"):
        OpenTelemetryExport(registry)
