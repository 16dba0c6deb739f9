"""What the machine has for a run: cores, and file descriptors."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadgen.config import resolve
from loadgen.errors import ConfigError
from loadgen.session import machine
from loadgen.session.phase import phases_of


def test_a_containers_quota_bounds_the_cores(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert machine.cores(tmp_path) == min(1.5, machine.cores(Path("/nowhere")))
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.cores(tmp_path) == machine.cores(Path("/nowhere"))


def test_workers_follow_cores_and_never_outnumber_the_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(**given: Any) -> int:
        config = resolve("mock:", {"requests": 5, **given})
        return machine.workers(config, phases_of(config))

    monkeypatch.setattr(machine, "cores", lambda: 64.0)
    assert workers(rate=5) == 8
    assert workers(concurrency=3) == 3
    assert workers(concurrency=3, workers=12) == 12
    monkeypatch.setattr(machine, "cores", lambda: 0.5)
    assert workers(rate=5) == 1


@contextmanager
def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> Iterator[list[int]]:
    raised: list[int] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: raised.append(pair[0]))
    yield raised


def test_the_soft_limit_is_raised_only_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve("http://h", {"concurrency": 1000, "requests": 5})
    with limits(monkeypatch, 256, 4096) as raised:
        machine.reserve_descriptors(config, phases_of(config), workers=2)
    assert raised == [1000 + 64 + 16]
    with limits(monkeypatch, 2048, 4096) as raised:
        machine.reserve_descriptors(config, phases_of(config), workers=2)
    assert raised == []


def test_too_few_descriptors_are_said_with_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve("http://h", {"concurrency": 1000, "requests": 5})
    with limits(monkeypatch, 80, 512), pytest.raises(ConfigError) as caught:
        machine.reserve_descriptors(config, phases_of(config), workers=1)
    assert caught.value.message == (
        "1,000 requests in flight need 1,072 file descriptors, and this process may have 512"
    )
    assert caught.value.way_out == "raise the limit (ulimit -Hn), or lower --concurrency to 440"
    with limits(monkeypatch, 32, 32), pytest.raises(ConfigError) as caught:
        machine.reserve_descriptors(config, phases_of(config), workers=1)
    assert caught.value.way_out == "raise the limit (ulimit -Hn), or take fewer workers", "no load is 0"


def test_a_limit_that_may_not_be_raised_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    config = resolve("http://h", {"concurrency": 1000, "requests": 5})
    with limits(monkeypatch, 80, 4096):
        monkeypatch.setattr(resource, "setrlimit", refuse)
        with pytest.raises(ConfigError, match="the limit of 80 can't be raised"):
            machine.reserve_descriptors(config, phases_of(config), workers=1)
        unbounded = resolve("http://h", {"rate": 5, "requests": 5})
        machine.reserve_descriptors(unbounded, phases_of(unbounded), workers=1)
