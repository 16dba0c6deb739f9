"""How soon a call that lost is gone: from the winner's first token leaving the server to the loser's end seen there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import loadgen
from harness.bench import Bench
from harness.errors import BenchError
from harness.figures import Spread, percentile
from harness.servers import Mock
from harness.table import Line, Mark

_MARK_MS = 100.0
_HEDGE_S = 0.02
_STALL = {"stall_rate": 0.3, "stall_time": "30m", "ttft": 2, "output_tokens": 4}


def cancelled(bench: Bench) -> Iterator[Line]:
    """Calls that stall, copied after 20 ms: both ends on the server's clock, and what the loser made after it."""
    calls = 40 if bench.quick else 400
    middle: list[float] = []
    tail: list[float] = []
    tokens = 0
    with Mock(**_STALL) as mock:
        for repeat in range(bench.size.repeats):
            bench.say(f"dispatch-cancel: {repeat + 1} of {bench.size.repeats}")
            mock.reset()
            dispatcher = loadgen.Dispatcher("hedged", max_concurrency=16, hedge_after=_HEDGE_S, attempt_timeout=1)
            # The mock knows a call by what its prompt begins with.
            dispatcher.requests([f"#{repeat}.{n} which is it" for n in range(calls)], url=mock.url, stream=True)
            mock.settled()
            rows = mock.get("/truth?rows=1")["rows"]
            delays = sorted(_delays(rows))
            if not delays:
                raise BenchError(f"none of {calls} calls was copied, though 30 % stall")
            middle.append(percentile(delays, 50))
            tail.append(delays[-1])
            tokens += sum(made for made, left in zip(rows["tokens"], rows["disconnected"], strict=True) if left)
    note = f"the longest {Spread.of(tail)} ms; tokens made for calls that lost: {tokens}"
    yield Line("dispatch-cancel", "a call that lost, seen closed", "ms", Spread.of(middle), Mark(_MARK_MS), note=note)


def _delays(rows: dict[str, list[Any]]) -> Iterator[float]:
    """Yield milliseconds from a winner's first token to its loser's end, for each call with one of both."""
    ends: dict[str, dict[bool, list[int]]] = defaultdict(lambda: {True: [], False: []})
    for name, left, token, done in zip(
        rows["id"], rows["disconnected"], rows["first_token_ns"], rows["done_ns"], strict=True
    ):
        ends[name][bool(left)].append(done if left else token)
    for end in ends.values():
        if len(end[True]) == len(end[False]) == 1:
            yield max(0.0, (end[True][0] - end[False][0]) / 1e6)
