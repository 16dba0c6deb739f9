"""The screen of a run: what is asked first stands first; what doesn't fit is left out, the least important first."""

from __future__ import annotations

from typing import NamedTuple

from loadgen.metrics.snapshot import SessionState
from loadgen.report import figures
from loadgen.shown import bar
from loadgen.tui import table
from loadgen.tui.line import Line, curve, cut, ends, fitted, time, width
from loadgen.tui.look import Look, percentile


class _Part(NamedTuple):
    """Lines that are shown or left out together; those of the highest rank are left out first."""

    rank: int
    lines: list[Line]


def lines(look: Look, columns: int, rows: int | None = None, *, foot: str = "", note: str = "") -> list[Line]:
    """Return a screen: no line is wider than the terminal less one, and there are at most ``rows`` of them.

    Args:
        look: What is seen of the run.
        columns: Columns of the terminal.
        rows: Its rows; ``None`` for as many as it takes.
        foot: What the last line says of the keys.
        note: A sentence for the user.
    """
    room = max(1, columns - 1)
    parts = [
        _Part(0, _alarms(look, note)),
        _Part(1, _head(look, room)),
        _Part(0, _counts(look, room)),
        _Part(2, table.times(look, room)),
        _Part(6, _by_second(look, room)),
        _Part(5, table.spreads(look, room)),
        _Part(3, _facts(look, room)),
        _Part(4, table.nodes(look, room, rows)),
        _Part(4, table.phases(look, room, rows)),
    ]
    below: Line = [(f" {foot}", "dim")]
    made = _stacked(parts, rows - 2 if foot and rows is not None else rows)
    if foot:
        blank = 1 if rows is None else max(0, rows - len(made) - 1)
        made += [*([[]] * blank), below]
    return [cut(line, room) for line in (made if rows is None else made[:rows])]


def _stacked(parts: list[_Part], rows: int | None) -> list[Line]:
    """Put parts one below the other, a blank line between two where there is room for it."""
    kept = [part for part in parts if part.lines]
    while rows is not None and sum(len(part.lines) for part in kept) > rows and len(kept) > 1:
        kept.remove(max(kept, key=lambda part: part.rank))
    spare = None if rows is None else rows - sum(len(part.lines) for part in kept)
    made: list[Line] = []
    for number, part in enumerate(kept):
        if number and (spare is None or spare > 0):
            made.append([])
            spare = None if spare is None else spare - 1
        made += part.lines
    return made


def _alarms(look: Look, note: str) -> list[Line]:
    found: list[Line] = []
    if look.is_over:
        # On a line of its own: a directory may be long, and is to be copied.
        found += [_ending(look), [(f"   loadgen report {look.about.directory or look.run}", "bold")]]
    for number, limit in enumerate(look.limits):
        found.append([(" CLIENT-LIMITED: " if number == 0 else " " * 17, "alarm"), (limit, "")])
    if note:
        found.append([(f" {note}", "bold")])
    return found


def _ending(look: Look) -> Line:
    if look.was_killed:
        return [(" the writer is gone: ", "alarm"), ("killed. The log has what ended:", "")]
    if look.state is SessionState.INTERRUPTED:
        return [(" the run was interrupted. ", "alarm"), ("The exact numbers:", "")]
    return [(" the run has ended. ", "good"), ("The exact numbers:", "")]


def _head(look: Look, room: int) -> list[Line]:
    told = look.about
    run: Line = [(f"run {look.run}", "dim")] if look.run else []
    names: Line = [(told.model or told.target or "a run", "bold")]
    if told.model and told.target:
        names.append((f" · {told.target}", ""))
    made = [ends([(" ", ""), *names], run, room)]
    if look.current is None:
        return [*made, [(" no phase has begun", "dim")]]
    return [*made, _phase_line(look, room), *_progress(look, room)]


def _phase_line(look: Look, room: int) -> Line:
    current = look.current
    assert current is not None
    parts: list[tuple[int, Line]] = [(0, [(current.about.name, "bold")])]
    if look.about.of > 1:
        parts.append((1, [(f"phase {current.number + 1} of {look.about.of}", "")]))
    if current.about.load:
        parts.append((2, [(current.about.load, "")]))
    far: Line = [(_so_far(look), "")]
    if look.state is SessionState.DRAINING:
        far = [("draining   ", "bold"), *far]
    return ends([(" ", ""), *fitted(parts, room - width(far) - 4, " · ")], far, room)


def _so_far(look: Look) -> str:
    current, elapsed = look.current, look.elapsed_s
    assert current is not None
    so_far = "–" if elapsed is None else figures.so_far(elapsed)
    if current.about.requests is not None:
        return f"{figures.whole(current.issued)} / {figures.whole(current.about.requests)} requests   {so_far}"
    return f"{so_far} / {figures.clock(current.about.seconds)}" if current.about.seconds else so_far


def _progress(look: Look, room: int) -> list[Line]:
    current = look.current
    assert current is not None
    done = current.ok + current.failed + current.cancelled
    shares = [done / current.about.requests] if current.about.requests else []
    if current.about.seconds and look.elapsed_s is not None:
        shares.append(look.elapsed_s / current.about.seconds)
    return [[(" " + bar(max(shares), room - 1), "")]] if shares else []


def _counts(look: Look, room: int) -> list[Line]:
    current = look.current
    if current is None:
        return []
    parts: list[tuple[int, Line]] = [
        (0, [(figures.short(look.pace.requests_per_s), "bold"), (" req/s", "")]),
        (1, [("in flight ", ""), (figures.whole(current.in_flight), "bold")]),
        (1, [("ok ", ""), (figures.whole(current.ok), "bold")]),
        (1, [("failed ", "alarm" if current.failed else ""), (figures.whole(current.failed), "bold")]),
    ]
    if current.cancelled:
        parts.append((2, [("cancelled ", ""), (figures.whole(current.cancelled), "bold")]))
    if look.pace.tokens_per_s:
        parts.append((3, [("out ", ""), (figures.short(look.pace.tokens_per_s), "bold"), (" tok/s", "")]))
    if current.counts.get("reconnects"):
        parts.append((4, [("reconnects ", ""), (figures.whole(current.counts["reconnects"]), "")]))
    return [[(" ", ""), *fitted(parts, room - 1)]]


def _by_second(look: Look, room: int) -> list[Line]:
    if len(look.done) < 3:
        return []
    # What the scale's words may take, so that the curve doesn't change its length with them.
    wide = room - table.LABEL - 24
    if wide < 10:
        return []
    drawn = curve(look.done, wide)
    low, high = min(look.done[-wide:]), max(look.done[-wide:])
    scale = f"{figures.short(low)} to {figures.short(high)} req/s"
    return [[(f" {'by second':<{table.LABEL}}", "dim"), (drawn, "key"), (f"  {scale}", "dim")]]


def _facts(look: Look, room: int) -> list[Line]:
    made: list[Line] = []
    current = look.current
    if current is not None and current.failures:
        shown = [(at, [(f"{name} {figures.whole(count)}", "")]) for at, (name, count) in enumerate(current.failures)]
        made.append([(f" {'failures':<{table.LABEL}}", "dim"), *fitted(shown, room - table.LABEL - 1)])
    made.append([(f" {'trust':<{table.LABEL}}", "dim"), *_trust(look, room - table.LABEL - 1)])
    if look.dropped is not None:
        style = "alarm" if look.dropped else ""
        said = f"{figures.whole(look.dropped)} dropped" if look.dropped else "none dropped"
        made.append([(f" {'events':<{table.LABEL}}", "dim"), (said, style)])
    return made


def _trust(look: Look, room: int) -> Line:
    late = look.current.values("send_late") if look.current is not None else None
    if late is None:
        return [("unknown: nothing was sent yet", "")]
    verdict = ("client-limited", "alarm") if look.limits else ("ok" if look.is_over else "ok so far", "good")
    parts: list[tuple[int, Line]] = [(0, [verdict])]
    parts.append((1, [(f"sent {time(percentile(late, 50))} late, p99 {time(percentile(late, 99))}", "")]))
    if look.cpu_share is not None:
        many = f" of {look.about.workers} cores" if look.about.workers > 1 else " of a core"
        parts.append((2, [(f"CPU {_percent(look.cpu_share)}{many}", "")]))
    if look.away_share is not None:
        parts.append((3, [(f"loop away {_percent(look.away_share)}", "")]))
    return fitted(parts, room, " · ")


def _percent(share: float) -> str:
    """Return a share as a glance takes it: whole per cent, or that it is less than one."""
    return "0 %" if share <= 0 else "< 1 %" if share < 0.01 else f"{share * 100:.0f} %"
