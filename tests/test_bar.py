"""What is seen of a run that goes on without a screen: the bar, as golden files, and plain lines."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import fake_core
from goldens import golden
from loadgen.cli import progress
from loadgen.config import resolve
from loadgen.session.phase import phases_of
from loadgen.session.phase_plan import PhasePlan, plan_of

RUN = Path("loadgen-runs/20261120T211405Z-7f3a")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM"):
        monkeypatch.delenv(name, raising=False)


def live_phase(**given: Any) -> PhasePlan:
    config = resolve("http://h", given)
    return plan_of(phases_of(config)[-1], config, {"name": "d", "sha256": "0", "samples": 5})


PHASES = {
    "rate": live_phase(rate=50, duration=60),
    "requests": live_phase(concurrency=8, requests=10_000),
    "stages": live_phase(stages="10/s:30s,50/s:30s"),
    "burst": live_phase(burst=2000),
}
EMPTY = {"t_s": 0.0, "issued": 0, "ok": 0, "failed": 0, "cancelled": 0, "in_flight": 0, "tokens": 0, "chunks": 0,
         "requests_per_s": 0.0, "ttft_ms": None, "gap_ms": None, "latency_ms": None, "send_late_us": None}  # fmt: skip
HISTORY = [0, 40, 92, 140, 199, 240, 291, 340]


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_the_bar_fits_and_looks_as_agreed(width: int) -> None:
    lines = []
    for phase in PHASES.values():
        for live in (fake_core.LIVE, EMPTY):
            lines += [progress.top_line(phase, live, width), progress.bottom_line(phase, live, HISTORY, width)]
    assert all(cell_len(line) < width for line in lines)
    golden(f"bar_{width}", "\n".join(line.rstrip() for line in lines) + "\n")


class Engine:
    def __init__(self, live: dict[str, Any]) -> None:
        self.text = json.dumps(live)

    def live(self) -> str:
        return self.text


def test_the_bar_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    engine: Any = Engine(fake_core.LIVE)
    with progress.view("auto", out) as view:
        view.begun(PHASES["rate"], RUN)
        view.going(PHASES["rate"], engine)
        drawn = out.getvalue()
        view.ended(PHASES["rate"], {})
    assert drawn.startswith("\r\x1b[J performance")
    assert drawn.count("\n") == 1
    assert out.getvalue() == drawn + "\r\x1b[J"


def test_the_bar_colours_failures_unless_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")

    def drawn() -> str:
        out = Terminal()
        engine: Any = Engine(fake_core.LIVE)
        progress.view("bar", out).going(PHASES["rate"], engine)
        return out.getvalue()

    assert "\x1b[31m" in drawn()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in drawn()


def test_elsewhere_a_plain_line_comes_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    now = [100.0]
    monkeypatch.setattr("loadgen.cli.progress.time.monotonic", lambda: now[0])
    engine: Any = Engine(fake_core.LIVE)
    view = progress.view("auto", out)
    view.begun(PHASES["rate"], RUN)
    for _ in range(250):
        now[0] += 0.1
        view.going(PHASES["rate"], engine)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == f"performance: Poisson 50 req/s, run in {RUN}"
    assert lines[1].startswith(
        "performance: 38 s / 60 s, 50.1 req/s, 41 in flight, 1,893 ok, 2 failed, TTFT p50 92 ms p99 241 ms"
    )
    assert "\x1b" not in out.getvalue()


def test_a_screen_that_went_away_does_not_hurt_the_run() -> None:
    class Gone(Terminal):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    engine: Any = Engine(fake_core.LIVE)
    for view_of in (progress.BarView, progress.PlainView):
        with view_of(Gone()) as view:
            view.begun(PHASES["rate"], RUN)
            view.going(PHASES["rate"], engine)
            view.ended(PHASES["rate"], {})


def test_a_dumb_terminal_and_a_file_get_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress.view("auto", Terminal()), progress.PlainView)
    assert isinstance(progress.view("auto", io.StringIO()), progress.PlainView)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(progress.view("auto", Terminal()), progress.BarView)
