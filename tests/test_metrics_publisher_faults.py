"""The publisher where ticks, transports, disks or the loop fail: each number has a second way to its reader."""

import asyncio
import errno
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadgen.errors import EventError
from loadgen.event.home import Home
from loadgen.metrics import SNAPSHOT, MetricsPublisher, MetricsSnapshot, SessionState, final
from metrics_support import Kept, PausedLoop, Source

pytest_plugins = ["metrics_fixtures"]


def test_a_tick_that_fails_does_not_end_the_ticks(paused: PausedLoop, caplog: pytest.LogCaptureFixture) -> None:
    source, kept = Source(), Kept(lambda item: item.sequence in (2, 3))
    source.fails = lambda taken: taken in (5, 6)

    async def some_ticks() -> MetricsPublisher:
        publisher = MetricsPublisher(source, transport=lambda: kept, refresh_hz=4, isolated_event_loop=False)
        await asyncio.sleep(2.1)
        publisher.close()
        return publisher

    with caplog.at_level(logging.WARNING, "loadgen.metrics"):
        publisher = paused.run_until_complete(some_ticks())
    assert [item.sequence for item in kept.sent] == [1, 4, 7, 8, 9]
    assert (publisher.ticks, publisher.failed_ticks) == (5, 4)
    assert caplog.text.count("could not be published") == 4


def test_what_can_not_be_published_is_stored(paused: PausedLoop, tmp_path: Path) -> None:
    kept = Kept(lambda item: item.state.is_last)

    async def ends() -> Any:
        publisher = MetricsPublisher(
            Source(), transport=lambda: kept, store=tmp_path, linger=0.5, isolated_event_loop=False
        )
        outcome = publisher.publish_final()
        await publisher.aclose()
        return outcome

    outcome = paused.run_until_complete(ends())
    assert (outcome.published, outcome.stored) == (False, tmp_path / SNAPSHOT)
    assert "refused" in outcome.problems[0]
    assert final.load(outcome.stored).state is SessionState.COMPLETE


def test_a_transport_that_breaks_does_not_keep_the_numbers_from_the_disk(paused: PausedLoop, tmp_path: Path) -> None:
    kept = Kept()

    def breaks(item: MetricsSnapshot) -> None:
        if item.state.is_last:
            raise RuntimeError("broken")

    kept.then = breaks

    async def ends() -> Any:
        publisher = MetricsPublisher(
            Source(), transport=lambda: kept, store=tmp_path, linger=1.0, isolated_event_loop=False
        )
        outcome = publisher.publish_final()
        await asyncio.sleep(2)
        publisher.close()
        return outcome

    outcome = paused.run_until_complete(ends())
    assert (outcome.published, outcome.stored) == (False, tmp_path / SNAPSHOT)
    assert outcome.problems == ("the final snapshot could not be published: RuntimeError: broken",)
    assert kept.states == [SessionState.COMPLETE] * 5  # tried again until the linger's end


def test_who_can_not_tell_what_is_pending_does_not_keep_the_numbers_back(paused: PausedLoop, tmp_path: Path) -> None:
    kept = Kept()

    def pending() -> int:
        raise RuntimeError("gone")

    async def ends() -> Any:
        publisher = MetricsPublisher(
            Source(), transport=lambda: kept, pending=pending, store=tmp_path, linger=0, isolated_event_loop=False
        )
        outcome = publisher.publish_final()
        publisher.close()
        return outcome

    outcome = paused.run_until_complete(ends())
    assert (outcome.published, outcome.stored) == (True, tmp_path / SNAPSHOT)
    assert outcome.problems == ("what is pending is as the counters tell it: RuntimeError: gone",)


def test_what_can_not_be_stored_is_published(
    paused: PausedLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept()
    (tmp_path / "kept").write_bytes(b"what was there")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def ends() -> Any:
        publisher = MetricsPublisher(
            Source(), transport=lambda: kept, store=tmp_path / "kept", linger=0, isolated_event_loop=False
        )
        monkeypatch.setattr(os, "fsync", full)
        outcome = publisher.publish_final()
        publisher.close()
        return outcome

    outcome = paused.run_until_complete(ends())
    assert (outcome.published, outcome.stored) == (True, None)
    assert "No space left" in outcome.problems[0]
    assert kept.states[-1] is SessionState.COMPLETE
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"what was there"]  # whole, and no half one beside it


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from loadgen.metrics import MetricsRegistry, MetricsPublisher
with MetricsRegistry() as registry:
    publisher = MetricsPublisher(registry, store=Path(sys.argv[1]), linger=0)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))
    outcome = publisher.publish_final()
    publisher.close()
    print(outcome.published, outcome.stored, *outcome.problems)
"""


def test_a_disk_that_takes_no_more_is_said_and_nothing_half_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("True None the final snapshot could not be stored")
    assert list(tmp_path.iterdir()) == []


def test_a_loop_that_is_blocked_does_not_keep_the_numbers_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = MetricsPublisher(Source(), transport=Kept, store=tmp_path, linger=0)

    def blocked(*_: object) -> None:
        raise EventError("the event loop did not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Home, "ask", blocked)
        outcome = publisher.publish_final(SessionState.INTERRUPTED)
    publisher.close()
    assert (outcome.published, outcome.stored) == (False, tmp_path / SNAPSHOT)
    assert final.load(tmp_path / SNAPSHOT).state is SessionState.INTERRUPTED
