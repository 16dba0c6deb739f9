"""Summaries as the core makes them, for tests of what is shown and stored."""

import math
from typing import Any

DEFAULT = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)


def key(percent: float) -> str:
    return "p" + f"{percent:g}".replace(".", "_")


def metric(count: int, p50: float, spread: float, percentiles: Any = DEFAULT, unit: str = "ms") -> dict[str, Any]:
    """A metric whose values are log-normal around ``p50``, by formula rather than by chance."""
    if count == 0:
        return {"unit": unit, "count": 0}
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
        "unsupported": [key(p) for p in percentiles if count * (100 - p) < 100],
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
            "steady": {"from_s": 1.0, "to_s": 58.0, "requests_per_s": round(ok / 60, 3)},
        },
        "goodput": None,
        "metrics": metrics,
        "failures": {"stall": failed} if failed else {},
        "failure_details": (
            [
                {
                    "class": "stall",
                    "detail": "",
                    "count": failed,
                    "words": "",
                    "requests": [1204, 2210][:failed],
                    "message": None,
                }
            ]
            if failed
            else []
        ),
        "tokens": {"source": "usage", "input": 341_000, "output": 372_368},
        "series": {
            "t_s": [0, 1],
            "requests_per_s": [49, 51],
            "in_flight": [40, 41],
            "ttft_p50": [91, 92],
            "errors": [0, 0],
        },
        "trust": {
            "verdict": "ok",
            "reasons": [],
            "send_lateness_us": {"p50": 0.3, "p99": 200.0},
            "cpu_share": 0.08,
            "steal": 0.0,
            "throttled": 0.0,
        },
    }
    return {**made, **changes}


def summary(log: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What the core says of the fake engine's log."""
    import fake_core

    percentiles = tuple(options.get("percentiles") or DEFAULT)
    phases = []
    for config, end in log["phases"]:
        refused = end["failed"] and fake_core.Script.reason == "early"
        failure = f"http_{fake_core.Script.status}" if refused else "stall"
        made = phase(
            config["name"],
            end["ok"],
            end["failed"],
            meta=config["meta"],
            percentiles=percentiles,
            kind=config["type"],
            reason=end["reason"],
            failures={failure: end["failed"]} if end["failed"] else {},
        )
        if refused:
            made["failure_details"] = [
                {
                    "class": failure,
                    "detail": "",
                    "count": end["failed"],
                    "words": "",
                    "requests": list(range(min(10, end["failed"]))),
                    "message": fake_core.Script.message,
                }
            ]
        if options.get("slo"):
            made["goodput"] = {"requests_per_s": 49.2, "share": 0.987, "slo": options["slo"], "from": "planned"}
        phases.append(made)
    return {
        "meta": log["meta"],
        "status": "interrupted" if log["status"] == "killed" else log["status"],
        "reason": "killed" if log["status"] == "killed" else log["reason"] or None,
        "log_bytes": 1_100_000,
        "lost": {"blocks": 0, "rows": 0},
        "phases": phases,
    }
