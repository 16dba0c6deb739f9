"""Measures what loadgen must reach, and prints it as a table: `make bench`.

Each figure goes through the installed `loadgen run` with its default outputs on and one worker, the server in a process
of its own. CPU is that of the whole process tree; a cost is the slope between a short and a long run, taken in turns
with its baseline. Nothing is asserted: the exit status is 0 whether marks are reached or not, 1 if a figure could not
be measured, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness import (
    dispatch_asyncio,
    dispatch_litellm,
    dispatch_native,
    dispatch_sim,
    end,
    event_load,
    events,
    live_metrics,
    machine,
    memory,
    nodes_mock,
    nodes_sim,
    package,
    runlog,
    series_load,
    start,
    table,
    truth,
    watching,
    wire,
)
from harness.bench import FULL, QUICK, Bench
from harness.clients import Loadgen, Wrk
from harness.errors import BenchError
from harness.machine import Machine
from harness.table import Line

ROOT = Path(__file__).resolve().parents[1]

FAMILIES: dict[str, Callable[[Bench], Iterator[Line]]] = {
    "A": wire.small_answers,
    "B1": wire.coalesced_events,
    "B2": wire.flushed_events,
    "truth": truth.poisson,
    "at-once": truth.at_once,
    "late": truth.send_lateness,
    "independent": truth.independent,
    "start": start.first_request,
    "import": start.imported,
    "end": end.ending,
    "memory": memory.memory,
    "log": runlog.log,
    "events": events.publishing,
    "event-batch": events.batching,
    "event-load": event_load.added,
    "event-loss": events.lossless,
    "top": watching.watching,
    "series-load": series_load.added,
    "metrics-record": live_metrics.recording,
    "metrics-tick": live_metrics.ticking,
    "dispatch-asyncio": dispatch_asyncio.calls,
    "dispatch-memory": dispatch_asyncio.memory,
    "dispatch-cancel": dispatch_native.cancelled,
    "dispatch-litellm": dispatch_litellm.against_429s,
    "dispatch-sim": dispatch_sim.regimes,
    "nodes-sim": nodes_sim.grid,
    "nodes-mock": nodes_mock.examples,
    "wheel": package.wheel,
    "deps": package.dependencies,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status."""
    options = _parser().parse_args(arguments)
    chosen = options.only or list(FAMILIES)
    loadgen = _loadgen(options.loadgen)
    if loadgen is None:
        print(
            "error: no `loadgen` command next to this Python, nor on the PATH; install the package, or use --loadgen",
            file=sys.stderr,
        )
        return 1
    package.compile_it()
    wrk = shutil.which("wrk")
    here = machine.look(ROOT)
    print(here.words())
    if here.busy:
        print("WARNING: the machine is busy; wait until it is quiet before you believe a figure")
    if wrk is None:
        print("WARNING: wrk is not installed (apt install wrk): no ratios to it")
    if options.quick:
        print("--quick: a check that everything runs, no figures to believe")
    lines: list[Line] = []
    status = 0
    with tempfile.TemporaryDirectory(prefix="loadgen-bench-") as made:
        work = Path(made)
        bench = Bench(
            ROOT,
            Loadgen(loadgen, work),
            None if wrk is None else Wrk(Path(wrk), work),
            QUICK if options.quick else FULL,
            options.quick,
        )
        try:
            for name in chosen:
                status |= _measure(bench, name, lines)
        except KeyboardInterrupt:
            status = 130
    _tell(here, lines, options.json)
    return status


def _measure(bench: Bench, name: str, lines: list[Line]) -> int:
    """Measure one family; what can't be measured gets a line that says why, and the others go on."""
    try:
        for line in FAMILIES[name](bench):
            lines.append(line)
            bench.say("  ".join(cell for cell in line.cells() if cell))
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        reason = " ".join(str(error).split())
        lines.append(Line(name, "failed", "", None, note=reason))
        bench.say(f"{name}: {reason}")
        return 1
    return 0


def _tell(here: Machine, lines: Sequence[Line], file: Path | None) -> None:
    steal, ticks = (now - then for now, then in zip(machine.steal_ticks(), (here.steal, here.ticks), strict=True))
    print()
    print(table.render(lines))
    print()
    print(table.summary(lines))
    if ticks and steal / ticks > 0.005:
        print(f"WARNING: the hypervisor took {100 * steal / ticks:.1f} % of the time away")
    if file is not None:
        told = {
            "machine": here.json(),
            "steal_share": steal / ticks if ticks else None,
            "lines": [line.json() for line in lines],
        }
        file.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _loadgen(given: Path | None) -> Path | None:
    """Find the command: the given one, that of this Python, or that of the PATH."""
    if given is not None:
        return given.absolute() if given.is_file() else None
    beside = Path(sys.executable).with_name("loadgen")
    found = str(beside) if beside.is_file() else shutil.which("loadgen")
    return Path(found) if found else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a small version, within a minute: does everything run?")
    parser.add_argument("--only", type=_names, metavar="LIST", help=f"some of {','.join(FAMILIES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values there")
    parser.add_argument("--loadgen", type=Path, metavar="PATH", help="the command to measure")
    return parser


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in FAMILIES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"no family is called {', '.join(unknown) or text!r}; choose from {', '.join(FAMILIES)}"
        )
    return names


if __name__ == "__main__":
    # Ended in order, so that no server outlives it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
