"""A stand-in for the compiled core that keeps its promises about calls, so that the surface is tested by itself.

Its engine answers at once, its log is a JSON file, and its summary is what a test makes of it.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__version__ = "0.0.test"

ENGINES: list["Engine"] = []
SERVERS: list["MockServer"] = []


class Script:
    """What the next engines do. A test changes it; ``reset`` makes it good again."""

    ok = True
    reason = "requests"
    polls = 2
    failed = 0
    message = "the model `nope` does not exist"
    status = 404
    refusal = ""
    on_poll: Any = None
    engine_error: Exception | None = None
    finish_error: Exception | None = None


class Bodies:
    def __init__(
        self, bodies: Sequence[bytes], holes: Sequence[int] | None = None, sessions: Sequence[int] | None = None
    ) -> None:
        self.bodies = list(bodies)
        self.sessions = None if sessions is None else list(sessions)
        self.holes = list(holes or [])

    def __len__(self) -> int:
        return len(self.bodies)


class Segment:
    """Live metrics without any."""

    about = ""
    state = "live"
    notes: Sequence[str] = ()

    def advance(self, state: str) -> None:
        self.state = state

    def describe(self, about: str) -> None:
        assert not self.about
        self.about = about

    def snapshot(self, *, percentiles: Sequence[float] | None = None, bins: int = 30, phase: int | None = None) -> str:
        told = {"id": "7f3a", "state": "live", "alive": True, "mono_ns": 1, "wall_ns": 1, "start_ns": 1}
        return json.dumps(told | {"phase": None, "phase_ns": None, "counters": [], "series": []})


class Engine:
    def __init__(self, config: str) -> None:
        if Script.engine_error is not None:
            raise Script.engine_error
        self.config = json.loads(config)
        self.phases: list[dict[str, Any]] = []
        self.bodies: list[Bodies] = []
        self.stops: list[float] = []
        self.finished = 0
        self._log = Path(self.config["dir"]) / "run.log"
        handle = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.close(handle)
        self._segment = Segment()
        self._ends: list[dict[str, Any]] = []
        self._left = 0
        self._write("killed")
        ENGINES.append(self)

    def segment(self) -> Segment:
        return self._segment

    def begin(self, phase: str, bodies: Bodies) -> None:
        self.phases.append(json.loads(phase))
        self.bodies.append(bodies)
        self._left = Script.polls

    def wait(self, timeout: float) -> str | None:
        assert 0 < timeout <= 1
        if Script.on_poll is not None:
            Script.on_poll(self)
        if self._left > 0 and not self.stops:
            self._left -= 1
            return None
        end = self._end()
        self._ends.append(end)
        self._write("killed")
        return json.dumps(end)

    def _end(self) -> dict[str, Any]:
        phase = self.phases[-1]
        total = phase["requests"] or (phase["load"].get("n") if phase["load"]["kind"] == "burst" else 100)
        failed = min(total, Script.failed)
        return {
            "name": phase["name"],
            "reason": "stopped" if self.stops else Script.reason,
            "start_ns": 1_000_000_000,
            "end_ns": 11_000_000_000,
            "issued": total,
            "ok": total - failed,
            "failed": failed,
            "cancelled": 0,
            "reconnects": 0,
            "usage_refused": False,
            "never_issued": 0,
        }

    @property
    def is_issuing(self) -> bool:
        return self._left > 0 and not self.stops

    def live(self) -> str:
        return json.dumps(LIVE)

    def stop(self, grace: float) -> None:
        self.stops.append(grace)

    def finish(self, status: str = "complete", reason: str = "") -> None:
        self.finished += 1
        self._write(status, reason)
        if Script.finish_error is not None:
            raise Script.finish_error

    def _write(self, status: str, reason: str = "") -> None:
        phases = list(zip(self.phases, self._ends, strict=False))
        log = {"meta": self.config["meta"], "status": status, "reason": reason, "phases": phases}
        self._log.write_text(json.dumps(log))


LIVE = {
    "t_s": 38.2,
    "issued": 1936,
    "ok": 1893,
    "failed": 2,
    "cancelled": 0,
    "in_flight": 41,
    "tokens": 241_118,
    "chunks": 230_000,
    "requests_per_s": 50.1,
    "ttft_ms": {"p50": 92.04, "p99": 241.3},
    "gap_ms": {"p50": 11.8, "p99": 22.3},
    "latency_ms": {"p50": 1610.0, "p99": 4020.0},
    "send_late_us": {"p50": 0.3, "p99": 200.0},
}


class MockServer:
    def __init__(self, config: str) -> None:
        self.config = json.loads(config)
        self.stopped = 0
        self.url = "http://127.0.0.1:9"
        SERVERS.append(self)

    def truth(self) -> str:
        return "{}"

    def stop(self) -> None:
        self.stopped += 1


def mock_faults() -> list[tuple[str, str]]:
    return [("crlf", "ends lines with CR LF"), ("all_500", "answers everything with a 500")]


def now_ns() -> int:
    return 1


def summarise(dir: str, options: str) -> str:
    import reports

    log = json.loads((Path(dir) / "run.log").read_text())
    return json.dumps(reports.summary(log, json.loads(options)))


def reset() -> None:
    """Forget engines and servers, and make the script good again."""
    for name, value in _GOOD.items():
        setattr(Script, name, value)
    ENGINES.clear()
    SERVERS.clear()


_GOOD = {name: value for name, value in vars(Script).items() if not name.startswith("_")}


PLACES = ("loadgen.session.runner", "loadgen.session.summary", "loadgen.session.prepare", "loadgen.cli.mock")
"""The modules that hold the core; each looks it up by the name ``_core``."""


def install() -> None:
    """Put this module in the core's place, for a process of its own; a test uses ``monkeypatch`` instead."""
    import importlib

    for place in PLACES:
        importlib.import_module(place)._core = sys.modules[__name__]  # type: ignore[attr-defined]
