"""The publisher: snapshots off the hot threads, and final numbers that arrive, by two ways."""

import asyncio
import logging
import os
import random
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from event_support import Contexts, until
from loadgen.errors import EventError, MetricsError
from loadgen.event import ManagedZMQContext
from loadgen.metrics import (
    SNAPSHOT,
    MetricsPublisher,
    MetricsRegistry,
    MetricsSnapshot,
    MetricsSnapshotSubscriber,
    SessionState,
    final,
)
from metrics_support import WAIT_S, Kept, PausedLoop, Source, snapshot

pytest_plugins = ["event_fixtures", "metrics_fixtures"]

LIVE, COMPLETE = SessionState.LIVE, SessionState.COMPLETE


@pytest.fixture
def registry() -> Iterator[MetricsRegistry]:
    with MetricsRegistry() as made:
        made.counter("issued").increment(3)
        yield made


# --- over ZMQ


def test_a_subscriber_gets_live_snapshots_and_the_final_one(registry: MetricsRegistry, ctx: ManagedZMQContext) -> None:
    with MetricsPublisher(registry, refresh_hz=200, linger=WAIT_S) as publisher:
        with MetricsSnapshotSubscriber(ctx, publisher.address) as subscriber:
            first = subscriber.receive(WAIT_S)
            assert first is not None
            assert (first.state, first.counter("issued")) == (LIVE, 3)
            registry.increment("issued")
            outcome = publisher.publish_final()
            last = subscriber.wait_for_complete(WAIT_S)
            assert last == outcome.snapshot == subscriber.complete == subscriber.latest
            assert (last.state, last.counter("issued")) == (COMPLETE, 4)
            assert last.sequence > first.sequence
        assert (outcome.published, outcome.stored, outcome.problems) == (True, None, ())
        assert registry.state is COMPLETE


def test_a_reader_that_comes_late_or_sleeps_gets_the_final_one(
    registry: MetricsRegistry, ctx: ManagedZMQContext
) -> None:
    with MetricsPublisher(registry, refresh_hz=200, linger=WAIT_S) as publisher:
        publisher.publish_final()
        with MetricsSnapshotSubscriber(ctx, publisher.address) as subscriber:
            last = subscriber.wait_for_complete(WAIT_S)
    assert last is not None
    assert last.state is COMPLETE


def test_one_that_does_not_conflate_sees_nothing_live_after_complete(
    registry: MetricsRegistry, ctx: ManagedZMQContext
) -> None:
    with (
        MetricsPublisher(registry, refresh_hz=1000, sndhwm=1000, linger=0.1) as publisher,
        MetricsSnapshotSubscriber(ctx, publisher.address, conflate=False, rcvhwm=0) as subscriber,
    ):
        assert subscriber.receive(WAIT_S) is not None
        publisher.publish_final()
        until(publisher._has_lingered.is_set)
        seen: list[MetricsSnapshot] = []
        while (found := subscriber.receive(0.2)) is not None:
            seen.append(found)
    states = [item.state for item in seen]
    assert states == sorted(states, key=[LIVE, COMPLETE].index)
    assert states.count(COMPLETE) >= 2  # it is repeated
    assert [item.sequence for item in seen] == sorted(item.sequence for item in seen)


def test_without_a_subscriber_closing_waits_for_nobody(registry: MetricsRegistry, tmp_path: Path) -> None:
    publisher = MetricsPublisher(registry, linger=3600, store=tmp_path)
    outcome = publisher.publish_final()
    closing = threading.Thread(target=publisher.close, daemon=True)
    closing.start()
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert final.load(tmp_path / SNAPSHOT) == outcome.snapshot
    publisher.close()


LISTENS = """
import os, sys
from loadgen.event import ManagedZMQContext
from loadgen.metrics import MetricsSnapshotSubscriber
subscriber = MetricsSnapshotSubscriber(ManagedZMQContext(), sys.argv[1])
assert subscriber.receive(60)
print("listening", flush=True)
sys.stdin.read()
"""


def test_a_dead_subscriber_holds_nothing_up(registry: MetricsRegistry, tmp_path: Path) -> None:
    publisher = MetricsPublisher(registry, refresh_hz=100, linger=3600, store=tmp_path / "kept")
    command = [sys.executable, "-c", LISTENS, publisher.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        process.kill()
    outcome = publisher.publish_final()
    closing = threading.Thread(target=publisher.close, daemon=True)
    closing.start()
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert outcome.stored == tmp_path / "kept"


def test_whoever_waits_in_vain_has_the_latest(registry: MetricsRegistry, ctx: ManagedZMQContext) -> None:
    with MetricsPublisher(registry, refresh_hz=100) as publisher:
        subscriber = MetricsSnapshotSubscriber(ctx, publisher.address)
        assert subscriber.wait_for_complete(0.2) is None
        assert subscriber.complete is None
        while subscriber.latest is None:
            assert subscriber.receive(WAIT_S) is not None
        assert subscriber.latest.state is LIVE
        subscriber.close()


async def _on_a_loop(registry: MetricsRegistry, ctx: ManagedZMQContext) -> MetricsSnapshot | None:
    publisher = MetricsPublisher(registry, ctx, refresh_hz=100, linger=WAIT_S, isolated_event_loop=False)
    subscriber = MetricsSnapshotSubscriber(ctx, publisher.address)
    assert await subscriber.areceive(WAIT_S) is not None
    publisher.publish_final()
    found = await subscriber.await_for_complete(WAIT_S)
    subscriber.close()
    await publisher.aclose()
    return found


def test_it_runs_on_a_loop_that_is_there(registry: MetricsRegistry, ctx: ManagedZMQContext) -> None:
    found = asyncio.run(_on_a_loop(registry, ctx))
    assert found is not None
    assert found.state is COMPLETE


def test_without_a_loop_it_says_what_to_do(registry: MetricsRegistry, ctx: ManagedZMQContext) -> None:
    with pytest.raises(EventError, match="isolated_event_loop=True"):
        MetricsPublisher(registry, ctx, isolated_event_loop=False)


def test_its_context_leaves_no_file(registry: MetricsRegistry) -> None:
    publisher = MetricsPublisher(registry)
    directory = Path(publisher.address.removeprefix("ipc://")).parent
    assert directory.is_dir()
    publisher.close()
    assert not directory.exists()


@pytest.mark.parametrize("wrong", [{"refresh_hz": 0}, {"refresh_hz": 2000}, {"linger": -1}, {"sndhwm": 0}])
def test_what_is_out_of_range_is_refused(registry: MetricsRegistry, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MetricsPublisher(registry, **wrong)


# --- in time


def test_ticks_keep_to_their_times(paused: PausedLoop) -> None:
    kept, times = Kept(), list[float]()
    kept.then = lambda _: times.append(paused.time())

    async def some_ticks() -> None:
        publisher = MetricsPublisher(Source(), transport=lambda: kept, refresh_hz=4, isolated_event_loop=False)
        await asyncio.sleep(1.05)
        publisher.close()

    paused.run_until_complete(some_ticks())
    assert times == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


def test_the_final_one_is_repeated_until_the_linger_ends(paused: PausedLoop) -> None:
    kept = Kept()

    async def ends() -> None:
        publisher = MetricsPublisher(Source(), transport=lambda: kept, linger=1.0, isolated_event_loop=False)
        await asyncio.sleep(0.1)
        publisher.publish_final()
        await asyncio.sleep(60)
        publisher.close()

    paused.run_until_complete(ends())
    assert kept.states == [LIVE, *[COMPLETE] * 5]
    assert len({id(item) for item in kept.sent[1:]}) == 1


# --- the end


def test_publishing_the_final_one_again_changes_nothing(paused: PausedLoop, tmp_path: Path) -> None:
    kept = Kept()

    async def ends() -> tuple[Any, Any]:
        publisher = MetricsPublisher(
            Source(), transport=lambda: kept, store=tmp_path, linger=0, isolated_event_loop=False
        )
        first = publisher.publish_final(SessionState.INTERRUPTED)
        (tmp_path / SNAPSHOT).unlink()
        second = publisher.publish_final()
        publisher.close()
        publisher.close()
        return first, second

    first, second = paused.run_until_complete(ends())
    assert first is second
    assert first.snapshot.state is SessionState.INTERRUPTED
    assert kept.states == [SessionState.INTERRUPTED]
    assert list(tmp_path.iterdir()) == []


def test_publishing_it_from_within_itself_is_refused_and_hangs_nobody(paused: PausedLoop) -> None:
    kept, refused = Kept(), list[EventError]()
    publisher: MetricsPublisher

    def pending() -> int:
        if publisher.failed_ticks == 0 and not refused:
            with pytest.raises(EventError, match="within itself") as found:
                publisher.publish_final()
            refused.append(found.value)
        return 0

    async def ends() -> None:
        nonlocal publisher
        publisher = MetricsPublisher(
            Source(), transport=lambda: kept, pending=pending, linger=0, isolated_event_loop=False
        )
        publisher.publish_final()
        publisher.close()

    paused.run_until_complete(ends())
    assert (len(refused), kept.states) == (1, [COMPLETE])


def test_only_a_last_state_is_final(registry: MetricsRegistry) -> None:
    with MetricsPublisher(registry) as publisher, pytest.raises(ValueError, match="not draining"):
        publisher.publish_final(SessionState.DRAINING)


def test_who_knows_what_is_pending_says_so(paused: PausedLoop) -> None:
    kept = Kept()

    async def ends() -> None:
        publisher = MetricsPublisher(
            Source(), transport=lambda: kept, pending=lambda: 42, linger=0, isolated_event_loop=False
        )
        await asyncio.sleep(0.1)
        publisher.publish_final()
        publisher.close()

    paused.run_until_complete(ends())
    assert [item.pending for item in kept.sent] == [42, 42]


def test_a_private_file_holds_the_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    final.store(path, snapshot())
    final.store(path, snapshot(sequence=8))
    assert final.load(path) == snapshot(sequence=8)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["kept"]


def test_file_and_directory_are_on_the_disk_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(self: Path, target: Path) -> Path:
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    final.store(tmp_path / "kept", snapshot())
    assert done == ["file", "rename", "directory"]


@pytest.mark.parametrize("content", [None, b"", b"\x93\x01\x02\x03", b"{}"])
def test_what_holds_no_snapshot_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "kept").write_bytes(content)
    with pytest.raises(MetricsError, match="kept"):
        final.load(tmp_path / "kept")


def test_a_corrupt_snapshot_is_dropped_and_counted(ctx: ManagedZMQContext, contexts: Contexts) -> None:
    from event_support import Text
    from loadgen.event import ZmqMessagePublisher
    from loadgen.metrics.wire import TOPIC, SnapshotCodec

    with ZmqMessagePublisher(ctx, Text()) as publisher:
        subscriber = MetricsSnapshotSubscriber(contexts(), publisher.address, conflate=False)
        assert publisher.wait_for(subscriber.greeting, WAIT_S)
        publisher.send((TOPIC, b"no snapshot"))
        publisher.send(SnapshotCodec().encode(snapshot()))
        assert subscriber.receive(WAIT_S) == snapshot()
        assert subscriber.stats.corrupt == 1


def test_nothing_live_follows_complete_over_10_000_publishers(paused: PausedLoop) -> None:
    """Each ends at a moment of its own: between ticks, within one, from a callback, twice, or while sends fail."""
    chance = random.Random(20_260_101)

    async def one(number: int) -> list[SessionState]:
        fails = chance.choice([0.0, 0.0, 0.3, 0.9])
        kept, source = Kept(lambda _: chance.random() < fails), Source()
        source.fails = lambda _: chance.random() < fails / 2
        period = chance.choice([0.01, 0.1, 0.25, 2.0])
        how, within = number % 5, list[Callable[[], object]]()

        def pending() -> int:
            if within and chance.random() < 0.5:
                within.pop()()
            return 0

        publisher = MetricsPublisher(
            source,
            transport=lambda: kept,
            refresh_hz=1 / period,
            pending=pending,
            linger=chance.choice([0.0, period / 2, 3 * period, 10.0]),
            isolated_event_loop=False,
        )
        end: Callable[[], object] = lambda: _ended(publisher, source)  # noqa: E731  a call to be placed anywhere
        moment = chance.uniform(0, 4 * period)
        if how == 0:  # a timer of its own, perhaps at the very moment of a tick
            asyncio.get_running_loop().call_later(chance.choice([moment, period, 2 * period]), end)
        elif how == 1:  # within a tick, from the send
            kept.then = lambda item: end() if not item.state.is_last and chance.random() < 0.5 else None
            asyncio.get_running_loop().call_later(5 * period, end)
        elif how == 2:  # the source says that it ended before the publisher is told
            asyncio.get_running_loop().call_later(moment, setattr, source, "state", COMPLETE)
            asyncio.get_running_loop().call_later(moment + chance.uniform(0, period), end)
        elif how == 3:  # within a tick, while its snapshot is taken
            within.append(end)
            asyncio.get_running_loop().call_later(5 * period, within.clear)
            asyncio.get_running_loop().call_later(5 * period, end)
        else:  # twice
            asyncio.get_running_loop().call_later(moment, end)
            asyncio.get_running_loop().call_later(moment + chance.uniform(0, period), end)
        await asyncio.sleep(6 * period + chance.choice([0.0, 1.0]))
        publisher.close()
        return kept.states

    async def all_of_them() -> list[list[SessionState]]:
        return [states for n in range(0, 10_000, 100) for states in await asyncio.gather(*map(one, range(n, n + 100)))]

    logging.getLogger("loadgen.metrics").disabled = True
    try:
        seen = paused.run_until_complete(all_of_them())
    finally:
        logging.getLogger("loadgen.metrics").disabled = False
    assert len(seen) == 10_000
    ended = [states for states in seen if COMPLETE in states]
    assert len(ended) > 8_000
    for states in ended:
        assert LIVE not in states[states.index(COMPLETE) :]


def _ended(publisher: MetricsPublisher, source: Source) -> None:
    try:
        publisher.publish_final()
    except RuntimeError:  # no snapshot this time, says the source: the session would say so; here it just tries again
        source.fails = lambda _: False
        publisher.publish_final()


def test_a_child_leaves_its_parents_publisher_alone(registry: MetricsRegistry) -> None:
    publisher = MetricsPublisher(registry, linger=0)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            publisher.close()
            try:
                publisher.publish_final()
            except EventError:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert publisher.publish_final().published
    publisher.close()
