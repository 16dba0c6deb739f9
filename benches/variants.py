"""Compares builds of loadgen, each installed in an environment of its own: an allocator, a profile, an optimization.

usage: variants.py NAME=LOADGEN NAME=LOADGEN… [--only A,B1] [--rounds 5] [--json FILE]

    variants.py system=/tmp/a/bin/loadgen mimalloc=/tmp/b/bin/loadgen --only A,B1

Every round measures all of them one after the other by `run.py`, beginning with another one each time, so that what
changes on the machine meets all alike. Told is what each costs of the first, round by round: the median and both ends.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.figures import Spread, ratios

RUN = Path(__file__).resolve().with_name("run.py")

Figures = dict[str, float]
"""What one run measured, by the figure's name: its median."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status: 1 if a run failed."""
    options = _parser().parse_args(arguments)
    variants: dict[str, Path] = dict(options.variants)
    rounds: list[dict[str, Figures]] = []
    with tempfile.TemporaryDirectory(prefix="loadgen-variants-") as made:
        for round_ in range(options.rounds):
            measured: dict[str, Figures] = {}
            for name in turned(list(variants), round_):
                print(f"round {round_ + 1} of {options.rounds}: {name}", file=sys.stderr, flush=True)
                found = _measure(variants[name], options.only, Path(made) / "figures.json")
                if found is None:
                    return 1
                measured[name] = found
            rounds.append(measured)
    print(table(list(variants), rounds))
    if options.json:
        options.json.write_text(json.dumps(rounds, indent=1) + "\n")
    return 0


def turned(names: Sequence[str], by: int) -> list[str]:
    """Return names in their order, beginning with another one."""
    start = by % len(names)
    return [*names[start:], *names[:start]]


def _measure(loadgen: Path, only: str, file: Path) -> Figures | None:
    command = [sys.executable, str(RUN), "--only", only, "--loadgen", str(loadgen), "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(command)}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}", file=sys.stderr)
        return None
    return figures(json.loads(file.read_bytes()))


def figures(told: Mapping[str, Any]) -> Figures:
    """Read what a run measured of its own; what it could not measure isn't there."""
    return {
        f"{line['what']} ({line['unit']})": Spread.of(line["ours"]["values"]).median
        for line in told["lines"]
        if line["ours"] is not None
    }


def table(names: Sequence[str], rounds: Sequence[Mapping[str, Figures]]) -> str:
    """Lay the figures out: the first variant's own, and what the others cost of it."""
    return "\n".join(_lines(names, rounds))


def _lines(names: Sequence[str], rounds: Sequence[Mapping[str, Figures]]) -> Iterator[str]:
    shared = [figure for figure in rounds[0][names[0]] if all(figure in one[n] for one in rounds for n in names)]
    for figure in shared:
        values = {name: Spread.of([one[name][figure] for one in rounds]) for name in names}
        yield f"{figure}\n  {names[0]:<16} {values[names[0]]}"
        for name in names[1:]:
            yield f"  {name:<16} {values[name]}   × {ratios(values[name], values[names[0]])}"


def _variant(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and Path(path).is_file()):
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=LOADGEN, with the path of a command that is there")
    return name, Path(path).absolute()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("variants", nargs="+", type=_variant, metavar="NAME=LOADGEN")
    parser.add_argument("--only", default="A,B1", metavar="LIST", help="families of run.py (A,B1)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how often each is measured (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all medians there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
