"""Looks at runs, made up: what a screen would be given, without a run."""

import math
from typing import Any

import msgspec

from loadgen.metrics.snapshot import CounterStat, MetricsSnapshot, SeriesStat, SessionState
from loadgen.session.describe import About, AboutPhase
from loadgen.tui.history import History
from loadgen.tui.look import Look, look

S, MS, US = 1_000_000_000, 1_000_000, 1_000
PERCENTS = (50, 75, 90, 95, 99, 99.9)
WARMUP = AboutPhase("warmup", "warmup", "2 in flight", 100, None)
STEADY = AboutPhase("performance", "performance", "Poisson 50 req/s", None, 60.0, open_loop=True)
ABOUT = About("llama-3-8b", "http://10.0.0.5:8000", "/home/ann/loadgen-runs/20261120T211405Z-7f3a", 2, 1, [STEADY])


def series(name: str, values: tuple[int, ...], count: int = 1893, phase: int = 0) -> SeriesStat:
    """A series with these values at p50, p75, p90, p95, p99, p99.9 and its end, spread like a bell."""
    low, high = values[0] // 3, values[-1]
    edges = [low * (high / low) ** (at / 30) for at in range(31)]
    counts = [round(count / 8 * math.exp(-((at - 11) ** 2) / 18)) for at in range(30)]
    percentiles = [(float(p), value) for p, value in zip(PERCENTS, values, strict=False)]
    return SeriesStat(
        name, count, values[0] * count, low, high, values[0] * 1.1, 1.0, percentiles, edges, counts, phase=phase
    )


def times(phase: int = 0, scale: float = 1.0) -> list[SeriesStat]:
    known: dict[str, tuple[float, ...]] = {
        "ttft": (92, 118, 152, 181, 241, 402, 519),
        "response_ttft": (92.1, 118.2, 152.4, 182, 244, 402, 519),
        "gap": (11.8, 13.1, 14.9, 17.2, 22.3, 48.7, 91),
        "latency": (1610, 2040, 2900, 3300, 4020, 4880, 5310),
        "response_latency": (1610, 2040, 2900, 3301, 4021, 4881, 5312),
        "send_late": (0.0003, 0.0004, 0.0009, 0.002, 0.2, 0.9, 1.4),
    }
    return [series(name, tuple(round(v * MS * scale) for v in values), phase=phase) for name, values in known.items()]


def counters(phase: int = 0, **counts: int) -> list[CounterStat]:
    known = {"issued": 1936, "ok": 1893, "failed": 2, "cancelled": 0, "tokens": 240_000, "reconnects": 0} | counts
    return [CounterStat(name, value, phase=phase) for name, value in known.items()]


def snapshot(*stats: CounterStat | SeriesStat, **given: Any) -> MetricsSnapshot:
    known: dict[str, Any] = {"run": "7f3a", "state": SessionState.LIVE, "pending": 41, "phase": 0, "ns": 138 * S}
    return MetricsSnapshot(sequence=0, stats=list(stats), **{**known, "phase_ns": 100 * S, "start_ns": 90 * S, **given})


def history(seconds: int = 38, phase: int = 0, *, failed: int = 0, cpu: float = 0.16, away: float = 0.0) -> History:
    """What was seen of a phase that ends about fifty requests a second, in waves."""
    seen = History()
    done = ttft = latency = gap = 0
    for second in range(seconds + 1):
        wave = 1 + 0.2 * math.sin(second / 4)
        stats: list[CounterStat | SeriesStat] = [
            CounterStat("ok", done, phase=phase),
            CounterStat("failed", failed, phase=phase),
            CounterStat("tokens", done * 126, phase=phase),
            CounterStat("worker_cpu", round(second * S * cpu)),
            CounterStat("loop_stalled", round(second * S * away)),
            SeriesStat("ttft", done, ttft, phase=phase),
            SeriesStat("gap", done * 126, gap, phase=phase),
            SeriesStat("latency", done, latency, phase=phase),
        ]
        seen.add(snapshot(*stats, ns=(100 + second) * S, phase=phase))
        step = round(50 * wave)
        done += step
        ttft += round(step * 92 * MS / wave)
        gap += round(step * 126 * 11.8 * MS * wave)
        latency += round(step * 1.7 * S * wave)
    return seen


def of(made: MetricsSnapshot, about: About = ABOUT, seen: History | None = None) -> Look:
    return look(made, about, seen if seen is not None else history(phase=made.phase or 0))


def phases() -> Look:
    told = [
        WARMUP,
        msgspec.structs.replace(STEADY, name="low"),
        msgspec.structs.replace(STEADY, name="a name that is much too long for a column", load="Poisson 200 req/s"),
        AboutPhase("numbers", "accuracy", "1 in flight", 6),
        AboutPhase("never", "performance", "10 at once", 10),
    ]
    about = msgspec.structs.replace(ABOUT, model="", of=5, phases=told)
    stats: list[CounterStat | SeriesStat] = [
        *counters(0, issued=100, ok=100, failed=0),
        *times(0),
        *counters(1, issued=3000, ok=2998),
        *times(1, 1.1),
        *counters(2, failed=12, failed_http=9, failed_timeout=2, failed_connect=1),
        *times(2, 2.4),
        CounterStat("events_dropped", 0),
    ]
    return of(snapshot(*stats, phase=2), about)


def nodes() -> Look:
    names = ["10.0.0.5:8000", "10.0.0.6:8000", "a-name-that-is-much-too-long.example.org:8000/v1"]
    told = {0: (1201, 1187, 0), 1: (613, 590, 0), 2: (122, 118, 12)}
    counted = {
        f"node_{n}_{name}": count
        for n, counts in told.items()
        for name, count in zip(("issued", "ended", "failed"), counts, strict=True)
    }
    about = msgspec.structs.replace(ABOUT, target="http://10.0.0.5:8000, http://10.0.0.6:8000 and 1 more", nodes=names)
    return of(snapshot(*counters(ok=1883, failed=12, failed_connect=12, **counted), *times()), about)


def looks() -> dict[str, Look]:
    """All cases that have a golden screen."""
    streamed: list[CounterStat | SeriesStat] = [*counters(), *times()]
    late = series("send_late", tuple(v * MS for v in (1, 2, 4, 5, 81, 88, 90)))
    limited: list[CounterStat | SeriesStat] = [stat for stat in streamed if stat.name != "send_late"] + [late]
    closed = msgspec.structs.replace(STEADY, load="8 in flight", requests=10_000, seconds=None, open_loop=False)
    not_streamed = [stat for stat in streamed if stat.name not in ("ttft", "gap", "response_ttft")]
    return {
        "open": of(snapshot(*streamed)),
        "closed": of(snapshot(*not_streamed), msgspec.structs.replace(ABOUT, phases=[closed])),
        "phases": phases(),
        "nodes": nodes(),
        "limited": of(snapshot(*limited), seen=history(cpu=1.94, away=0.05)),
        "killed": of(snapshot(*streamed, alive=False)),
        "ended": of(snapshot(*streamed, state=SessionState.COMPLETE, ns=160 * S)),
        "draining": of(snapshot(*streamed, state=SessionState.DRAINING, ns=161 * S)),
        "begun": of(snapshot(*counters(issued=0, ok=0, failed=0, tokens=0), ns=100 * S), seen=history(0)),
        "nothing": of(snapshot(phase=None, phase_ns=None, ns=91 * S), About(), History()),
    }
