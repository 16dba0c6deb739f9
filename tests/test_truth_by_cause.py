"""What a run reports, against what the server stamped: by cause and effect alone, so no machine is too slow for it.

A request leaves before it arrives, and a token arrives after it was written. So each time that the client saw is at
least what the server's own stamps say, and with that each percentile, whichever request it belongs to. Nothing can take
longer than the phase that it happened in, which bounds the other side.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loadgen
from harness.figures import percentile
from harness.servers import AsyncioServer, Mock, Server

_TOKENS = 5
_ROUNDING_MS = 1e-6

_LOADS: dict[str, dict[str, Any]] = {
    "one after the other": {"concurrency": 1, "requests": 20},
    "eight in flight": {"concurrency": 8, "requests": 80},
    "Poisson": {"rate": 200, "requests": 80},
    "all at once": {"burst": 40},
}


def _mock() -> Mock:
    return Mock(ttft=5, gap=2, output_tokens=_TOKENS)


def _asyncio_server() -> AsyncioServer:
    return AsyncioServer(Path(__file__).resolve().parents[1], ttft_ms=5, gap_ms=2, tokens=_TOKENS)


_SERVERS: dict[str, Callable[[], Mock | AsyncioServer]] = {"the mock": _mock, "a server of other code": _asyncio_server}


def _run(server: Server, tmp_path: Path, load: dict[str, Any], **more: Any) -> loadgen.PhaseResult:
    return loadgen.run(server.url, model="mock", workers=1, out=tmp_path / "run", **load, **more).performance


@pytest.mark.parametrize("load", _LOADS)
@pytest.mark.parametrize("name", _SERVERS)
def test_no_reported_time_is_shorter_than_the_servers_own(name: str, load: str, tmp_path: Path) -> None:
    with _SERVERS[name]() as server:
        phase = _run(server, tmp_path, _LOADS[load])
        rows = server.rows()
    assert phase.counts.ok == phase.counts.issued == len(rows.arrival_ns)
    for metric, truth in ((phase.ttft, rows.ttft_ms), (phase.latency, rows.latency_ms)):
        assert metric.count == len(truth)
        for percent in (50, 75, 90, 95, 99):
            assert metric.percentile(percent) >= percentile(truth, percent) - _ROUNDING_MS
        assert metric.min >= min(truth) - _ROUNDING_MS
        assert metric.mean >= sum(truth) / len(truth) - _ROUNDING_MS
        assert metric.max <= phase.duration_s * 1e3


@pytest.mark.parametrize("name", _SERVERS)
def test_one_after_the_other_cannot_take_longer_than_the_phase(name: str, tmp_path: Path) -> None:
    with _SERVERS[name]() as server:
        phase = _run(server, tmp_path, _LOADS["one after the other"])
    assert phase.latency.mean * phase.latency.count <= phase.duration_s * 1e3
    assert phase.ttft.mean <= phase.latency.mean


@pytest.mark.parametrize("name", _SERVERS)
def test_every_token_that_was_written_is_counted(name: str, tmp_path: Path) -> None:
    with _SERVERS[name]() as server:
        phase = _run(server, tmp_path, _LOADS["eight in flight"])
    assert phase.tokens["source"] == "usage"
    assert phase.tokens["output"] == 80 * _TOKENS
    assert phase.icl.count == 80 * (_TOKENS - 1)


@pytest.mark.parametrize("name", _SERVERS)
def test_an_answer_in_one_piece_has_a_latency_and_no_ttft(name: str, tmp_path: Path) -> None:
    with _SERVERS[name]() as server:
        phase = _run(server, tmp_path, _LOADS["eight in flight"], stream=False)
    assert phase.latency.count == 80
    assert phase.latency.max <= phase.duration_s * 1e3
    assert not phase.ttft
    assert not phase.tpot
