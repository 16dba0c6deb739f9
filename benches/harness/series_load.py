"""What the live series add to a request of A: interleaved pairs of two builds that differ in nothing else."""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from harness import process
from harness.bench import Bench
from harness.clients import Loadgen
from harness.errors import BenchError
from harness.figures import Spread, Work, slope_us
from harness.servers import Mock
from harness.table import Line, Mark

_CONNECTIONS = 64
# Long runs: what neighbours do to a second of CPU is more than what is looked for.
_REQUESTS = (50_000, 550_000)
_PAIRS = 10
_BUILD_S = 1_800.0
_PROFILE = "bench-fast"
# A build with this records none of a run's own series; its version says so.
_WITHOUT = "loadgen_bench_no_series"


def added(bench: Bench) -> Iterator[Line]:
    """CPU of a request with live series less that of one without, pair by pair."""
    if bench.quick:
        yield Line("series-load", "the series add to a request of A", "µs", None, note="not built by --quick")
        return
    with tempfile.TemporaryDirectory(prefix="loadgen-series-") as made:
        # The one that everything else uses last: it then needn't be built again.
        clients = {has_series: _built(bench, Path(made), has_series=has_series) for has_series in (False, True)}
        differences, bare = [], []
        with Mock(truth_rows=0, output_tokens=16) as mock:
            for pair in range(max(_PAIRS, bench.size.pairs)):
                bench.say(f"series-load: pair {pair + 1}")
                turns = (True, False) if pair % 2 else (False, True)
                costs = {has_series: _cost_us(clients[has_series], mock) for has_series in turns}
                differences.append(costs[True] - costs[False])
                bare.append(costs[False])
    few, many = _REQUESTS
    note = f"{Spread.of(bare)} µs without; both built with {_PROFILE}; slopes from {few:,} to {many:,} requests"
    yield Line("series-load", "the series add to a request of A", "µs", Spread.of(differences), Mark(0.2), note=note)


def _cost_us(client: Loadgen, mock: Mock) -> float:
    """Return the CPU microseconds of a request, start and end of the process left out."""
    works = []
    for requests in _REQUESTS:
        mock.reset()
        load = ("--concurrency", str(_CONNECTIONS), "--requests", str(requests), "--no-stream")
        works.append(Work(client.run(mock.url, *load).finished.cpu_s, requests))
    return slope_us(*works)


def _built(bench: Bench, work: Path, *, has_series: bool) -> Loadgen:
    """Build a wheel with series or without, by the same profile, and return its command."""
    name = "with" if has_series else "without"
    bench.say(f"series-load: building it {name} series")
    wheels, home = work / f"{name}-wheel", work / name
    command = [sys.executable, "-m", "maturin", "build", "--quiet", "--profile", _PROFILE, "--locked"]
    command += ["--out", str(wheels), "--manifest-path", str(bench.root / "Cargo.toml")]
    # For this crate alone: what it depends on is built once.
    command += [] if has_series else ["--", "--cfg", _WITHOUT]
    process.checked(process.run(command, timeout_s=_BUILD_S), command)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as package:
        package.extractall(home)
    script = home / "loadgen-command"
    start = f"import sys; sys.path.insert(0, {str(home)!r}); from loadgen.cli import main; sys.exit(main())"
    script.write_text(f"#!{sys.executable}\n{start}\n")
    script.chmod(0o700)
    said = process.checked(process.run([script, "--version"], timeout_s=60.0), [script]).stdout
    if ("no-series" in said) == has_series:
        raise BenchError(f"the build {name} series says that it is {said.strip()}")
    (work / f"{name}-runs").mkdir()
    return Loadgen(script, work / f"{name}-runs")
