"""A run's live metrics for Prometheus: the text format, and an endpoint with threads of its own."""

from __future__ import annotations

import ipaddress
import logging
import os
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from loadgen.errors import ConfigError, MetricsError
from loadgen.metrics.distribution import read_hdr
from loadgen.metrics.snapshot import CounterStat, MetricsSnapshot, SeriesStat, SessionState, SnapshotSource

_log = logging.getLogger("loadgen.metrics")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TIME_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)
"""Upper bounds of a time's buckets, in seconds."""
COUNT_BOUNDS = tuple(4**n for n in range(14))
"""Upper bounds of the buckets of what isn't a time. Source: OpenTelemetry's GenAI conventions, of token counts."""

_ANSWERS_WITHIN_S = 5.0
_TIMES = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_STATES = {state.value: state for state in SessionState}


def render(source: SnapshotSource) -> str:
    """Return a run's metrics in Prometheus's text format, version 0.0.4.

    Names follow its conventions: ``loadgen_`` in front, base units, ``_total`` for counters. Buckets of histograms hold
    values to three digits; their sums are those of a moment before.

    Args:
        source: The registry, or a look into a run.

    Raises:
        MetricsError: If the run's metrics can't be read any more.
    """
    snapshot = source.snapshot(percentiles=(), bins=1)
    lines = [*_about(snapshot)]
    for name, stats in _families(snapshot.counters):
        lines += _counter(name, stats)
    for name, series in _families(snapshot.series):
        lines += _histogram(name, series, source)
    return "\n".join(lines) + "\n"


def _about(snapshot: MetricsSnapshot) -> Iterator[str]:
    yield from _head("loadgen_run_info", "gauge", "The run whose metrics these are")
    yield f"loadgen_run_info{_labels(run=snapshot.run)} 1"
    yield from _head("loadgen_state", "gauge", "How the run stands: 1 for the state that it is in")
    for word, state in _STATES.items():
        yield f"loadgen_state{_labels(state=word)} {int(snapshot.state is state)}"
    yield from _head("loadgen_alive", "gauge", "Whether the run's process lives")
    yield f"loadgen_alive {int(snapshot.alive)}"
    yield from _head("loadgen_requests_in_flight", "gauge", "Requests that were issued and have not ended")
    yield f"loadgen_requests_in_flight {snapshot.pending}"


def _families(stats: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Group the phases of one metric: the format wants them together."""
    groups: dict[str, list[Any]] = {}
    for stat in stats:
        groups.setdefault(stat.name, []).append(stat)
    yield from groups.items()


def _counter(name: str, stats: list[CounterStat]) -> Iterator[str]:
    factor = _TIMES.get(stats[0].unit)
    full = f"{_full(name, stats[0].unit)}_total"
    yield from _head(full, "counter", stats[0].help)
    for stat in stats:
        yield f"{full}{_labels(phase=stat.phase)} {stat.value if factor is None else _number(stat.value * factor)}"


def _histogram(name: str, stats: list[SeriesStat], source: SnapshotSource) -> Iterator[str]:
    factor = _TIMES.get(stats[0].unit)
    bounds: tuple[float, ...] = COUNT_BOUNDS if factor is None else TIME_BOUNDS_S
    full = _full(name, stats[0].unit)
    yield from _head(full, "histogram", stats[0].help)
    for stat in stats:
        try:
            found = read_hdr(source.hdr(name, stat.phase))
        except LookupError:
            continue  # its place was given to another phase since the snapshot
        scale = 1.0 if factor is None else factor
        below = found.at_most([bound / scale for bound in bounds])
        for bound, n in zip(bounds, below, strict=True):
            yield f"{full}_bucket{_labels(phase=stat.phase, le=_number(bound))} {n}"
        yield f"{full}_bucket{_labels(phase=stat.phase, le='+Inf')} {found.count}"
        yield f"{full}_sum{_labels(phase=stat.phase)} {_number(stat.total * scale)}"
        yield f"{full}_count{_labels(phase=stat.phase)} {found.count}"


def _head(name: str, kind: str, what: str) -> Iterator[str]:
    if what:
        escaped = what.replace("\\", "\\\\").replace("\n", "\\n")
        yield f"# HELP {name} {escaped}"
    yield f"# TYPE {name} {kind}"


def _name(name: str) -> str:
    """Return a name with nothing in it but what a metric's name may hold."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_:") else "_" for c in name)


def _full(name: str, unit: str) -> str:
    """Return a metric's name with its unit, once: ``tokens`` counted in tokens are ``loadgen_tokens``."""
    plain, suffix = _name(name), _suffix(unit)
    return f"loadgen_{plain}" if f"_{plain}".endswith(suffix) else f"loadgen_{plain}{suffix}"


def _suffix(unit: str) -> str:
    if unit in _TIMES:
        return "_seconds"
    return "" if unit in ("", "1") else f"_{_name(unit)}"


def _labels(**labels: str | int | None) -> str:
    told = [f'{name}="{str(value).translate(_ESCAPES)}"' for name, value in labels.items() if value is not None]
    return f"{{{','.join(told)}}}" if told else ""


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else f"{value:.12g}"


class PrometheusEndpoint:
    """Serves a run's metrics at ``http://HOST:PORT/metrics``. Leaving the ``with`` block closes it.

    It answers on threads of its own, and reads what others write without their noticing.

    Args:
        source: The registry, or a look into a run.
        port: TCP port; 0 for one that is free.
        host: The address to listen at: this machine's own unless somebody asks for another.

    Raises:
        ConfigError: If it can't listen there.
    """

    def __init__(self, source: SnapshotSource, port: int = 0, host: str = "127.0.0.1") -> None:
        self._pid = os.getpid()
        try:
            self._server = _Server((host, port), _handler(lambda: render(source)), host)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"can't serve metrics at {host}:{port}: {getattr(error, 'strerror', None) or error}",
                "name another port",
            ) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="loadgen-prometheus", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host = str(self._server.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/metrics"

    def close(self) -> None:
        """Listen no more. May be called again."""
        if self._pid == os.getpid() and self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    """One thread a connection, none of which outlives the process; a port just left can be had again."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], host: str) -> None:
        import socket

        if _is_v6(host):
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  the base's
        """Say that a scrape went wrong where it can be read, and go on: who asks may leave at any time."""
        _log.debug("a scrape of metrics ended early", exc_info=True)


def _is_v6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _handler(rendered: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET and HEAD of /metrics, and nothing else."""

        timeout = _ANSWERS_WITHIN_S  # of a client that says nothing
        server_version = "loadgen"
        sys_version = ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] not in ("/metrics", "/metrics/"):
                self._answer(HTTPStatus.NOT_FOUND, "metrics are at /metrics\n", "text/plain; charset=utf-8")
                return
            try:
                text = rendered()
            except MetricsError as error:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error.message}\n", "text/plain; charset=utf-8")
                return
            self._answer(HTTPStatus.OK, text, CONTENT_TYPE)

        do_HEAD = do_GET  # noqa: N815  the base's names

        def _answer(self, status: HTTPStatus, text: str, kind: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's
            _log.debug(format, *args)

    return Handler
