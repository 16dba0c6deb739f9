"""A run's live metrics for Prometheus, served while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from loadgen import _core
from loadgen.config import Config
from loadgen.errors import MetricsError

if TYPE_CHECKING:
    from loadgen.metrics import MetricsRegistry, MetricsSnapshot, SessionState


class HasSegment(Protocol):
    """Whatever keeps live metrics of its run: the core's engine, or its sink."""

    def segment(self) -> _core.Segment:
        """Return the run's live metrics."""


Show = Callable[[str, HasSegment], None]


@contextmanager
def served(config: Config) -> Iterator[Show]:
    """Serve a run's metrics where its options say so; nothing where they say nothing.

    Args:
        config: The options.

    Yields:
        What to tell the run's id and its engine to, once they are there; until then a scrape is told to come again.

    Raises:
        ConfigError: If it can't listen there.
    """
    if config.metrics_port is None:
        yield lambda _run, _engine: None
        return
    from loadgen.metrics import PrometheusEndpoint  # brings http.server, which most runs never need

    source = _Awaited()
    with PrometheusEndpoint(source, config.metrics_port, config.metrics_host):
        yield source.show


class _Awaited:
    """The metrics of a run that may not have begun yet."""

    def __init__(self) -> None:
        self._registry: MetricsRegistry | None = None

    def show(self, run: str, engine: HasSegment) -> None:
        from loadgen.metrics import MetricsRegistry

        self._registry = MetricsRegistry.of(run, engine.segment())

    def _there(self) -> MetricsRegistry:
        if self._registry is None:
            raise MetricsError("the run has not begun", "ask again")
        return self._registry

    @property
    def run(self) -> str:
        return self._there().run

    @property
    def state(self) -> SessionState:
        return self._there().state

    def snapshot(
        self, *, percentiles: Sequence[float] | None = None, bins: int = 30, phase: int | None = None
    ) -> MetricsSnapshot:
        return self._there().snapshot(percentiles=percentiles, bins=bins, phase=phase)

    def hdr(self, name: str, phase: int | None = None) -> bytes:
        return self._there().hdr(name, phase)
