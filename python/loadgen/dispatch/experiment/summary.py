"""The experiment summed up: walls, speed-ups paired by run, what was sent, and whether the answers are the same."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from loadgen.dispatch.experiment import student
from loadgen.dispatch.experiment.record import Phases, Record
from loadgen.dispatch.experiment.settings import Settings
from loadgen.dispatch.rank import percentile

CLAIM_S = 16.0
"""What was claimed to bound the 95th percentile with hedging, in seconds: two hedge delays of 8 s."""


class Stats(msgspec.Struct, frozen=True):
    """One quantity over runs.

    Args:
        n: How many values there are.
        mean: Their mean.
        sd: Their standard deviation, with n - 1; ``None`` for a single value.
        min: The least.
        max: The largest.
        p50: The median, by nearest rank like the other percentiles.
        p95: 95 % are at or below it.
        p99: 99 % are at or below it.
        cv: Standard deviation over mean.
        ci95: The mean's 95 % interval by Student's t; ``None`` for a single value.
    """

    n: int
    mean: float
    sd: float | None
    min: float
    max: float
    p50: float
    p95: float
    p99: float
    cv: float | None
    ci95: tuple[float, float] | None


class PerCall(msgspec.Struct, frozen=True):
    """The calls of all runs together, in seconds of the service.

    Args:
        n: How many there are.
        p50: Their median.
        p95: 95 % took no longer.
        p99: 99 % took no longer.
        over_claim: Share that took longer than ``CLAIM_S``.
    """

    n: int
    p50: float
    p95: float
    p99: float
    over_claim: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy, in one scenario or in all.

    Args:
        scenario: The scenario's id; ``None`` for all together.
        strategy: The strategy's name.
        runs: Runs made.
        ok: Runs in which every cell got a real answer. Only these count below, but for the rates.
        wall: Wall seconds of the service.
        calls: Calls a run.
        speedup: How many times shorter than the baseline's wall in the same run of the same scenario.
        sent_per_call: Requests sent for a call.
        retry_rate: Retries for a call.
        hedges_per_call: Copies sent for a call.
        hedges_won: Share of the copies that brought the answer.
        error_rate: Share of the calls that failed.
        answer_match: Share of the answers that are the baseline's, of the same cell in the same run; ``None`` where
            there is nothing to compare.
        per_call: The single calls.
        phases: Where the time went, mean of the runs, seconds of the service.
        published_s: Mean wall seconds as published.
    """

    scenario: str | None
    strategy: str
    runs: int
    ok: int
    wall: Stats | None
    calls: Stats | None
    speedup: Stats | None
    sent_per_call: float
    retry_rate: float
    hedges_per_call: float
    hedges_won: float | None
    error_rate: float
    answer_match: float | None
    per_call: PerCall | None
    phases: Phases | None
    published_s: float | None


class Summary(msgspec.Struct, frozen=True):
    """All of it.

    Args:
        callee: What was called.
        baseline: The strategy that the others are compared with.
        rows: A row for each scenario and strategy that has runs, in the settings' order.
        totals: A row for each strategy, over all scenarios.
        problems: What keeps it from being believed, a sentence each; empty if nothing does.
    """

    callee: str
    baseline: str
    rows: tuple[Row, ...]
    totals: tuple[Row, ...]
    problems: tuple[str, ...]


def stats(values: Sequence[float]) -> Stats | None:
    """Return the statistics of some values; ``None`` for none."""
    if not values:
        return None
    ordered = sorted(values)
    n, mean = len(values), statistics.fmean(values)
    sd = statistics.stdev(values) if n > 1 else None
    half = None if sd is None else student.quantile(0.975, n - 1) * sd / math.sqrt(n)
    return Stats(
        n=n,
        mean=mean,
        sd=sd,
        min=ordered[0],
        max=ordered[-1],
        p50=percentile(ordered, 50),
        p95=percentile(ordered, 95),
        p99=percentile(ordered, 99),
        cv=None if sd is None or mean == 0 else sd / mean,
        ci95=None if half is None else (mean - half, mean + half),
    )


def summarise(records: Iterable[Record], settings: Settings, *, callee: str, exact: bool = True) -> Summary:
    """Sum up an experiment's records.

    Args:
        records: At most one of each cell.
        settings: The order of scenarios and strategies, the baseline, and what was published.
        callee: What was called.
        exact: Whether its answers must be the same each time.
    """
    by_cell = {record.cell: record for record in records}
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in by_cell.values():
        groups[record.scenario, record.strategy].append(record)
    baseline = {(r.run, r.scenario): r for r in by_cell.values() if r.strategy == settings.baseline}
    rows = tuple(
        _row(groups[scenario.id, strategy.name], baseline, scenario.id, strategy.name, settings.published)
        for scenario in settings.scenarios
        for strategy in settings.strategies
        if (scenario.id, strategy.name) in groups
    )
    totals = tuple(
        _row(found, baseline, None, strategy.name, {})
        for strategy in settings.strategies
        if (found := [record for record in by_cell.values() if record.strategy == strategy.name])
    )
    return Summary(callee, settings.baseline, rows, totals, tuple(_problems(totals, settings.baseline, exact=exact)))


def _row(
    records: Sequence[Record],
    baseline: Mapping[tuple[int, str], Record],
    scenario: str | None,
    strategy: str,
    published: Mapping[str, Mapping[str, float]],
) -> Row:
    good = [record for record in records if record.ok]
    pairs = [(record, found) for record in good if (found := baseline.get((record.run, record.scenario))) is not None]
    calls = sum(record.calls for record in records)
    hedges, won = sum(record.hedges.sent for record in records), sum(record.hedges.won for record in records)
    return Row(
        scenario=scenario,
        strategy=strategy,
        runs=len(records),
        ok=len(good),
        wall=stats([record.wall_s / record.time_scale for record in good]),
        calls=stats([float(record.calls) for record in good]),
        speedup=stats([found.wall_s / record.wall_s for record, found in pairs if found.ok and record.wall_s > 0]),
        sent_per_call=sum(record.sent for record in records) / calls,
        retry_rate=sum(record.attempts.get("retry", 0) for record in records) / calls,
        hedges_per_call=hedges / calls,
        hedges_won=won / hedges if hedges else None,
        error_rate=sum(sum(record.errors.values()) for record in records) / calls,
        answer_match=_match(pairs),
        per_call=_per_call(good),
        phases=_phases(good),
        published_s=published.get(scenario or "", {}).get(strategy),
    )


def _match(pairs: Iterable[tuple[Record, Record]]) -> float | None:
    """Return the share of equal answers, cell by cell; rows and columns that differ make answers that do."""
    same = every = 0
    for record, found in pairs:
        if record.answers is None or found.answers is None:
            continue
        if (record.rows, record.cols) != (found.rows, found.cols):
            every += record.calls
            continue
        # What the baseline has no answer to tells nothing of the others, and is a problem of its own.
        both = [pair for pair in zip(record.answers, found.answers, strict=True) if pair[1] is not None]
        every += len(both)
        same += sum(ours == theirs for ours, theirs in both)
    return same / every if every else None


def _per_call(records: Iterable[Record]) -> PerCall | None:
    seconds = sorted(one / record.time_scale for record in records for one in record.call_s if one is not None)
    if not seconds:
        return None
    over = sum(one > CLAIM_S for one in seconds) / len(seconds)
    p50, p95, p99 = (percentile(seconds, percent) for percent in (50, 95, 99))
    return PerCall(len(seconds), p50, p95, p99, over)


def _phases(records: Sequence[Record]) -> Phases | None:
    if not records:
        return None
    names = Phases.__struct_fields__
    return Phases(
        *(statistics.fmean(getattr(record.phases, name) / record.time_scale for record in records) for name in names)
    )


def _problems(totals: Iterable[Row], baseline: str, *, exact: bool) -> Iterable[str]:
    for row in totals:
        if row.ok < row.runs:
            yield f"{row.strategy}: {row.runs - row.ok} of {row.runs} runs have a cell without a real answer"
        if exact and row.answer_match is not None and row.answer_match < 1:
            share = f"{100 * (1 - row.answer_match):.2g} %"
            yield f"{row.strategy}: {share} of the answers are not those of {baseline}: a fast wrong answer doesn't win"
