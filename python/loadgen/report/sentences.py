"""What a report says in words: the title, counts, failures, prompts, tokens, trust, and where its files lie."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from loadgen.report import figures
from loadgen.report.table import is_open_loop

if TYPE_CHECKING:
    from loadgen.session import PhaseResult, SessionResult

_CLASSES = {
    "connect": "no connection",
    "tls": "no secure connection",
    "timeout": "timed out",
    "stall": "stalled",
    "protocol": "broke the protocol",
    "body": "broken answer",
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


def plain(text: str) -> str:
    """Return text of somebody else's with everything escaped that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def title(result: SessionResult) -> str:
    """Return what was run, in one line."""
    config = result.report["run"]["config"]
    parts = [plain(str(result.report["run"].get("model") or config["url"]))]
    parts.append(f"{config['api']}, {'streamed' if config['stream'] else 'not streamed'}")
    phases = [phase for phase in result.phases if phase.type != "warmup"]
    if len(phases) == 1:
        parts += [load(phases[0]), figures.clock(phases[0].duration_s) if not math.isnan(phases[0].duration_s) else ""]
    if phases and phases[0].dataset:
        dataset = phases[0].dataset
        parts.append(f"{plain(dataset['name'])} ({_many(dataset['samples'], 'prompt')})")
    return " · ".join(part for part in parts if part)


def run_name(result: SessionResult) -> str:
    """Return the run's moment and id."""
    return f"{result.report['run']['started_at'][:19]}Z-{result.id}"


def load(phase: PhaseResult) -> str:
    """Return a phase's load in words."""
    words = str(phase.load.get("words") or "")
    cap = phase.load.get("max_concurrency")
    return f"{words}, {cap:,} in flight at most" if cap else words


def alarms(result: SessionResult) -> list[str]:
    """Return what must be read before any number."""
    found = []
    if result.status != "complete":
        found.append(f"{result.status.upper()}: {plain(result.reason or 'no reason is known')}.{_missing(result)}")
    limited = [phase for phase in result.phases if phase.trust.verdict == "client_limited"]
    return found + [f"CLIENT-LIMITED: {_reasons(phase)}" for phase in limited]


def _missing(result: SessionResult) -> str:
    in_flight = sum(phase.counts.in_flight for phase in result.phases)
    cancelled = sum(phase.counts.cancelled for phase in result.phases)
    parts = [f"{_many(in_flight, 'request')} in flight left no record"] if in_flight else []
    parts += (
        [f"{_many(cancelled, 'request')} in flight {'was' if cancelled == 1 else 'were'} cancelled"]
        if cancelled
        else []
    )
    return f" What completed is reported; {' and '.join(parts)}." if parts else ""


def counts(phase: PhaseResult) -> str:
    """Return what became of the requests."""
    found = phase.counts
    shown = [(found.ok, "ok"), (found.failed, "failed"), (found.cancelled, "cancelled")]
    shown += [(found.in_flight, "in flight")] if found.in_flight else []
    return "   ".join(f"{figures.whole(count)} {word}" for count, word in shown)


def goodput(phase: PhaseResult) -> str:
    """Return the goodput and its objectives; empty without objectives."""
    if math.isnan(phase.goodput):
        return ""
    about = phase.report["goodput"] if isinstance(phase.report["goodput"], dict) else {}
    limits = ", ".join(f"{name} ≤ {figures.time_ms(limit)}" for name, limit in (about.get("slo") or {}).items())
    origin = " from sent" if about.get("from") == "sent" and is_open_loop(phase) else ""
    share = f"{figures.share(about.get('share'))} within {limits}{origin}" if limits else ""
    return f"goodput {figures.short(phase.goodput)} req/s" + (f" ({share})" if share else "")


def about_phase(result: SessionResult, phase: PhaseResult) -> list[Sentence]:
    """Return the lines below a phase's table."""
    found = [Sentence("throughput", _throughput(phase))]
    found += [Sentence("tokens", text) for text in (_tokens(phase),) if text]
    found += [Sentence("failures" if index == 0 else "", text) for index, text in enumerate(_failures(phase))]
    found += [Sentence("prompts", text) for text in _prompts(result, phase)]
    found.append(Sentence("trust", _trust(phase), "" if phase.trust.verdict == "ok" else "yellow"))
    return found


def about_run(result: SessionResult) -> list[Sentence]:
    """Return where the run's files lie, and how to see the report again."""
    log = result.report["run"].get("log") or {}
    size = f" {figures.size(log['log_bytes'])}" if log.get("log_bytes") else ""
    found = [
        Sentence("report", f"{plain(str(result.dir))}/ (report.json · run.log{size})   loadgen report {_again(result)}")
    ]
    lost = log.get("lost") or {}
    if any(lost.values()):
        words = ", ".join(f"{figures.whole(count)} {plain(what)}" for what, count in lost.items() if count)
        found.append(Sentence("damage", f"the run log is damaged: {words} can't be read", "yellow"))
    return found


def _again(result: SessionResult) -> str:
    return result.id if result.dir.parent.name == "loadgen-runs" else plain(str(result.dir))


def _throughput(phase: PhaseResult) -> str:
    found = phase.throughput
    parts = [f"{figures.short(found.requests_per_s)} req/s"]
    parts += (
        [f"{figures.whole(found.output_tokens_per_s)} output tok/s"] if found.output_tokens_per_s is not None else []
    )
    parts += [f"{figures.whole(found.total_tokens_per_s)} total tok/s"] if found.total_tokens_per_s is not None else []
    return " · ".join(parts)


def _tokens(phase: PhaseResult) -> str:
    found = phase.tokens
    if not found.get("source") or found.get("output") is None:
        return ""
    parts = [f"{figures.whole(found['input'])} in"] if found.get("input") is not None else []
    parts.append(f"{figures.whole(found['output'])} out")
    without = found.get("rows_without_usage") or 0
    more = f"; {_many(without, 'answer')} without usage" if without and found["source"] == "usage" else ""
    return f"{', '.join(parts)} ({_SOURCES.get(found['source'], plain(str(found['source'])))}{more})"


def _failures(phase: PhaseResult) -> list[str]:
    details = phase.report.get("failure_details") or []
    if not details:
        return [f"{figures.whole(count)} × {failure_words(name)}" for name, count in phase.failures.items()]
    lines = []
    for detail in details[:6]:
        words = failure_words(detail["class"])
        more = plain(str(detail.get("words") or ""))
        ids = ", ".join(str(number) for number in (detail.get("requests") or [])[:3])
        text = f"{figures.whole(detail['count'])} × {words}{f' ({more})' if more else ''}"
        text += f": {plain(detail['message'])[:200]}" if detail.get("message") else ""
        lines.append(
            text
            + (
                f"   request{'s' if detail['count'] > 1 else ''} {ids}{', …' if detail['count'] > 3 else ''}"
                if ids
                else ""
            )
        )
    rest = sum(detail["count"] for detail in details[6:])
    return lines + ([f"{figures.whole(rest)} more of {len(details) - 6} other kinds, in report.json"] if rest else [])


def failure_words(name: str) -> str:
    """Return a class of failures in words."""
    if name.startswith("http_"):
        return f"HTTP {name.removeprefix('http_')}"
    return _CLASSES.get(name, plain(name))


def _prompts(result: SessionResult, phase: PhaseResult) -> list[str]:
    found = []
    samples, issued = phase.dataset.get("samples") or 0, phase.counts.issued
    if samples and issued > samples and not result.report["run"]["config"].get("unique_prompts"):
        seen = figures.share((issued - samples) / issued)
        found.append(
            f"{_many(samples, 'distinct prompt')} for {figures.whole(issued)} requests: {seen} were seen before by "
            "the server's prefix cache (--unique-prompts prevents it)"
        )
    if phase.dataset.get("note"):
        found.append(plain(str(phase.dataset["note"])))
    return found


def _trust(phase: PhaseResult) -> str:
    trust = phase.trust
    late = trust.send_lateness_us or {}
    facts = []
    middle, worst = late.get("p50"), late.get("p99")
    if middle is not None:
        beyond = f"; p99 {figures.time_ms(worst / 1e3)}" if worst is not None else ""
        facts.append(f"sent {figures.time_ms(middle / 1e3)} late (p50{beyond})")
    if trust.cpu_share is not None:
        facts.append(f"{figures.share(trust.cpu_share)} of a core")
    if trust.throttled is not None or trust.steal is not None:
        facts.append(_disturbed(trust.throttled, trust.steal))
    words = ", ".join(facts)
    verdict = {"ok": "ok", "client_limited": "CLIENT-LIMITED", "unknown": "unknown"}[trust.verdict]
    text = f"{verdict}. {words[:1].upper()}{words[1:]}." if words else f"{verdict}."
    return f"{text} {_reasons(phase)}" if trust.reasons and trust.verdict != "client_limited" else text


def _disturbed(throttled: float | None, steal: float | None) -> str:
    parts = [f"{figures.share(throttled)} throttled"] if throttled else []
    parts += [f"{figures.share(steal)} stolen by other machines"] if steal else []
    return " and ".join(parts) if parts else "no throttling"


def _reasons(phase: PhaseResult) -> str:
    return " ".join(_reason(reason) for reason in phase.trust.reasons)


def _reason(reason: Any) -> str:
    text = plain(str(reason.get("text") or reason.get("words") or reason) if isinstance(reason, dict) else str(reason))
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _many(count: int, noun: str) -> str:
    return f"{figures.whole(count)} {noun}{'' if count == 1 else 's'}"
