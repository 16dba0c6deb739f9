"""What a request and an event cost each client, in turns: CPU of its whole tree, the slope between two lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.figures import Spread, Work, slope_us
from harness.servers import Mock
from peers.peer import Shape
from peers.results import Cost, Results
from peers.running import Client, counted

_EVENTS = 128
# No rows are kept: the counts suffice, and the server's memory stays out of the picture.
_SERVERS: dict[Shape, dict[str, Any]] = {
    "A": {"truth_rows": 0, "output_tokens": 16},
    "B": {"truth_rows": 0, "output_tokens": _EVENTS, "coalesce": True},
}


def measure(clients: Sequence[Client], rounds: int, results: Results, say: Callable[[str], None]) -> None:
    """Measure both shapes with all clients; a client that fails in one is told of and left out of the rest of it.

    Args:
        clients: The clients.
        rounds: How often all of them have their turn.
        results: Where costs and failures go.
        say: Tells how far it is.
    """
    slopes: dict[tuple[str, Shape], list[float]] = {}
    peaks: dict[tuple[str, Shape], list[float]] = {}
    for turn in range(rounds):
        for shape, server in _SERVERS.items():
            for client in clients[:: -1 if turn % 2 else 1]:
                key = (client.peer.name, shape)
                if key in results.failures:
                    continue
                with results.guard(*key), Mock(**server) as mock:
                    say(f"{shape}: {client.peer.name}, {turn + 1} of {rounds}")
                    slope, peak = _slope(client, shape, mock)
                    slopes.setdefault(key, []).append(slope)
                    peaks.setdefault(key, []).append(peak / 1e6)
    for key, values in slopes.items():
        results.costs[key] = Cost(Spread.of(values), Spread.of(peaks[key]))


def _slope(client: Client, shape: Shape, mock: Mock) -> tuple[float, int]:
    """Return the CPU microseconds of a unit, and the most memory of the long run."""
    works, peak, streamed = [], 0, shape == "B"
    for length in client.peer.lengths[shape]:
        mock.reset()
        with client.job(mock.url, streamed=streamed) as job:
            finished, memory = client.run(job, lambda job, length=length: client.peer.closed(job, length))  # type: ignore[misc]
        # Of what ended before anybody looked, the main process has told its own peak.
        peak = memory.peak_bytes or finished.peak_bytes
        works.append(Work(finished.cpu_s, counted(mock.settled(), streamed=streamed)))
    return slope_us(*works), peak
