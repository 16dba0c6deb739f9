"""A phase on a virtual clock, for strategies: time moves only where a strategy waits, or where a test says so."""

import heapq
from collections.abc import Callable
from typing import NamedTuple


class Issued(NamedTuple):
    """One request that was issued."""

    planned_ns: int
    issued_ns: int
    sample: int | None


class FakeIssuer:
    """What ``loadgen.session.issuer.Issuer`` asks for, over a server that answers each request after ``service``.

    Args:
        service: From a request's index to the nanoseconds that its answer takes.
        requests: The phase takes no more than these.
        duration_ns: The phase is stopped this long after its start.
        seed: The phase's seed.
        issue_ns: What issuing one request takes.
        busy: Requests of an earlier phase in flight, by the nanoseconds after the start when they end.
    """

    def __init__(
        self,
        service: Callable[[int], int] = lambda _: 1_000_000,
        *,
        requests: int | None = None,
        duration_ns: int | None = None,
        seed: int = 0,
        issue_ns: int = 0,
        busy: tuple[int, ...] = (),
    ) -> None:
        self.seed = seed
        self.start_ns = 1_000_000_000_000
        self.issued: list[Issued] = []
        self.most_in_flight = 0
        self.in_flight = 0
        self._service = service
        self._requests = requests
        self._end_ns = None if duration_ns is None else self.start_ns + duration_ns
        self._issue_ns = issue_ns
        self._now_ns = self.start_ns
        self._ends: list[tuple[int, int]] = []
        self._told: list[int] = []
        for number, ns in enumerate(busy):
            self._begin(self.start_ns + ns, -1 - number)

    @property
    def stopped(self) -> bool:
        over = self._end_ns is not None and self._now_ns >= self._end_ns
        return over or (self._requests is not None and len(self.issued) >= self._requests)

    def now_ns(self) -> int:
        return self._now_ns

    def issue(self, sample: int | None = None, planned_ns: int | None = None) -> int | None:
        if self.stopped:
            return None
        request = len(self.issued)
        self.issued.append(Issued(self._now_ns if planned_ns is None else planned_ns, self._now_ns, sample))
        self._begin(self._now_ns + self._service(request), request)
        self._go_to(self._now_ns + self._issue_ns)
        return request

    async def until(self, ns: int) -> bool:
        end = self._end_ns
        self._go_to(max(self._now_ns, ns if end is None else min(ns, end)))
        return not self.stopped

    async def completed(self) -> int | None:
        if not self._told:
            if not self._ends:
                assert self.stopped, "waits for a completion, and nothing is in flight"
                return None
            self._go_to(self._ends[0][0])
        return self._told.pop(0)

    def _begin(self, end_ns: int, request: int) -> None:
        heapq.heappush(self._ends, (end_ns, request))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def _go_to(self, ns: int) -> None:
        self._now_ns = max(self._now_ns, ns)
        while self._ends and self._ends[0][0] <= self._now_ns:
            self._told.append(heapq.heappop(self._ends)[1])
            self.in_flight -= 1
