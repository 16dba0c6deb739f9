"""What a strategy issues through: limits, times and completions, on a clock that only moves when a test waits."""

import asyncio
from collections.abc import Iterator
from itertools import count

import pytest

from loadgen.session.phase_issuer import PhaseIssuer
from loadgen.session.strategy import BurstStrategy, ConcurrencyStrategy, TimedIssueStrategy
from virtual_loop import VirtualLoop, run


class Server:
    """Answers each request after a while, and tells the phase.

    Args:
        loop: The loop.
        service_s: How long an answer takes.
        requests: The phase takes no more than these.
        occupied: Requests of an earlier phase, each ending after ``service_s`` too.
    """

    def __init__(self, loop: VirtualLoop, service_s: float = 0.01, requests: int = 10, occupied: int = 0) -> None:
        self.loop = loop
        self.service_s = service_s
        self.requests = requests
        self.most = 0
        self.issued_ns: list[int] = []
        self.planned_ns: list[int | None] = []
        self.issuer = PhaseIssuer(self._claim, seed=0, start_ns=loop.now_ns(), occupied=occupied, clock=loop.now_ns)
        for _ in range(occupied):
            loop.call_later(service_s, lambda: self.issuer.complete(10_000, occupied=True))

    def _claim(self, sample: int | None, planned_ns: int | None) -> int | None:
        if len(self.issued_ns) == self.requests:
            return None
        request = len(self.issued_ns)
        self.issued_ns.append(self.loop.now_ns())
        self.planned_ns.append(planned_ns)
        self.most = max(self.most, self.issuer.in_flight + 1)
        self.loop.call_later(self.service_s, self.issuer.complete, request)
        return request


def test_a_closed_loop_keeps_exactly_n_in_flight_and_the_next_goes_when_one_ends() -> None:
    async def main(loop: VirtualLoop) -> Server:
        server = Server(loop, requests=100)
        assert await ConcurrencyStrategy(8).execute(server.issuer) == 100
        return server

    server = run(main)
    assert server.most == 8
    assert sorted({round(ns / 1e6) for ns in server.issued_ns}) == [10 * i for i in range(13)]


def test_what_a_warm_up_has_in_flight_occupies_slots_until_it_ends() -> None:
    async def main(loop: VirtualLoop) -> Server:
        server = Server(loop, requests=20, occupied=3)
        await ConcurrencyStrategy(4).execute(server.issuer)
        return server

    server = run(main)
    assert server.most == 4
    assert sum(ns == 0 for ns in server.issued_ns) == 1, "three of the four slots are occupied"


def test_a_schedule_is_absolute_and_does_not_drift() -> None:
    async def main(loop: VirtualLoop) -> Server:
        server = Server(loop, requests=1000, service_s=0.5)
        await TimedIssueStrategy(100, arrival="constant").execute(server.issuer)
        return server

    server = run(main)
    assert server.planned_ns == [pytest.approx(10_000_000 * i, abs=1) for i in range(1000)]
    assert all(abs(ns - 10_000_000 * i) <= 1_000 for i, ns in enumerate(server.issued_ns))


def test_a_burst_leaves_at_one_moment() -> None:
    async def main(loop: VirtualLoop) -> Server:
        server = Server(loop, requests=500)
        assert await BurstStrategy(400).execute(server.issuer) == 400
        return server

    assert set(run(main).issued_ns) == {0}


def test_a_wait_ends_at_its_time_or_at_once_with_the_phase() -> None:
    async def main(loop: VirtualLoop) -> None:
        issuer = Server(loop).issuer
        assert await issuer.until(30_000_000)
        assert loop.now_ns() >= 30_000_000
        loop.call_later(1.0, issuer.stop)
        assert not await issuer.until(3_600_000_000_000)
        assert loop.now_ns() < 2_000_000_000
        assert issuer.issue() is None
        assert not await issuer.until(0), "a phase that was stopped has no times any more"

    run(main)


def test_waits_for_times_that_have_passed_let_answers_in() -> None:
    async def main(loop: VirtualLoop) -> int:
        issuer = Server(loop).issuer
        turns: Iterator[int] = count()
        turned = 0

        async def other() -> None:
            nonlocal turned
            while True:
                turned = next(turns)
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        for _ in range(320):
            await issuer.until(0)
        task.cancel()
        return turned

    assert run(main) >= 19


def test_completions_are_told_in_order_each_once_also_those_from_before_the_first_question() -> None:
    async def main(loop: VirtualLoop) -> list[int | None]:
        server = Server(loop, requests=5, service_s=10)
        while server.issuer.issue() is not None:
            pass
        for request in range(5):
            server.issuer.complete(request)
        assert (server.issuer.in_flight, server.issuer.issued) == (0, 5)
        return [await server.issuer.completed() for _ in range(6)]

    assert run(main) == [0, 1, 2, 3, 4, None]


def test_several_who_wait_are_told_of_different_completions_and_all_of_the_end() -> None:
    async def main(loop: VirtualLoop) -> list[int | None]:
        server = Server(loop, requests=2)
        waiting = [asyncio.ensure_future(server.issuer.completed()) for _ in range(4)]
        await asyncio.sleep(0)
        while server.issuer.issue() is not None:
            pass
        return list(await asyncio.gather(*waiting))

    assert run(main) == [0, 1, None, None]


def test_a_completion_told_to_one_who_has_gone_is_told_to_the_next() -> None:
    async def main(loop: VirtualLoop) -> int | None:
        issuer = Server(loop, requests=1).issuer
        gone = asyncio.ensure_future(issuer.completed())
        await asyncio.sleep(0)
        issuer.issue()
        issuer.complete(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        return await issuer.completed()

    assert run(main) == 0


def test_the_end_of_a_phase_frees_who_waits_for_what_will_never_come() -> None:
    async def main(loop: VirtualLoop) -> int | None:
        issuer = Server(loop, service_s=1e9, requests=3, occupied=1).issuer
        issuer.issue()
        loop.call_later(1.0, issuer.close)
        return await issuer.completed()

    assert run(main) is None


def test_a_phase_that_hands_over_keeps_no_strategy_waiting_for_what_it_has_in_flight() -> None:
    async def main(loop: VirtualLoop) -> tuple[float, Server]:
        server = Server(loop, service_s=600)
        loop.call_later(1, server.issuer.leave)
        assert await ConcurrencyStrategy(4).execute(server.issuer) == 4
        left_s = loop.time()
        while server.issuer.in_flight >= 4:  # as a strategy of one's own may wait
            await server.issuer.completed()
        await asyncio.sleep(700)
        return left_s, server

    left_s, server = run(main)
    assert left_s == 1.0
    assert (server.issuer.in_flight, server.issuer.issued) == (0, 4)
