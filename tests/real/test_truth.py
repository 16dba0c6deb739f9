"""What the client saw against what an independent server did, on one clock: a client can see later, never earlier."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Loadgen, serve_asyncio

QUANTILES = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999, "max": 1.0}


def nearest_rank(values: list[float], share: float) -> float:
    """Return a percentile by nearest rank, as the report does."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def by_request(stamps: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Turn the server's stamps into its own TTFT, TPOT and latency, in milliseconds."""
    ms = 1e-6
    return {
        "ttft": [(s["writes_ns"][0] - s["arrived_ns"]) * ms for s in stamps],
        "latency": [(s["writes_ns"][-1] - s["arrived_ns"]) * ms for s in stamps],
        "tpot": [(s["writes_ns"][-1] - s["writes_ns"][0]) * ms / (len(s["writes_ns"]) - 1) for s in stamps],
    }


@pytest.mark.parametrize(("api", "load"), [("chat", ("--rate", "100")), ("completions", ("--concurrency", "16"))])
def test_no_time_is_shorter_than_the_servers_own(
    loadgen: Loadgen, api: str, load: tuple[str, str], figures: Callable[[str], None]
) -> None:
    with serve_asyncio("--ttft", "30", "--gap", "5") as server:
        ended = loadgen(server.url, "--api", api, *load, "--requests", "300", "--output-tokens", "20")
        stamps = json.loads(server.get("/stamps"))
    assert ended.phase["counts"]["ok"] == len(stamps) == 300
    assert {len(s["writes_ns"]) for s in stamps} == {20}
    assert all(s["finished"] for s in stamps)
    assert ended.phase["tokens"]["output"] == 300 * 20
    truth = by_request(stamps)
    for name in ("ttft", "latency"):
        seen = ended.metric(name)
        for quantile, share in QUANTILES.items():
            # Each request's own time can't be shorter, so no quantile can; half a microsecond is the report's rounding.
            assert seen[quantile] >= nearest_rank(truth[name], share) - 0.0005, (name, quantile)
    for name in ("ttft", "latency", "tpot"):
        errors = [ended.metric(name)[q] - nearest_rank(truth[name], QUANTILES[q]) for q in ("p50", "p99")]
        figures(
            f"{api} {' '.join(load)}: {name} seen {errors[0]:.3f} ms (p50), {errors[1]:.3f} ms (p99) later than it was"
        )


def test_a_whole_answer_is_stamped_too(loadgen: Loadgen) -> None:
    with serve_asyncio("--ttft", "10", "--gap", "1") as server:
        ended = loadgen(server.url, "--no-stream", "--concurrency", "4", "--requests", "40", "--output-tokens", "5")
        stamps = json.loads(server.get("/stamps"))
    truth = [(s["writes_ns"][0] - s["arrived_ns"]) * 1e-6 for s in stamps]
    for quantile, share in QUANTILES.items():
        assert ended.metric("latency")[quantile] >= nearest_rank(truth, share) - 0.0005
