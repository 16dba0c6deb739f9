"""What each client takes before its first request and after its last answer, and what it weighs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.figures import Spread
from harness.servers import Mock
from peers.results import Results, Start
from peers.running import Client, counted

_REQUESTS = 10
_SECONDS = 3


def measure(clients: Sequence[Client], repeats: int, results: Results, say: Callable[[str], None]) -> None:
    """Let each client make ten requests, one after the other; one that counts by time has three seconds.

    Args:
        clients: The clients.
        repeats: How often all of them have their turn.
        results: Where starts and failures go.
        say: Tells how far it is.
    """
    seen: dict[str, list[tuple[float, float, float]]] = {}
    for turn in range(repeats):
        for client in clients:
            if (client.peer.name, "start") in results.failures:
                continue
            with results.guard(client.peer.name, "start"), Mock(output_tokens=16) as mock:
                say(f"start: {client.peer.name}, {turn + 1} of {repeats}")
                took = _start(client, mock)
                seen.setdefault(client.peer.name, []).append(took)
    by_time = {client.peer.name: client.peer.by_time for client in clients}
    for name, values in seen.items():
        first, last, cpu = (Spread.of(column) for column in zip(*values, strict=True))
        results.starts[name] = Start(first, last, None if by_time[name] else cpu)


def _start(client: Client, mock: Mock) -> tuple[float, float, float]:
    """Return the seconds to the first request, from the last answer to the end, and of CPU."""
    length = _SECONDS if client.peer.by_time else _REQUESTS
    with client.job(mock.url, streamed=True) as job:
        finished, _ = client.run(job, lambda job: client.peer.closed(job, length, 1))
    counted(mock.settled(), streamed=True)
    rows = mock.rows()
    return (
        (min(rows.arrival_ns) - finished.began_ns) / 1e9,
        (finished.ended_ns - max(rows.done_ns)) / 1e9,
        finished.cpu_s,
    )
