"""What was measured, what could not be, and the tables of it in Markdown."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harness.errors import BenchError
from harness.figures import Spread, number
from peers.peer import Peer, Shape

OURS = "loadgen"


@dataclass(frozen=True)
class Cost:
    """One shape's cost.

    Args:
        us: CPU microseconds of a request (A) or an event (B), a value a round.
        peak_mb: The most memory of the whole tree in its long run, a value a round.
    """

    us: Spread
    peak_mb: Spread


@dataclass(frozen=True)
class Truth:
    """One rate's truth.

    Args:
        p50_ms: The client's median TTFT less the server's.
        p99_ms: The same of the 99th percentile.
        rate: Requests a second that came.
        gap_cv: The coefficient of variation of their gaps.
    """

    p50_ms: float
    p99_ms: float
    rate: float
    gap_cv: float


@dataclass(frozen=True)
class Start:
    """What comes before and after the load.

    Args:
        first_s: Seconds to the first request.
        last_s: Seconds from the last answer to the end, report included.
        cpu_s: CPU seconds of ten requests; `None` for those that count by time.
    """

    first_s: Spread
    last_s: Spread
    cpu_s: Spread | None


@dataclass
class Results:
    """All of it."""

    costs: dict[tuple[str, Shape], Cost] = field(default_factory=dict)
    truths: dict[tuple[str, int], Truth] = field(default_factory=dict)
    starts: dict[str, Start] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    @contextmanager
    def guard(self, name: str, what: str) -> Iterator[None]:
        """Note a failure in place of the figure, so that the others go on.

        Args:
            name: The client.
            what: What is measured.
        """
        try:
            yield
        except (BenchError, OSError, subprocess.SubprocessError) as error:
            self.failures[name, what] = " ".join(str(error).split())

    def json(self) -> dict[str, Any]:
        """All values, in lists that say what they are of."""
        return {
            "costs": [{"client": n, "shape": s, **dataclasses.asdict(c)} for (n, s), c in self.costs.items()],
            "truths": [{"client": n, "asked": r, **dataclasses.asdict(t)} for (n, r), t in self.truths.items()],
            "starts": [{"client": n, **dataclasses.asdict(s)} for n, s in self.starts.items()],
            "failures": [{"client": n, "what": w, "why": why} for (n, w), why in self.failures.items()],
        }


def tables(results: Results, peers: Sequence[Peer], rates: Sequence[int]) -> str:
    """Return the tables that have anything in them, and what could not be measured."""
    parts = [_costs(results, peers), _truths(results, peers, rates), _starts(results, peers), _failures(results)]
    return "\n\n".join(part for part in parts if part)


def _costs(results: Results, peers: Sequence[Peer]) -> str:
    rows = []
    for peer in peers:
        a, b = results.costs.get((peer.name, "A")), results.costs.get((peer.name, "B"))
        if a or b:
            memory = " / ".join(number(cost.peak_mb.median) if cost else "–" for cost in (a, b))
            cells = (_name(peer), peer.sees, *(str(cost.us) if cost else "–" for cost in (a, b)), memory)
            rows.append((a.us.median if a else float("inf"), cells))
    rows.sort(key=lambda row: row[0])
    head = ("client", "looks at", "A: CPU µs a request", "B: CPU µs an event", "memory of A / B, MB")
    return _table(head, [cells for _, cells in rows])


def _truths(results: Results, peers: Sequence[Peer], rates: Sequence[int]) -> str:
    rows = []
    for peer in peers:
        if any((peer.name, rate) in results.truths for rate in rates):
            told = [results.truths.get((peer.name, rate)) for rate in rates]
            rows.append((_name(peer), *("–" if truth is None else _truth(truth) for truth in told)))
    return _table(("error of TTFT p50 / p99, ms (rate reached, CV)", *(f"{rate}/s" for rate in rates)), rows)


def _truth(truth: Truth) -> str:
    errors = " / ".join(("+" if ms >= 0 else "") + number(ms) for ms in (truth.p50_ms, truth.p99_ms))
    return f"{errors} ({truth.rate:,.0f}/s, {truth.gap_cv:.2f})"


def _starts(results: Results, peers: Sequence[Peer]) -> str:
    rows = []
    for peer in peers:
        start = results.starts.get(peer.name)
        if start is not None:
            installed = peer.installed
            weight = f"{number(installed.bytes / 1e6)} MB" + (
                f", {installed.packages} packages" if installed.packages else ""
            )
            cpu = "–" if start.cpu_s is None else str(start.cpu_s)
            rows.append((_name(peer), str(start.first_s), str(start.last_s), cpu, weight))
    head = ("client", "to the first request, s", "last answer to the end, s", "10 requests, CPU s", "installed")
    return _table(head, rows)


def _failures(results: Results) -> str:
    return _table(("not measured", "", "why"), [(name, what, why) for (name, what), why in results.failures.items()])


def _name(peer: Peer) -> str:
    _, _, version = peer.installed.what.replace("@v", "==").replace("@", "==").partition("==")
    name = f"{peer.name} {version}".strip()
    return f"**{name}**" if peer.name == OURS else name


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table; none where there are no rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
