"""A batch's result on a screen: what came of it, what it cost, and what it saved."""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

import msgspec

from loadgen.dispatch.progress import clock
from loadgen.dispatch.rank import percentile
from loadgen.report import figures
from loadgen.report.wrapping import indented, pair
from loadgen.shown import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_REASONS = 3


class Settled(msgspec.Struct, frozen=True):
    """What a summary needs of one call.

    Args:
        ok: Whether it has an answer.
        seconds: From its first attempt's start to its end; None for one that a journal had, or that never started.
        alone_s: What its attempts took but for copies: what it would have taken among no others, at most.
        kind: Of the attempt that settled it: ``first``, ``retry``, ``hedge``, ``probe`` or ``journal``.
        won_s: When that attempt was done, in seconds from the call's start.
        reason: Why it has no answer; empty for one that has.
    """

    ok: bool
    seconds: float | None = None
    alone_s: float = 0.0
    kind: str = "first"
    won_s: float | None = None
    reason: str = ""


class Longest(msgspec.Struct, frozen=True):
    """The call that took longest."""

    name: str
    seconds: float
    kind: str
    won_s: float | None = None


class Failure(msgspec.Struct, frozen=True):
    """Calls that failed for one reason."""

    reason: str
    count: int
    names: list[str]


class BatchSummary(msgspec.Struct, frozen=True):
    """A batch in numbers. Times are seconds.

    Args:
        strategy: Its name.
        calls: Items in all.
        ok: Those with an answer.
        failed: Those without.
        unsettled: Those that were not settled when the batch was stopped.
        restored: Those whose answer a journal had.
        wall_s: How long it took.
        sequential_s: What one call after the other would have taken at most, from what the attempts took, which have
            waited for each other where the service takes few at once; None where nothing was called.
        sent: Attempts made.
        hedges: Copies of slow calls among them.
        hedges_won: Copies that answered first.
        retries: Attempts after one that failed.
        rate_limited: Answers that said "not so fast": 429.
        overloaded: Other push-back: 503, 529, and 500s that were many under load.
        limit: The limit on attempts under way, at the beginning and at the end.
        p50_s: Of the calls that were made and have an answer, nearest rank.
        p95_s: As ``p50_s``.
        p99_s: As ``p50_s``.
        longest: Of all calls that were made.
        failures: By reason, the most frequent first.
    """

    strategy: str
    calls: int
    ok: int
    failed: int
    unsettled: int
    restored: int
    wall_s: float
    sequential_s: float | None
    sent: int
    hedges: int
    hedges_won: int
    retries: int
    rate_limited: int
    overloaded: int
    limit: tuple[int, int] | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    longest: Longest | None
    failures: list[Failure]


class Counts(msgspec.Struct, frozen=True):
    """What the policy counted in a batch; each as in :class:`BatchSummary`."""

    sent: int = 0
    hedges: int = 0
    hedges_won: int = 0
    retries: int = 0
    rate_limited: int = 0
    overloaded: int = 0
    limit: tuple[int, int] | None = None


def summary(
    strategy: str,
    settled: Sequence[Settled | None],
    counts: Counts,
    wall_s: float,
    name: Callable[[int], str],
) -> BatchSummary:
    """Sum a batch up.

    Args:
        strategy: Its name.
        settled: Its calls in order; None for one that was not settled.
        counts: What the policy counted.
        wall_s: How long it took, in seconds.
        name: From a call's index to what a person calls it.
    """
    made = [(index, call) for index, call in enumerate(settled) if call is not None and call.seconds is not None]
    times = sorted(call.seconds or 0.0 for _, call in made if call.ok)
    p50_s, p95_s, p99_s = (percentile(times, percent) if times else None for percent in (50, 95, 99))
    slowest = max(made, key=lambda pair: pair[1].seconds or 0.0, default=None)
    reasons = Counter(call.reason for call in settled if call is not None and not call.ok)
    return BatchSummary(
        strategy=strategy,
        calls=len(settled),
        ok=sum(call is not None and call.ok for call in settled),
        failed=sum(call is not None and not call.ok for call in settled),
        unsettled=sum(call is None for call in settled),
        restored=sum(call is not None and call.kind == "journal" for call in settled),
        wall_s=wall_s,
        sequential_s=math.fsum(call.alone_s for _, call in made) if made else None,
        sent=counts.sent,
        hedges=counts.hedges,
        hedges_won=counts.hedges_won,
        retries=counts.retries,
        rate_limited=counts.rate_limited,
        overloaded=counts.overloaded,
        limit=counts.limit,
        p50_s=p50_s,
        p95_s=p95_s,
        p99_s=p99_s,
        longest=None if slowest is None else _longest(name(slowest[0]), slowest[1]),
        failures=[Failure(reason, count, _names(settled, reason, name)) for reason, count in reasons.most_common()],
    )


def _longest(name: str, call: Settled) -> Longest:
    return Longest(name, call.seconds or 0.0, call.kind if call.ok else "failed", call.won_s)


def _names(settled: Sequence[Settled | None], reason: str, name: Callable[[int], str]) -> list[str]:
    found = (i for i, call in enumerate(settled) if call is not None and not call.ok and call.reason == reason)
    return [name(index) for index, _ in zip(found, range(_REASONS), strict=False)]


def show(batch: BatchSummary, out: TextIO | None = None, width: int | None = None) -> None:
    """Print a batch's summary.

    Args:
        batch: The summary.
        out: Where to; standard output if None.
        width: Columns; the terminal's if None, and 100 without one.
    """
    from rich.console import Console

    out = out if out is not None else sys.stdout
    fixed = width if width is not None else None if out.isatty() or os.environ.get("COLUMNS") else 100
    console = Console(file=out, width=fixed, highlight=False, markup=False, emoji=False, soft_wrap=False)
    for line in lines(batch, console):
        console.print(line, overflow="crop", no_wrap=True, crop=True)


def lines(batch: BatchSummary, console: Console) -> Iterator[Text]:
    """Yield a summary's lines, each at most as wide as the console."""
    from rich.text import Text

    width = max(40, console.width) - 1
    yield Text()
    title = f"{figures.many(batch.calls, 'call')} · {batch.strategy} · {clock(batch.wall_s)}"
    yield from pair(title, _sequential(batch), width, "bold", console)
    yield from _listed(_outcome(batch), width, console)
    if batch.p50_s is not None:
        yield from pair(_times(batch), _slowest(batch), width, "", console)
    for failure in batch.failures[:_REASONS]:
        names = ", ".join(failure.names) + (", …" if failure.count > len(failure.names) else "")
        text = f"{failure.count:,} failed    {failure.reason}: {names}"
        yield from indented(plain(text), width, "red", console)
    left = sum(failure.count for failure in batch.failures[_REASONS:])
    if left:
        yield Text(f" {left:,} more failed for {len(batch.failures) - _REASONS:,} other reasons", style="red")
    yield Text()


def _sequential(batch: BatchSummary) -> str:
    if batch.sequential_s is None or batch.wall_s <= 0:
        return ""
    times = batch.sequential_s / batch.wall_s
    if times < 1.05:
        return ""  # it was as good as sequential
    return f"sequential would have taken up to {clock(batch.sequential_s)} ({figures.short(times)} ×)"


def _outcome(batch: BatchSummary) -> list[str]:
    each = f" ({batch.sent / made:.2f} a call)" if (made := batch.calls - batch.restored - batch.unsettled) else ""
    won = f", {batch.hedges_won:,} won" if batch.hedges else ""
    parts = [
        f"{batch.ok:,} ok",
        f"{batch.failed:,} failed" if batch.failed else "",
        f"{batch.unsettled:,} not done" if batch.unsettled else "",
        f"{batch.restored:,} from the journal" if batch.restored else "",
        f"{batch.sent:,} sent{each}: {figures.many(batch.hedges, 'hedge')}{won}",
        figures.many(batch.retries, "retry", "retries"),
        f"{batch.rate_limited:,} rate-limited",
        f"{batch.overloaded:,} overloaded" if batch.overloaded else "",
        f"limit {batch.limit[0]:,} → {batch.limit[1]:,}" if batch.limit is not None else "",
    ]
    return [part for part in parts if part]


def _times(batch: BatchSummary) -> str:
    named = (("p50", batch.p50_s), ("p95", batch.p95_s), ("p99", batch.p99_s))
    return "per call    " + "   ".join(f"{name} {_time(value or 0.0)}" for name, value in named)


def _slowest(batch: BatchSummary) -> str:
    if batch.longest is None:
        return ""
    found = batch.longest
    how = ""
    if found.kind == "failed":
        how = " (failed)"
    elif found.kind in ("hedge", "retry") and found.won_s is not None:
        how = f" ({found.kind} won at {_time(found.won_s).removesuffix(' s')})"
    return f"longest: {plain(found.name)}, {_time(found.seconds)}{how}"


def _time(seconds: float) -> str:
    return clock(seconds) if seconds >= 0.9995 else figures.time_ms(seconds * 1e3)


def _listed(parts: Sequence[str], width: int, console: Console) -> Iterator[Text]:
    """Put parts on lines, each whole on one if a line can hold it."""
    line = ""
    for left, part in zip(range(len(parts) - 1, -1, -1), parts, strict=True):
        longer = f"{line} · {part}" if line else part
        if line and len(longer) + (len(" ·") if left else 0) > width - 1:
            yield from indented(f"{line} ·", width, "", console)
            longer = part
        line = longer
    yield from indented(line, width, "", console)
