"""A run's own metrics while it goes on: scraped, and looked into from beside it."""

import http.client
import socket
from pathlib import Path
from typing import Any

import pytest

from loadgen import config as configs
from loadgen.errors import ConfigError
from loadgen.metrics import SessionState, attach
from loadgen.report import again
from loadgen.report.from_snapshot import Report
from loadgen.session import Run, SessionResult


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def scraped(port: int) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Watches:
    """Scrapes, and looks, when a phase has begun and when it has ended."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.scrapes: list[tuple[int, str]] = []
        self.reader: Any = None
        self.last: Any = None

    def begun(self, phase: Any, directory: Path) -> None:
        self.scrapes.append(scraped(self._port))
        self.reader = attach(directory)

    def going(self, phase: Any, engine: Any) -> None: ...

    def ended(self, phase: Any, end: Any) -> None:
        self.scrapes.append(scraped(self._port))
        self.last = self.reader.snapshot()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(port: int) -> tuple[Watches, SessionResult]:
    options = configs.resolve("mock:?gap=1", {"concurrency": 4, "requests": 40, "metrics_port": port})
    watches = Watches(port)
    return watches, Run(options, watches).execute()


def test_a_run_is_scraped_while_it_goes_on(here: Path) -> None:
    port = free_port()
    watches, result = run(port)
    (_, before), (status, after) = watches.scrapes
    assert status == 200
    assert f'loadgen_run_info{{run="{result.id}"}} 1' in before
    assert 'loadgen_state{state="live"} 1' in before
    assert 'loadgen_ok_requests_total{phase="0"} 40\n' in after
    assert 'loadgen_ttft_seconds_count{phase="0"} 40\n' in after
    with pytest.raises(ConnectionRefusedError):
        scraped(port)
    assert result.report["run"]["config"]["metrics_port"] == port


class Stops:
    """Notes how the session stands at each look, and stops it once it drains."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.run: Run | None = None

    def begun(self, phase: Any, directory: Path) -> None: ...

    def going(self, phase: Any, engine: Any) -> None:
        self.seen.append((phase.name, engine.segment().state))
        if self.seen[-1][1] == "draining":
            assert self.run is not None
            self.run.stop("seen", 0.0)

    def ended(self, phase: Any, end: Any) -> None: ...


def test_a_session_drains_when_its_last_phase_issues_no_more(here: Path) -> None:
    # Nothing is ever answered: the first phase gives up, the last is stopped when the test has seen it drain.
    phases = [{"name": "one", "burst": 2, "timeout": "0.3s"}, {"name": "two", "burst": 2, "timeout": "1h"}]
    watcher = Stops()
    options = configs.resolve("mock:?ttft=1h", {"phases": phases, "drain": "1h"})
    watcher.run = Run(options, watcher)
    result = watcher.run.execute()
    of_first = {state for name, state in watcher.seen if name == "one"}
    of_last = list(dict.fromkeys(state for name, state in watcher.seen if name == "two"))
    assert of_first == {"live"}
    assert of_last in (["draining"], ["live", "draining"])
    assert result.status == "interrupted"


def test_a_look_beside_a_run_has_its_logs_numbers(here: Path) -> None:
    watches, result = run(free_port())
    (phase,) = Report.from_snapshot(watches.last).result(result.dir).perf_results
    truth = result.performance
    assert phase.counts == truth.counts
    for name in ("ttft", "latency", "response_ttft"):
        assert phase.metric(name).count == truth.metric(name).count
        assert phase.metric(name).mean == pytest.approx(truth.metric(name).mean, rel=1e-9)
        assert phase.metric(name).p50 == pytest.approx(truth.metric(name).p50, rel=0.001, abs=0.0006)
    assert watches.reader.state is SessionState.COMPLETE
    assert again.load(str(result.dir))[0].report["run"]["source"] == "log"


def test_a_port_that_is_taken_stops_the_run_before_anything_is_sent(here: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="can't serve metrics"):
            run(taken.getsockname()[1])
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metrics_port": 70_000}, "1 to 65535"),
        ({"metrics_port": 0}, "metrics_port"),
        ({"metrics_host": "0.0.0.0"}, "none are"),
        ({"metrics_host": "a b", "metrics_port": 9464}, "must be an address"),
    ],
)
def test_what_can_not_be_served_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        configs.resolve("mock:", given)
