"""Summaries as the core makes them, for tests of what is shown and stored."""

import math
from typing import Any

DEFAULT = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)


GOODPUT = {"requests_per_s": 49.2, "requests": 2950, "share": 0.987, "slo": {"ttft": 300.0}, "from": "planned"}


def key(percent: float) -> str:
    return "p" + f"{percent:g}".replace(".", "_")


def metric(count: int, p50: float, spread: float, percentiles: Any = DEFAULT, unit: str = "ms") -> Any:
    """A metric whose values are log-normal around ``p50``, by formula rather than by chance."""
    if count == 0:
        return None
    quantile = {50.0: 0.0, 75.0: 0.674, 90.0: 1.2816, 95.0: 1.645, 99.0: 2.326, 99.9: 3.09}
    points = {key(p): round(p50 * math.exp(spread * quantile.get(p, (p - 50) / 20)), 4) for p in percentiles}
    top = max([*points.values(), p50]) * 1.2
    return {
        "unit": unit,
        "count": count,
        "mean": round(p50 * math.exp(spread**2 / 2), 4),
        "std": round(p50 * spread, 4),
        "min": round(p50 * 0.5, 4),
        "max": round(top, 4),
        **points,
        "ci95": {"p50": [round(p50 * 0.98, 4), round(p50 * 1.02, 4)]} if count >= 10 else {},
        "unsupported": [key(p) for p in percentiles if count * math.log(max(p, 100 - p) / 100) > math.log(0.025)],
        "definition": "what it means",
    }


def phase(
    name: str = "performance",
    ok: int = 2987,
    failed: int = 0,
    cancelled: int = 0,
    streamed: bool = True,
    meta: dict[str, Any] | None = None,
    percentiles: Any = DEFAULT,
    kind: str = "performance",
    reason: str = "duration",
    **changes: Any,
) -> dict[str, Any]:
    metrics = {
        "latency": metric(ok, 1610.0, 0.4, percentiles),
        "response_latency": metric(ok, 1610.4, 0.4, percentiles),
        "ttfb": metric(ok, 90.2, 0.4, percentiles),
        "connect": metric(min(ok, 41), 0.21, 0.3, percentiles),
    }
    if streamed:
        metrics |= {
            "ttft": metric(ok, 91.8, 0.42, percentiles),
            "ttfo": metric(ok, 91.8, 0.42, percentiles),
            "response_ttft": metric(ok, 91.9, 0.42, percentiles),
            "tpot": metric(ok, 12.1, 0.16, percentiles),
            "itl": metric(ok * 128, 11.8, 0.27, percentiles),
            "icl": metric(ok * 120, 12.2, 0.27, percentiles),
            "ntpot": metric(ok, 12.9, 0.16, percentiles),
        }
    made = {
        "name": name,
        "type": kind,
        "reason": reason,
        "meta": meta,
        "config": {"name": name, "duration_s": 60.0 if reason == "duration" else None, "meta": meta},
        "index": 0,
        "start_ns": 1_000_000_000,
        "end_ns": 61_020_000_000,
        "never_issued": 0,
        "usage_refused": False,
        "dispatch": None,
        "finish": {"stop": ok} if ok else {},
        "distinct_samples": min(ok + failed + cancelled, 1319),
        "bytes": {"received": 1000 * ok, "sent": 200 * ok},
        "counts": {
            "issued": ok + failed + cancelled,
            "ok": ok,
            "failed": failed,
            "cancelled": cancelled,
            "in_flight": 0,
            "reconnects": 0,
        },
        "duration_s": 60.02,
        "throughput": {
            "requests_per_s": round(ok / 60.02, 3),
            "output_tokens_per_s": 6204.1,
            "total_tokens_per_s": 11870.4,
            "ramp_s": 1.0,
            "drain_s": 2.02,
            "steady": {
                "from_s": 1.0,
                "to_s": 58.0,
                "requests_per_s": round(ok / 60, 3),
                "output_tokens_per_s": 6211.0,
                "in_flight": 41.2,
            },
        },
        "goodput": None,
        "metrics": metrics,
        "failures": {"stall": failed} if failed else {},
        "failure_details": [failure("stall", failed, [1204, 2210][:failed])] if failed else [],
        "tokens": {
            "source": "usage",
            "input": 341_000,
            "output": 372_368,
            "input_mean": 114.1,
            "output_mean": 124.6,
            "rows_without_usage": 0,
            "events": 360_000,
            "chunks": 351_290,
            "chunks_per_read": 1.02,
            "tokens_per_chunk": 1.06,
            "gaps": "tokens",
            "rows_without_itl": 0,
        },
        "series": {
            "interval_s": 1.0,
            "t_s": [0.0, 1.0],
            "requests_per_s": [49.0, 51.0],
            "output_tokens_per_s": [6200.0, 6208.0],
            "in_flight": [40.0, 41.0],
            "ttft_p50": [91.0, None],
            "errors": [0, 0],
        },
        "trust": trust(),
    }
    return {**made, **changes}


def failure(kind: str, count: int, requests: list[int], words: str = "", message: str | None = None) -> dict[str, Any]:
    """One kind of failure as the core tells it."""
    found = {"class": kind, "detail": "", "words": words, "count": count, "requests": requests}
    return {**found, "message": message, "messages": []}


def node(index: int, ok: int, failed: int, of: int, ttft: float, failures: str = "http_429") -> dict[str, Any]:
    """What the core says of one node of a phase of ``of`` requests."""
    metrics = {
        "latency": metric(ok, 10 * ttft, 0.4),
        "response_latency": metric(ok, 10 * ttft + 0.4, 0.4),
        "ttft": metric(ok, ttft, 0.42),
        "response_ttft": metric(ok, ttft + 0.1, 0.42),
        "tpot": metric(ok, ttft / 8, 0.16),
    }
    return {
        "node": index,
        "ok": ok,
        "failed": failed,
        "cancelled": 0,
        "share": (ok + failed) / of,
        "requests_per_s": round(ok / 60.02, 3),
        "output_tokens_per_s": round(ok * 124.6 / 60.02, 1),
        "goodput": {**GOODPUT, "requests": ok, "requests_per_s": round(0.9 * ok / 60.02, 3)},
        "metrics": metrics,
        "failures": {failures: failed} if failed else {},
    }


def trust(verdict: str = "ok", **changes: Any) -> dict[str, Any]:
    """The core's judgement of a phase."""
    return {
        "verdict": verdict,
        "reasons": [],
        "notes": [],
        "distrust": [],
        "suggestion": None,
        "offered_per_s": 50.0,
        "achieved_per_s": 50.0,
        "send_lateness_us": {"p50": 0.3, "p99": 200.0, "max": 900.0},
        "late_share": 0.0,
        "connect_share": 0.01,
        "cpu_share": 0.08,
        "cpu_cores": 0.1,
        "loop_stall_ms": 0.4,
        "steal": 0.0,
        "throttled": 0.0,
        "invariant_violations": 0,
        **changes,
    }


def around(meta: dict[str, Any], status: str, reason: str | None, log_bytes: int = 1_100_000) -> dict[str, Any]:
    """What the core says of a run beside its phases."""
    return {
        "session": meta["id"],
        "anchor": {"mono_ns": 1, "wall_ns": 2},
        "format": [1, 0],
        "meta": meta,
        "status": status,
        "reason": reason,
        "log_bytes": log_bytes,
        "lost": {"blocks": 0, "rows": 0, "tail_bytes": 0, "places": []},
        "percentiles": "nearest rank",
    }


def summary(log: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What the core says of the fake engine's log."""
    import fake_core

    percentiles = tuple(options.get("percentiles") or DEFAULT)
    phases = []
    for config, end in log["phases"]:
        refused = end["failed"] and end["reason"] == "early"
        kind = (fake_core.Script.refusal or f"http_{fake_core.Script.status}") if refused else "stall"
        made = phase(
            config["name"],
            end["ok"],
            end["failed"],
            meta=config["meta"],
            percentiles=percentiles,
            kind=config["type"],
            reason=end["reason"],
            failures={kind: end["failed"]} if end["failed"] else {},
        )
        if refused:
            requests = list(range(min(10, end["failed"])))
            made["failure_details"] = [failure(kind, end["failed"], requests, message=fake_core.Script.message)]
        slo = options["phases"].get(config["name"], options).get("slo") if options.get("phases") else options.get("slo")
        if slo:
            made["goodput"] = {**GOODPUT, "slo": slo}
        phases.append(made)
    killed = log["status"] == "killed"
    status, reason = ("interrupted", "killed") if killed else (log["status"], log["reason"] or None)
    return {**around(log["meta"], status, reason), "phases": phases}


def report(
    *phases: dict[str, Any],
    options: dict[str, Any],
    status: str = "complete",
    reason: str | None = None,
    url: str | list[str] = "http://10.0.0.5:8000",
    model: str = "llama-3-8b",
    lost: dict[str, int] | None = None,
    log_bytes: int = 1_100_000,
    samples: int = 1319,
) -> dict[str, Any]:
    """A whole report of a run with these phases, made by the same steps as a real one."""
    from loadgen import config as configs
    from loadgen.session import summary as summaries
    from loadgen.session.phase import phases_of, stored
    from loadgen.session.phase_plan import plan_of

    options = {"requests": 10**6, **options} if not {"duration", "burst", "phases"} & set(options) else options
    config = configs.resolve(url, options)
    dataset = {"name": "gsm8k_test.jsonl", "sha256": "ab" * 32, "samples": samples, "note": None}
    asked = phases_of(config)
    plans = {
        told.name: plan_of(told, config, dataset, (number, len(asked)) if config.phases else None)
        for number, told in enumerate(asked, start=1)
    }
    shown = configs.redacted(config)
    if config.phases:
        shown["phases"] = [stored(told, config) for told in asked]
    meta = {
        "id": "7f3a",
        "version": "0.1.0",
        "started_at": "2026-11-20T21:14:05.123Z",
        "model": model,
        "environment": {"system": "Linux", "cores": 2},
        "config": shown,
    }
    said = around(meta, status, reason, log_bytes)
    said["lost"] |= lost or {}
    last = plans[asked[-1].name]
    said["phases"] = [{**made, "meta": made["meta"] or plans.get(made["name"], last).meta} for made in phases]
    from pathlib import Path

    return summaries.assemble(Path("loadgen-runs/20261120T211405Z-7f3a"), said)
