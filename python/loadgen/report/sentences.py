"""What a report says in words: alarms, counts, failures, prompts, tokens, trust, and where its files lie."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from loadgen.config.options import EMBEDDING
from loadgen.report import failed, figures
from loadgen.report.table import is_open_loop
from loadgen.report.title import measured, options_of
from loadgen.shown import plain

if TYPE_CHECKING:
    from loadgen.session import PhaseResult, SessionResult

_RAMP = 0.02
_STEADY_REQUESTS = 30
_ORDER = ("ttfb", "ttft", "ttfo", "tpot", "ntpot", "latency")  # the log keeps no order of its own
_ON_TIME_US = 0.05
_WHY = {
    "killed": "the process ended before the run did",
    "still running": "the run is still going",
    "SIGINT": "stopped by Ctrl-C (SIGINT)",
    "SIGTERM": "stopped by SIGTERM",
    "SIGHUP": "stopped by SIGHUP, as a closed terminal sends it",
}
_SOURCES = {
    "usage": "server's usage",
    "tokenizer": "counted by the tokenizer",
    "chunks": "counted by chunks, as the server tells no usage: a chunk may hold several",
}


class Sentence(msgspec.Struct, frozen=True):
    """One labelled line of a report."""

    label: str
    text: str
    style: str = ""


def alarms(result: SessionResult) -> list[str]:
    """Return what must be read before any number."""
    judged = measured(result) or result.phases  # a warm-up's numbers stand nowhere: no alarm is needed for them
    several = len(judged) > 1
    limited = [phase for phase in judged if phase.trust.verdict == "client_limited" and phase.counts.ok]
    limited = [phase for phase in limited if phase.type != "accuracy"]  # a late request is as right as any
    found = [
        f"CLIENT-LIMITED{f' ({plain(phase.name)})' if several else ''}: "
        f"{_told([*phase.trust.reasons, _suggestion(phase)])}"
        for phase in limited
    ]
    if result.status != "complete":
        reason = result.reason or "no reason is known"
        found.append(f"{result.status.upper()}: {_WHY.get(reason, plain(reason))}.{_missing(result)}")
    return found


def _suggestion(phase: PhaseResult) -> str | None:
    """Return what to try as a sentence: some suggestions are no more than an option."""
    found = phase.trust.suggestion
    return f"try {found}" if found and found.startswith(("--", "more --")) else found


def _missing(result: SessionResult) -> str:
    in_flight = sum(phase.counts.in_flight for phase in result.phases)
    cancelled = sum(phase.counts.cancelled for phase in result.phases)
    parts = [f"{figures.many(in_flight, 'request')} in flight left no record"] if in_flight else []
    parts += (
        [f"{figures.many(cancelled, 'request')} in flight {'was' if cancelled == 1 else 'were'} cancelled"]
        if cancelled
        else []
    )
    told = f" What completed is reported; {' and '.join(parts)}." if parts else ""
    begun = {phase.name for phase in result.phases}
    left = [
        str(phase["name"]) for phase in result.report["run"]["config"].get("phases", ()) if phase["name"] not in begun
    ]
    return told + (f" Not begun: {plain(', '.join(left))}." if left else "")


def counts(phase: PhaseResult) -> str:
    """Return what became of the requests."""
    found = phase.counts
    shown = [(found.ok, "ok"), (found.failed, "failed"), (found.cancelled, "cancelled")]
    shown += [(found.in_flight, "in flight")] if found.in_flight else []
    return "   ".join(f"{figures.whole(count)} {word}" for count, word in shown)


def goodput(phase: PhaseResult) -> str:
    """Return the goodput and its objectives, in the table's order; empty without objectives."""
    if math.isnan(phase.goodput):
        return ""
    about = phase.report["goodput"]
    slo = sorted((about.get("slo") or {}).items(), key=lambda item: _ORDER.index(item[0]) if item[0] in _ORDER else -1)
    limits = ", ".join(f"{name} ≤ {figures.time_ms(limit)}" for name, limit in slo)
    origin = " from sent" if about.get("from") == "sent" and is_open_loop(phase) else ""
    share = f"{figures.share(about.get('share'))} of all within {limits}{origin}" if limits else ""
    return f"goodput {figures.short(phase.goodput)} req/s" + (f" ({share})" if share else "")


def about_phase(result: SessionResult, phase: PhaseResult) -> list[Sentence]:
    """Return the lines below a phase's table."""
    found = [Sentence("throughput", throughput(phase))]
    found += [Sentence(label, text) for label, text in _dispatch(phase)]
    found += [Sentence("streams", text, "yellow") for text in (_whole(result, phase),) if text]
    found += [Sentence("tokens", text) for text in (tokens(phase),) if text]
    found += failures(result, phase)
    found += [Sentence("prompts", text) for text in _prompts(result, phase)]
    found.append(Sentence("trust", _trust(phase), "" if phase.trust.verdict == "ok" else "yellow"))
    return found


def about_run(result: SessionResult) -> list[Sentence]:
    """Return where the run's files lie, and how to see the report again."""
    log = result.report["run"]["log"]
    if log is None:
        return _from_snapshot(result.report["run"]["snapshot"])
    names = ["report.json", f"run.log {figures.size(log['bytes'])}"]
    names += ["events.log"] if result.report["run"]["config"].get("events") else []
    files = f"{plain(str(result.dir))}/ ({' · '.join(names)})"
    found = [*_warmups(result), Sentence("report", files), Sentence("again", f"loadgen report {_again(result)}")]
    lost = log["lost"]
    if lost["blocks"] or lost["rows"]:
        places = f"{figures.many(lost['blocks'], 'place')} of the run log can't be read; " if lost["blocks"] else ""
        rows = f"{figures.many(lost['rows'], 'finished request')} {'is' if lost['rows'] == 1 else 'are'} missing"
        found.append(Sentence("lost", f"{places}{rows}", "yellow"))
    return found + _events(result.report["run"].get("events"))


def _warmups(result: SessionResult) -> list[Sentence]:
    """Return what failed in phases that have no report of their own: what follows them may have met a cold server."""
    found = []
    for phase in result.phases:
        if phase.type == "warmup" and phase.counts.failed:
            asked = options_of(result, phase)
            kinds = [failed.line(detail, asked) for detail in phase.report["failure_details"]]
            more = f"; {figures.many(len(kinds) - 1, 'other kind')}: see report.json" if kinds[1:] else ""
            told = f": {kinds[0]}{more}" if kinds else ""
            requests = f"{figures.whole(phase.counts.failed)} of {figures.many(phase.counts.issued, 'request')}"
            found.append(Sentence("warm-up", f"{requests} failed in phase {plain(phase.name)}{told}", "yellow"))
    return found


def _from_snapshot(snapshot: dict[str, Any]) -> list[Sentence]:
    """Return what a report without a run log is made from, and what it may lack."""
    found = [Sentence("source", f"{snapshot['words']}; {snapshot['precision']}")]
    return found + [Sentence("warning", plain(warning), "yellow") for warning in snapshot["warnings"]]


def _events(events: dict[str, Any] | None) -> list[Sentence]:
    """Return what the event log misses, and what found no room on its way to a publisher."""
    if not events:
        return []
    missing, dropped, found = events["missing"], events["dropped"], []
    if missing:
        why = f" ({plain(events['error'])})" if events["error"] else ""
        found.append(
            Sentence("lost", f"{figures.many(missing, 'event')} of events.log could not be kept{why}", "yellow")
        )
    if dropped:
        found.append(
            Sentence("lost", f"{figures.many(dropped, 'event')} not published: the publisher was too slow", "yellow")
        )
    return found


def _again(result: SessionResult) -> str:
    return result.id if result.dir.parent.name == "loadgen-runs" else plain(str(result.dir))


def throughput(phase: PhaseResult) -> str:
    """Return what got through per second."""
    found = phase.throughput
    parts = [f"{figures.short(found.requests_per_s)} req/s"]
    parts += (
        [f"{figures.whole(found.output_tokens_per_s)} output tok/s"] if found.output_tokens_per_s is not None else []
    )
    parts += [f"{figures.whole(found.total_tokens_per_s)} total tok/s"] if found.total_tokens_per_s is not None else []
    if found.steady is not None and found.requests_per_s and _is_telling(found.steady, phase.duration_s):
        # Only where ramp and drain changed the mean is the steady value another message.
        rate = found.steady["requests_per_s"]
        if abs(rate / found.requests_per_s - 1) > _RAMP:
            span = f"from {figures.clock(found.steady['from_s'])} to {figures.clock(found.steady['to_s'])}"
            parts.append(f"{figures.short(rate)} req/s in steady state ({span})")
    return " · ".join(parts)


def _dispatch(phase: PhaseResult) -> list[tuple[str, str]]:
    """Return what a policy made of the requests: how many attempts, how many at once; nothing where none decided."""
    found = phase.report.get("dispatch")
    if not found:
        return []
    hedges = f", {figures.whole(found['hedges_won'])} of them won" if found["hedges"] else ""
    parts = [
        figures.many(found["attempts"], "attempt"),
        f"{figures.whole(found['retries'])} of them again",
        f"{figures.many(found['hedges'], 'hedge')}{hedges}",
    ]
    parts += [f"{figures.many(found['push_backs'], 'push-back')}"] if found["push_backs"] else []
    least, most = found["limit_least"], found["limit_most"]
    limit = f"{figures.whole(found['limit'])} at once at the end"
    limit += f", {figures.whole(least)} to {figures.whole(most)} meanwhile" if least != most else ""
    return [("attempts", " · ".join(parts)), ("limit", limit)]


def _is_telling(steady: dict[str, Any], duration_s: float) -> bool:
    """Return whether a steady window holds enough of its phase to be worth a word."""
    window_s = steady["to_s"] - steady["from_s"]
    return bool(steady["requests_per_s"] * window_s >= _STEADY_REQUESTS and window_s >= duration_s / 2)


def tokens(phase: PhaseResult) -> str:
    """Return how many tokens there were, and who counted them; empty where nobody did."""
    found = phase.tokens
    if not found.get("source") or found.get("output") is None:
        # Vectors have no tokens of their own, and the prompts have.
        return "" if found.get("input") is None else f"{figures.whole(found['input'])} in ({_SOURCES['usage']})"
    parts = [f"{figures.whole(found['input'])} in"] if found.get("input") is not None else []
    parts.append(f"{figures.whole(found['output'])} out")
    source = _SOURCES.get(found["source"], plain(str(found["source"])))
    if phase.report.get("usage_refused"):
        source += "; it refused to tell usage in a stream"
    without = found.get("rows_without_usage") or 0
    held = found.get("tokens_per_chunk")
    more = f"; {held:.2f} a chunk" if held is not None else ""
    more += f"; {figures.many(without, 'answer')} without a count" if without else ""
    return f"{', '.join(parts)} ({source}{more})"


def _whole(result: SessionResult, phase: PhaseResult) -> str:
    """Return how many answers came whole where streams were asked for; empty where none did."""
    asked = options_of(result, phase)
    if not asked.get("stream") or asked.get("api") in EMBEDDING:
        return ""
    answers, streamed = (getattr(phase, name).count for name in ("latency", "ttft"))
    if streamed >= answers:
        return ""
    came = f"{figures.whole(answers - streamed)} of {figures.many(answers, 'answer')} came whole"
    return f"{came}, though streams were asked for: they have no TTFT and no TPOT, and meet no objective for these"


def failures(result: SessionResult, phase: PhaseResult) -> list[Sentence]:
    """Return what failed, a line for each kind."""
    lines = failed.lines(phase.report["failure_details"], options_of(result, phase))
    return [Sentence("failures" if index == 0 else "", text) for index, text in enumerate(lines)]


def _prompts(result: SessionResult, phase: PhaseResult) -> list[str]:
    found = []
    known = phase.counts.issued - phase.counts.in_flight
    distinct = phase.report["distinct_samples"]
    if distinct is None:  # too many to tell apart: then at least as many as the dataset has
        distinct = min(known, phase.dataset.samples if phase.dataset is not None else known)
    unique = options_of(result, phase).get("unique_prompts")
    if distinct < known and not unique:
        seen = figures.share((known - distinct) / known)
        found.append(
            f"{figures.many(distinct, 'distinct prompt')} for {figures.whole(known)} requests: {seen} were seen "
            "before by the server's prefix cache (--unique-prompts prevents it)"
        )
    before = [] if unique else [plain(other.name) for other in _same_prompts_before(result, phase)]
    if before:
        phases = f"phase{'s' if before[1:] else ''} {', '.join(before)}"
        found.append(f"the server's prefix cache may have seen them in {phases} (--unique-prompts prevents it)")
    if phase.dataset is not None and phase.dataset.note:
        found.append(plain(phase.dataset.note))
    return found


def _same_prompts_before(result: SessionResult, phase: PhaseResult) -> list[PhaseResult]:
    """Return the measured phases before this one that sent prompts of the same dataset."""
    found = []
    for other in measured(result):
        if other is phase:
            break
        if phase.dataset is not None and other.dataset is not None and other.dataset.sha256 == phase.dataset.sha256:
            found.append(other)
    return found


def _trust(phase: PhaseResult) -> str:
    trust = phase.trust
    facts = [_lateness(trust.send_lateness_us)] if trust.send_lateness_us else []
    if trust.cpu_share is not None:
        facts.append(f"{figures.share(trust.cpu_share)} of a core")
    if trust.throttled is not None or trust.steal is not None:
        facts.append(_disturbed(trust.throttled, trust.steal))
    verdict = {"ok": "ok", "client_limited": "CLIENT-LIMITED", "unknown": "unknown"}[trust.verdict]
    # What limited the client stands above the whole report already.
    reasons = [*trust.reasons, _suggestion(phase)] if trust.verdict != "client_limited" else []
    return _told([verdict, ", ".join(facts), *reasons, *trust.notes], first_as_it_is=True)


def _lateness(late: dict[str, float]) -> str:
    if late["p99"] < _ON_TIME_US:
        return "sent on time"
    return f"sent {figures.time_ms(late['p50'] / 1e3)} late (p50; p99 {figures.time_ms(late['p99'] / 1e3)})"


def _disturbed(throttled: float | None, steal: float | None) -> str:
    parts = [f"{figures.share(throttled)} of the time throttled"] if throttled else []
    parts += [f"{figures.share(steal)} of a core taken by other machines"] if steal else []
    return " and ".join(parts) if parts else "no throttling"


def _told(sentences: list[str | None], *, first_as_it_is: bool = False) -> str:
    """Join sentences: a capital in front (but perhaps for the first), a full stop behind."""
    told: list[str] = []
    for sentence in sentences:
        if sentence:
            text = plain(sentence)
            text = text if first_as_it_is and not told else text[:1].upper() + text[1:]
            told.append(text if text.endswith((".", "!", "?")) else f"{text}.")
    return " ".join(told)
