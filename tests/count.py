"""Runs test suites and counts what ran: a suite that shrank below its floor fails, however green it looks.

usage: count.py KIND -- COMMAND…        KIND is a part of floors.toml: loom and what ends in `rust` are cargo's

The command's output is passed on as it comes. Floors stand in `floors.toml` next to this file, by suite; a suite that
has a floor and did not run counts 0. Cargo finds no test by itself in this crate and exits 0 where an entry is
missing, which is why the counts are checked.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

FLOORS = Path(__file__).with_name("floors.toml")

_CARGO_SUITE = re.compile(r"^\s+(?:Running (?:unittests )?(\S+\.rs)|Doc-tests (\S+))")
_CARGO_RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")
_PYTEST_RESULT = re.compile(r"^=* ?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Count(NamedTuple):
    """What one suite ran."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0


def cargo_counts(lines: Iterable[str]) -> dict[str, Count]:
    """Count a `cargo test` by test binary, named by its source file, or `doc`."""
    counts: dict[str, Count] = {}
    suite = "?"
    for line in lines:
        if found := _CARGO_SUITE.match(line):
            suite = found[1] or "doc"
        elif found := _CARGO_RESULT.match(line):
            counts[suite] = Count(*(int(n) for n in found.groups()))
    return counts


def pytest_counts(lines: Iterable[str]) -> dict[str, Count]:
    """Count a `pytest` run by its last line; errors count as failures, expected failures as skipped."""
    counts: dict[str, Count] = {}
    for line in lines:
        if found := _PYTEST_RESULT.match(line):
            by = {word: int(n) for n, word in re.findall(r"(\d+) ([a-z]+)", found[1])}
            failed = by.get("failed", 0) + by.get("error", 0) + by.get("errors", 0)
            counts["pytest"] = Count(by.get("passed", 0), failed, by.get("skipped", 0) + by.get("xfailed", 0))
    return counts


def verdicts(counts: dict[str, Count], floors: dict[str, int]) -> Iterator[tuple[str, bool]]:
    """Yield a line for each suite, and whether it holds.

    Args:
        counts: What ran, by suite.
        floors: The least that must have passed, by suite.
    """
    for suite in sorted(counts.keys() | floors.keys()):
        count, floor = counts.get(suite, Count()), floors.get(suite)
        good = count.failed == 0 and (floor is None or count.passed >= floor)
        told = f"floor {floor}" if floor is not None else "no floor yet: give it one" if count.passed else ""
        mark = "" if good else "   BELOW ITS FLOOR" if count.failed == 0 else "   FAILED"
        yield (
            f"  {suite:<36}{count.passed:>6} passed {count.failed:>4} failed {count.skipped:>4} skipped   {told}{mark}",
            good,
        )


def _run(command: list[str]) -> tuple[int, list[str]]:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as child:
        assert child.stdout is not None
        lines = []
        for line in child.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(_COLOUR.sub("", line).rstrip("\n"))
    return child.returncode, lines


def main(arguments: list[str]) -> int:
    """Run one kind of suite and judge it; return the exit status."""
    floors_of = tomllib.loads(FLOORS.read_text())
    if len(arguments) < 3 or arguments[0] not in floors_of or arguments[1] != "--":
        print(__doc__, file=sys.stderr)
        return 2
    kind, command = arguments[0], arguments[2:]
    floors = floors_of[kind]
    status, lines = _run(command)
    counts = cargo_counts(lines) if kind.endswith(("rust", "loom")) else pytest_counts(lines)
    print(f"\n{kind} tests by suite")
    good = status == 0
    for line, holds in verdicts(counts, floors):
        print(line)
        good &= holds
    if status:
        print(f"  the command ended with status {status}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
