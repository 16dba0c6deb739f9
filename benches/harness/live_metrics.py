"""Live metrics from Python: recording a value, and a tick that takes a snapshot of 20 series and publishes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from harness.bench import Bench
from harness.figures import Spread
from harness.table import Baseline, Line, Mark
from loadgen.event import ManagedZMQContext
from loadgen.event.zmq_publisher import ZmqMessagePublisher
from loadgen.metrics import MetricsRegistry, MetricsSnapshotSubscriber, attach
from loadgen.metrics.wire import SnapshotCodec

_SERIES = 20
_VALUES = 20_000


def recording(bench: Bench) -> Iterator[Line]:
    """One value recorded from Python, a reader attached, beside PyPI's hdrhistogram."""
    calls = 20_000 if bench.quick else 400_000
    with MetricsRegistry() as registry:
        series, reader = registry.series("bench"), attach(registry.run)
        bench.say("metrics-record: ours")
        ours = Spread.of([_each_ns(series.record, calls) for _ in range(5)])
        assert reader.snapshot().find("bench").count == 5 * calls
    bench.say("metrics-record: hdrhistogram's")
    theirs = _hdrhistogram(calls // 10)
    note = "the loop around it taken off; a series' statistics are exact, hdrhistogram keeps none"
    baseline = None if theirs is None else Baseline("hdrhistogram", theirs)
    yield Line("metrics-record", "record from Python", "CPU ns", ours, Mark(60.0), baseline, note=note)


def ticking(bench: Bench) -> Iterator[Line]:
    """CPU of one snapshot of 20 series, encoded and handed to ZMQ for a subscriber in its thread."""
    ticks = 20 if bench.quick else 400
    with MetricsRegistry() as registry, ManagedZMQContext() as ctx:
        for number in range(_SERIES):
            series = registry.series(f"series-{number}")
            for value in range(1, _VALUES):
                series.record(value * 100_000 // (number + 1) + 1_000)
        publisher = ZmqMessagePublisher(ctx, SnapshotCodec(), name="bench", sndhwm=4)
        subscriber = MetricsSnapshotSubscriber(ctx, publisher.address)
        bench.say("metrics-tick")
        costs = []
        for _ in range(5):
            began = time.process_time_ns()
            for _ in range(ticks):
                publisher.send(registry.snapshot())
            costs.append((time.process_time_ns() - began) / ticks / 1e6)
        subscriber.close()
        publisher.close()
    note = f"{_SERIES} series of {_VALUES:,} values over two decades; CPU of the whole process, ZMQ's thread included"
    yield Line("metrics-tick", "a tick with publish", "CPU ms", Spread.of(costs), Mark(1.0), note=note)


def _each_ns(record: Callable[[int], object], calls: int) -> float:
    """Return what one call costs, less the loop; in CPU time, which other programs leave alone."""
    values = [1_000_000 + n % 1000 * 1_000 for n in range(calls)]
    began = time.thread_time_ns()
    for value in values:
        record(value)
    took = time.thread_time_ns() - began
    began = time.thread_time_ns()
    for _value in values:
        pass
    return (took - (time.thread_time_ns() - began)) / calls


def _hdrhistogram(calls: int) -> Spread | None:
    try:
        from hdrh.histogram import HdrHistogram
    except ModuleNotFoundError:  # it has no wheel for every machine
        return None
    histogram = HdrHistogram(1_000, 3_600_000_000_000, 3)
    return Spread.of([_each_ns(histogram.record_value, calls) for _ in range(3)])
