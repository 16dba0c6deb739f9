"""Counts the instructions of the hot paths, which no neighbour disturbs: `make bench-instructions`, where valgrind is.

Each path is run so often and ten times that under callgrind; the difference is what one costs. The same source and
compiler give the same counts on every machine of an architecture, so that a change of a hundredth is one.

The exit status is 0, or 3 if `--fail` was given and a path became longer by more.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONGER = 3

_FEW, _MANY = 200, 2_000
_COLLECTED = re.compile(r"Collected\s*:\s*(\d+)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print, compare, and return the exit status."""
    options = _parser().parse_args(arguments)
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        print("SKIPPED: valgrind is not installed (apt install valgrind)")
        return 0
    now = counts(valgrind, built(options.profile))
    before: dict[str, float] = json.loads(options.against.read_text()) if options.against else {}
    print(table(now, before))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(now, indent=1) + "\n")
    found = [] if options.fail is None else longer(now, before, options.fail)
    for name in found:
        print(f"LONGER by more than {options.fail:g} %: {name}", file=sys.stderr)
    return LONGER if found else 0


def built(profile: str) -> Path:
    """Build the program that runs the paths; return where it is."""
    command = ["cargo", "bench", "--locked", "--no-run", "--quiet", "--profile", profile, "--bench", "counted"]
    done = subprocess.run([*command, "--message-format=json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    (program,) = [message["executable"] for message in told if message.get("executable")]
    return Path(program)


def counts(valgrind: str, program: Path) -> dict[str, float]:
    """Return the instructions of each path, once."""
    named = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return {
        name: (_collected(valgrind, program, name, _MANY) - _collected(valgrind, program, name, _FEW)) / (_MANY - _FEW)
        for name in named
    }


def _collected(valgrind: str, program: Path, name: str, times: int) -> int:
    command = [valgrind, "--tool=callgrind", f"--callgrind-out-file={os.devnull}", str(program), name, str(times)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = _COLLECTED.search(done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"callgrind counted nothing of {name!r}, ending with {done.returncode}:\n{done.stderr}")
    return int(found[1])


def longer(now: Mapping[str, float], before: Mapping[str, float], percent: float) -> list[str]:
    """Return the paths that became longer by more than so many percent; one that is new is none."""
    return [name for name, count in now.items() if name in before and count > before[name] * (1 + percent / 100)]


def table(now: Mapping[str, float], before: Mapping[str, float]) -> str:
    """Lay the counts out, beside those of before."""
    heading = "instructions of one"
    width = max(map(len, (heading, *now)))
    lines = [f"{heading:<{width}}  {'now':>10}  {'before':>10}"]
    for name, count in now.items():
        change = (
            f"{before[name]:>10,.0f}  {100 * (count / before[name] - 1):+.1f} %" if name in before else f"{'–':>10}"
        )
        lines.append(f"{name:<{width}}  {count:>10,.0f}  {change}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--profile", default="bench-fast", help="of Cargo.toml (bench-fast)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the counts there, as JSON")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with these")
    parser.add_argument("--fail", type=float, metavar="PERCENT", help="fail if a path became longer by more")
    return parser


if __name__ == "__main__":
    sys.exit(main())
