"""The table that is printed: a line per figure, with its mark, its baseline and the verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.figures import Spread

Verdict = Literal["pass", "miss", "not measured", ""]


@dataclass(frozen=True)
class Mark:
    """Where a figure must lie, both ends included."""

    high: float
    low: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a value reaches the mark."""
        return value <= self.high and (self.low is None or value >= self.low)

    def __str__(self) -> str:
        """Say the mark as the table shows it."""
        if self.low is None:
            return f"≤ {self.high:g}"
        return f"± {self.high:g}" if self.low == -self.high else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Baseline:
    """What the figure is seen against, measured in the same run and the same unit."""

    name: str
    figure: Spread


@dataclass(frozen=True)
class Line:
    """One figure.

    Args:
        family: The family's name, as `--only` takes it.
        what: What was measured.
        unit: The unit of `ours` and of the baseline.
        ours: The figure, one value a repetition; `None` where it could not be measured, and the note says why.
        mark: What it must reach; `None` where it is only told.
        baseline: What it is seen against.
        ratio: Ours to the baseline, pair by pair; where it is given, it is what the mark judges.
        note: What a reader must know to read the figure right.
    """

    family: str
    what: str
    unit: str
    ours: Spread | None
    mark: Mark | None = None
    baseline: Baseline | None = None
    ratio: Spread | None = None
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether the median reaches the mark."""
        judged = self.ratio or self.ours
        if judged is None:
            return "not measured"
        if self.mark is None:
            return ""
        return "pass" if self.mark.holds(judged.median) else "miss"

    def cells(self) -> tuple[str, ...]:
        """The line's cells, one for each of `HEADINGS`."""
        mark = "" if self.mark is None else str(self.mark)
        if mark and self.ratio is not None and self.baseline is not None:
            mark += f" × {self.baseline.name}"
        return (
            self.family,
            f"{self.what}, {self.unit}" if self.unit else self.what,
            mark,
            "" if self.ours is None else str(self.ours),
            "" if self.baseline is None else f"{self.baseline.name} {self.baseline.figure}",
            "" if self.ratio is None else str(self.ratio),
            self.verdict,
        )

    def json(self) -> dict[str, Any]:
        """The line with all its values, for `--json`."""
        return {**dataclasses.asdict(self), "verdict": self.verdict}


HEADINGS = ("", "figure", "mark", "ours: median (min–max)", "baseline", "ratio", "verdict")


def render(lines: Sequence[Line]) -> str:
    """Lay the lines out as a table, each note under its line."""
    rows = [HEADINGS, *(line.cells() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    indent = " " * (widths[0] + 4)
    shown = [texts[0], "-" * (sum(widths) + 2 * (len(widths) - 1))]
    for line, text in zip(lines, texts[1:], strict=True):
        shown.append(text)
        if line.note:
            shown.append(indent + line.note)
    return "\n".join(shown)


def summary(lines: Sequence[Line]) -> str:
    """Count the verdicts in one sentence."""
    count = {verdict: sum(line.verdict == verdict for line in lines) for verdict in ("pass", "miss", "not measured")}
    return f"{count['pass']} pass, {count['miss']} miss, {count['not measured']} not measured"
