"""Measures what single calls cost beside what they replace, and compares it with the last time: `make bench-micro`.

Each figure is the CPU of the calling thread for one unit of work, in nanoseconds: the quickest round, which neighbours
disturb least, and the median. Results are kept as pytest-benchmark writes them. Compared with the last ones is the
quickest round, corrected by how much faster or slower the baselines became, which is the machine and not us.

The exit status is 0, or pytest's own if a bench failed, or 3 if `--fail` was given and something became slower by more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.figures import number

BENCHES = Path(__file__).resolve().parent
SLOWER = 3


@dataclass(frozen=True)
class Result:
    """What one bench measured.

    Args:
        group: The unit of work.
        name: Who did it.
        role: `ours`, `baseline` or `empty`.
        best_ns: Nanoseconds of a unit in the quickest round.
        median_ns: In the median one.
    """

    group: str
    name: str
    role: str
    best_ns: float
    median_ns: float


@dataclass(frozen=True)
class Change:
    """A bench of ours, now and the last time.

    Args:
        result: What it is now.
        before_ns: What the quickest round was then.
        factor: How much slower it became, the machine's own change taken out; below 1 is faster.
    """

    result: Result
    before_ns: float
    factor: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, compare, and return the exit status."""
    options, rest = _parser().parse_known_args(arguments)
    before = options.against or newest(options.keep)
    with tempfile.TemporaryDirectory(prefix="loadgen-micro-") as made:
        file = Path(made) / "now.json"
        status = _measure(options.keep, file, rest)
        if status:
            return status
        now = read(file)
    print(table(now))
    if before is None:
        print(f"\nnothing to compare with: no results are kept in {options.keep} yet")
        return 0
    compared = changes(read(before), now)
    print(f"\nbeside {before}, corrected by the baselines:\n{difference(compared)}")
    slower = [] if options.fail is None else [change for change in compared if change.factor > 1 + options.fail / 100]
    for change in slower:
        print(f"SLOWER by more than {options.fail:g} %: {change.result.group}, {change.result.name}", file=sys.stderr)
    return SLOWER if slower else 0


def _measure(keep: Path, file: Path, rest: Sequence[str]) -> int:
    """Run the benches with pytest, which keeps the results; return its status."""
    command = [sys.executable, "-m", "pytest", str(BENCHES), "--benchmark-only", "--benchmark-quiet", "-q"]
    # CPU time, not the clock's: the machine may have other work.
    command += ["--benchmark-timer=time.thread_time", "--benchmark-disable-gc", "--benchmark-columns=min,median,rounds"]
    command += [f"--benchmark-storage=file://{keep.absolute()}", "--benchmark-autosave", f"--benchmark-json={file}"]
    return subprocess.run([*command, *rest], cwd=BENCHES.parent, check=False).returncode


def newest(keep: Path) -> Path | None:
    """Return the file of the last results kept, or `None`."""
    return max(keep.glob("*/*.json"), key=lambda path: path.name, default=None)


def read(file: Path) -> list[Result]:
    """Read what pytest-benchmark wrote; a bench that doesn't say its units has one a round."""
    return [_result(bench) for bench in json.loads(file.read_bytes())["benchmarks"]]


def _result(bench: Mapping[str, Any]) -> Result:
    told, stats = bench["extra_info"], bench["stats"]
    each = 1e9 / told.get("units", 1)
    name = bench["name"].removeprefix("test_").replace("_", " ")
    return Result(bench["group"] or "", name, told.get("role", "ours"), stats["min"] * each, stats["median"] * each)


def changes(before: Sequence[Result], now: Sequence[Result]) -> list[Change]:
    """Compare those of ours that were there before.

    The machine's own change is the median of the baselines' changes: 1 where they have none in common.
    """
    then = {(result.group, result.name): result.best_ns for result in before}
    common = [(result, was) for result in now if (was := then.get((result.group, result.name)))]
    machine = statistics.median([result.best_ns / was for result, was in common if result.role != "ours"] or [1.0])
    return [
        Change(result, was, result.best_ns / was / machine)
        for result, was in common
        if result.role == "ours" and result.best_ns
    ]


def table(results: Sequence[Result]) -> str:
    """Lay the results out in groups: ours first, and what each baseline costs of it."""
    rows = [("", "ns: best", "median", "× ours"), *_rows(results)]
    return _columns(rows)


def _rows(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    order = {"ours": 0, "baseline": 1, "empty": 2}
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.group, []).append(result)
    for group, members in groups.items():
        yield (f"one {group}", "", "", "")
        members.sort(key=lambda member: order[member.role])
        ours = members[0].best_ns if members[0].role == "ours" else None
        for member in members:
            ratio = number(member.best_ns / ours) if ours and member.role == "baseline" else ""
            name = member.name if member.role != "ours" else f"{member.name} (ours)"
            yield (f"  {name}", number(member.best_ns), number(member.median_ns), ratio)


def difference(compared: Sequence[Change]) -> str:
    """Lay the changes out, the greatest loss first."""
    ordered = sorted(compared, key=lambda change: -change.factor)
    rows = [("", "then", "now", "change")]
    for change in ordered:
        name = f"{change.result.group}: {change.result.name}"
        percent = f"{100 * (change.factor - 1):+.0f} %"
        rows.append((name, number(change.before_ns), number(change.result.best_ns), percent))
    return _columns(rows)


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0],
        epilog="What isn't known here goes to pytest: `-k policy` measures only those.",
    )
    kept = BENCHES.parent / ".benchmarks"
    parser.add_argument("--keep", type=Path, default=kept, metavar="DIR", help="where results are kept (.benchmarks)")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with these, not with the last ones kept")
    parser.add_argument("--fail", type=float, metavar="PERCENT", help="fail if something of ours became slower by more")
    return parser


if __name__ == "__main__":
    sys.exit(main())
