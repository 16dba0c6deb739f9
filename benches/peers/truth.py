"""How true each client's times are beside the server's own: Poisson arrivals, TTFT 50 ms, 32 tokens of 10 ms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.errors import BenchError
from harness.figures import gap_cv, percentile
from harness.servers import Mock
from peers.results import Results, Truth
from peers.running import Client, counted

_TTFT_MS, _GAP_MS, _TOKENS = 50, 10, 32


def measure(
    clients: Sequence[Client], rates: Sequence[int], seconds: int, results: Results, say: Callable[[str], None]
) -> None:
    """Let each client that has Poisson arrivals and tells TTFT do so at each rate.

    Args:
        clients: The clients.
        rates: Requests a second.
        seconds: How long each run is.
        results: Where truths and failures go.
        say: Tells how far it is.
    """
    for rate in rates:
        for client in clients:
            if client.peer.is_paced:
                with results.guard(client.peer.name, f"{rate}/s"):
                    say(f"truth: {client.peer.name}, {rate}/s for {seconds} s")
                    results.truths[client.peer.name, rate] = _truth(client, rate, seconds)


def _truth(client: Client, rate: int, seconds: int) -> Truth:
    with Mock(ttft=_TTFT_MS, gap=_GAP_MS, output_tokens=_TOKENS) as mock:
        with client.job(mock.url, streamed=True) as job:
            client.run(job, lambda job: client.peer.paced(job, rate, seconds))
            said = client.peer.ttft(job)
        counted(mock.settled(), streamed=True)
        rows = mock.rows()
    if len(rows.arrival_ns) < rate:
        raise BenchError(f"only {len(rows.arrival_ns)} requests came, fewer than a second's")
    span_s = (max(rows.arrival_ns) - min(rows.arrival_ns)) / 1e9
    return Truth(
        p50_ms=said.p50 - percentile(rows.ttft_ms, 50),
        p99_ms=said.p99 - percentile(rows.ttft_ms, 99),
        rate=(len(rows.arrival_ns) - 1) / span_s,
        gap_cv=gap_cv(rows.arrival_ns),
    )
