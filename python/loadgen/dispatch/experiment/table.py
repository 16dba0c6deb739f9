"""The summary as text: a table for each question, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loadgen.dispatch.experiment.settings import Settings
from loadgen.dispatch.experiment.summary import CLAIM_S, Row, Stats, Summary

_GAP = "  "
_WIDTH = 80
"""Columns of a terminal: what is wider is laid out in parts, one below the other."""


def render(summary: Summary, settings: Settings) -> str:
    """Return the whole summary as lines of text.

    Args:
        summary: What to say.
        settings: The strategies' labels, and the order of all.
    """
    parts = [
        ("Wall seconds: mean ± 95 % interval of the runs", _walls(summary, settings)),
        ("Wall seconds as published", _published(summary, settings)),
        (
            f"Speed-up over {summary.baseline}, paired by run: mean ± 95 % interval (median)",
            _speedups(summary, settings),
        ),
        ("All scenarios", _totals(summary, settings)),
        (f"Single calls, beside the claim that hedging keeps p95 at {CLAIM_S:g} s", _calls(summary, settings)),
        ("Where the time went: of the calls together, and of the wall, seconds a run", _phases(summary, settings)),
    ]
    texts = [f"{title}\n{_lines(rows)}" for title, rows in parts if len(rows) > 1]
    texts += [f"PROBLEM: {problem}" for problem in summary.problems]
    return "\n\n".join(texts)


def _labels(summary: Summary, settings: Settings) -> dict[str, str]:
    present = {row.strategy for row in summary.totals}
    return {strategy.name: strategy.label for strategy in settings.strategies if strategy.name in present}


def _by_cell(summary: Summary) -> dict[tuple[str | None, str], Row]:
    return {(row.scenario, row.strategy): row for row in summary.rows}


def _scenarios(summary: Summary) -> list[str]:
    return list(dict.fromkeys(row.scenario for row in summary.rows if row.scenario is not None))


def _walls(summary: Summary, settings: Settings) -> list[Sequence[str]]:
    labels, cells = _labels(summary, settings), _by_cell(summary)
    rows: list[Sequence[str]] = [("scenario", "calls", *labels.values())]
    for scenario in _scenarios(summary):
        found = [cells.get((scenario, name)) for name in labels]
        calls = next((row.calls.mean for row in found if row is not None and row.calls is not None), None)
        rows.append((scenario, "–" if calls is None else f"{calls:.0f}", *map(_wall, found)))
    return _without_empty(rows)


def _published(summary: Summary, settings: Settings) -> list[Sequence[str]]:
    labels, cells = _labels(summary, settings), _by_cell(summary)
    rows: list[Sequence[str]] = [("scenario", *labels.values())]
    for scenario in _scenarios(summary):
        told = [None if row is None else row.published_s for row in (cells.get((scenario, name)) for name in labels)]
        if any(told):
            rows.append((scenario, *("" if seconds is None else f"{seconds:.1f}" for seconds in told)))
    return _without_empty(rows)


def _wall(row: Row | None) -> str:
    if row is None:
        return ""
    failed = f" ({row.runs - row.ok} failed)" if row.ok < row.runs else ""
    return f"{_spread(row.wall)}{failed}"


def _speedups(summary: Summary, settings: Settings) -> list[Sequence[str]]:
    labels, cells = _labels(summary, settings), _by_cell(summary)
    others = {name: label for name, label in labels.items() if name != summary.baseline}
    rows: list[Sequence[str]] = [("scenario", *others.values())]
    for scenario in _scenarios(summary):
        found = [cells.get((scenario, name)) for name in others]
        if any(row is not None and row.speedup is not None for row in found):
            rows.append((scenario, *(_speedup(row) for row in found)))
    return rows


def _speedup(row: Row | None) -> str:
    if row is None or row.speedup is None:
        return "–"
    return f"{_spread(row.speedup)} ({row.speedup.p50:.1f})"


def _totals(summary: Summary, settings: Settings) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        ("", "runs", "ok", "sent per call", "retries", "copies", "copies won", "errors", "answers match", "speed-up")
    ]
    for name, row in _totals_of(summary, settings):
        rows.append(
            (
                name,
                str(row.runs),
                str(row.ok),
                f"{row.sent_per_call:.2f}",
                _percent(row.retry_rate),
                _percent(row.hedges_per_call),
                _percent(row.hedges_won),
                _percent(row.error_rate),
                _percent(row.answer_match),
                "–" if row.speedup is None else f"{row.speedup.mean:.1f} ×",
            )
        )
    return _turned(rows)


def _calls(summary: Summary, settings: Settings) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("", "calls", "p50 s", "p95 s", "p99 s", f"P(call > {CLAIM_S:g} s)")]
    for name, row in _totals_of(summary, settings):
        if row.per_call is not None:
            one = row.per_call
            over = f"{100 * one.over_claim:.2f} %"
            rows.append((name, f"{one.n:,}", f"{one.p50:.1f}", f"{one.p95:.1f}", f"{one.p99:.1f}", over))
    return rows


def _phases(summary: Summary, settings: Settings) -> list[Sequence[str]]:
    names = ("queued", "limiter", "rate", "backoff", "in_call", "hedge", "first_pass", "retries", "tail")
    rows: list[Sequence[str]] = [("", *(name.replace("_", " ") for name in names))]
    for name, row in _totals_of(summary, settings):
        if row.phases is not None:
            rows.append((name, *(f"{getattr(row.phases, phase):,.1f}" for phase in names)))
    return _turned(rows)


def _totals_of(summary: Summary, settings: Settings) -> Iterable[tuple[str, Row]]:
    labels = _labels(summary, settings)
    return ((labels[row.strategy], row) for row in summary.totals)


def _spread(stats: Stats | None) -> str:
    """Return a mean with half its 95 % interval: ``15.5±0.8``; a dash for none."""
    if stats is None:
        return "–"
    half = "" if stats.ci95 is None else f"±{(stats.ci95[1] - stats.ci95[0]) / 2:.1f}"
    return f"{stats.mean:.1f}{half}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _without_empty(rows: list[Sequence[str]]) -> list[Sequence[str]]:
    """Leave out columns that have nothing below their heading."""
    kept = [n for n in range(len(rows[0])) if any(row[n] for row in rows[1:])]
    return [tuple(row[n] for n in kept) for row in rows]


def _turned(rows: list[Sequence[str]]) -> list[Sequence[str]]:
    """Make rows of columns: there are more figures than strategies. Nothing stays where there is but a heading."""
    return [] if len(rows) < 2 else list(zip(*rows, strict=True))


def _lines(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out: the first column to the left, numbers to the right, in parts that are as wide as a terminal."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    parts: list[list[int]] = [[0]]
    for n in range(1, len(widths)):
        here = sum(widths[m] + len(_GAP) for m in parts[-1]) + widths[n]
        if here > _WIDTH and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(n)
    return "\n\n".join(_part(rows, widths, part) for part in parts)


def _part(rows: Sequence[Sequence[str]], widths: Sequence[int], columns: Sequence[int]) -> str:
    laid = [
        _GAP.join(row[n].ljust(widths[n]) if n == 0 else row[n].rjust(widths[n]) for n in columns).rstrip()
        for row in rows
    ]
    return "\n".join([laid[0], "-" * max(map(len, laid)), *laid[1:]])
