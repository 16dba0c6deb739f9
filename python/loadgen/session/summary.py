"""From a run's log to its report: what the core derives from the rows, with what is known of the run around it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadgen import _core
from loadgen.config import DEFAULTS, target
from loadgen.errors import ReportError
from loadgen.session import run_dir, scoring

SCHEMA = 1
_ENDED_EARLY = {
    "early": "stopped early: the first answers were all refusals",
    "disk": "the disk could not follow the run log",
}
_REFUSED_SINCE = "stopped early: its first answers were all refusals, though the server had answered well before"


def report_of(directory: Path, percentiles: tuple[float, ...] | None = None) -> dict[str, Any]:
    """Derive a run's report from its log.

    Args:
        directory: The run's directory.
        percentiles: Percentiles to report; ``None`` for those that the run was started with.

    Returns:
        What ``report.json`` holds.

    Raises:
        ReportError: If there is no log, or it can't be read.
    """
    log = directory / run_dir.LOG
    if not log.is_file():
        raise ReportError(f"{directory} holds no {run_dir.LOG}")
    known = _stored_config(directory)
    options = _options(directory, known or {}, percentiles)
    try:
        found = summarise(directory, options)
        wanted = _options(directory, found["meta"]["config"], percentiles)
        if known is None and wanted != options:
            # What a killed run was asked for stands in its log alone, so it is known only after a first look.
            found = summarise(directory, wanted)
    except (OSError, ValueError) as error:
        raise ReportError(f"can't read {log}: {error}") from None
    return assemble(directory, found)


def summarise(directory: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Have the core derive a summary from a run's log.

    Args:
        directory: The run's directory.
        options: ``Options`` of ``rust/src/stats/options.rs``.

    Raises:
        OSError: If the log can't be read.
        ValueError: If it isn't a log that this version reads.
    """
    found: dict[str, Any] = msgspec.json.decode(_core.summarise(str(directory), msgspec.json.encode(options).decode()))
    return {**found, "meta": found["meta"] or _undescribed(found)}


def _undescribed(summary: dict[str, Any]) -> dict[str, Any]:
    """Return what stands for a run's description where that block of its log is cut off or damaged."""
    begun = dt.datetime.fromtimestamp(summary["anchor"]["wall_ns"] / 1e9, dt.UTC)
    return {
        "id": summary["session"],
        "version": "unknown",
        "started_at": begun.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "environment": {},
        "config": {"url": "unknown target"},
    }


def _stored_config(directory: Path) -> dict[str, Any] | None:
    try:
        report = msgspec.json.decode((directory / run_dir.REPORT).read_bytes(), type=dict)
        config = report["run"]["config"]
    except (OSError, msgspec.DecodeError, RecursionError, KeyError, TypeError):
        return None  # there is none, or it is no report: the log says the same, at the price of a second look
    return config if isinstance(config, dict) else None


def _options(directory: Path, config: dict[str, Any], percentiles: tuple[float, ...] | None) -> dict[str, Any]:
    wanted = list(percentiles if percentiles is not None else config.get("percentiles") or DEFAULTS["percentiles"])
    found = {"percentiles": wanted, "slo": config.get("slo"), "slo_from": config.get("slo_from")}
    found["phases"] = {
        phase["name"]: {"slo": phase["slo"] or {}, "slo_from": phase["slo_from"]} for phase in config.get("phases", ())
    }
    found["token_counts"] = run_dir.counts(directory)
    return {name: value for name, value in found.items() if value}


def of_run(directory: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Derive the report of a run that has just ended.

    Args:
        directory: The run's directory.
        config: The run's options, as they are stored.
    """
    return assemble(directory, summarise(directory, _options(directory, config, None)))


def assemble(directory: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Make a report of what the core derived from a log.

    Args:
        directory: The run's directory.
        summary: The core's summary.
    """
    meta = summary["meta"]
    phases = [_phase(directory, phase, meta.get("config", {}).get("url")) for phase in summary["phases"]]
    status, reason = verdict(summary, meta.get("config", {}).get("max_error_rate", 0.1))
    if status == "interrupted" and reason == "killed" and run_dir.is_running(directory):
        reason = "still running"
    run = {
        "id": meta["id"],
        "status": status,
        "reason": reason,
        "source": "log",
        "version": meta["version"],
        "started_at": meta["started_at"],
        "model": meta.get("model"),
        "environment": meta["environment"],
        "config": meta["config"],
        "percentiles": summary["percentiles"],
        "anchor": summary["anchor"],
        "log": {"bytes": summary["log_bytes"], "format": summary["format"], "lost": summary["lost"]},
    }
    if summary.get("late_answers") is not None:
        run["late_answers"] = summary["late_answers"]
    if summary.get("events") is not None:
        run["events"] = summary["events"]
    return {"schema": SCHEMA, "run": run, "phases": phases}


def _phase(directory: Path, phase: dict[str, Any], url: Any) -> dict[str, Any]:
    meta = phase.pop("meta") or {}
    if isinstance(phase["config"], dict):
        phase["config"].pop("meta", None)
    found = {**phase, "load": meta.get("load"), "dataset": meta.get("dataset"), "seed": meta.get("seed")}
    if phase.get("nodes"):
        urls = url if isinstance(url, list) else []
        names = target.names(urls)
        found["nodes"] = [{**node, **_named(node["node"], urls, names)} for node in phase["nodes"]]
    if phase["type"] == "accuracy":
        found["scoring"] = meta.get("scoring")
        found["accuracy"] = scoring.accuracy_of(directory, found)
    return {**found, "settings": meta["settings"]} if "settings" in meta else found


def _named(node: int, urls: Sequence[str], names: Sequence[str]) -> dict[str, str | None]:
    """Return what a node is called; by its index where the log no longer tells."""
    if node < len(urls):
        return {"name": names[node], "url": urls[node]}
    return {"name": f"node {node}", "url": None}


def keeps_answers(report: dict[str, Any]) -> bool:
    """Return whether a run's answers were kept to stay, by any of its phases.

    Args:
        report: The run's report.
    """
    asked = [phase["type"] == "accuracy" or _saved(phase) for phase in report["phases"]]
    return bool(report["run"]["config"].get("save_responses")) or any(asked)


def _saved(phase: dict[str, Any]) -> bool:
    request = (phase.get("config") or {}).get("request") or {}
    return bool(request.get("save_responses"))


def _nothing_sent(summary: dict[str, Any]) -> str:
    if any(phase["type"] == "warmup" for phase in summary["phases"]):
        return (
            "no request was sent: the warm-up's requests were still under way and held their slots to the end; "
            "let the load last longer than one of them takes"
        )
    return "no request was sent"


def _problem(phase: dict[str, Any], summary: dict[str, Any], max_error_rate: float) -> str | None:
    """Return why a measured phase makes its run a failed one; ``None`` where it doesn't."""
    counts = phase["counts"]
    judged = counts["ok"] + counts["failed"]
    if counts["ok"] == 0:
        return "no request succeeded" if counts["issued"] else _nothing_sent(summary)
    if counts["failed"] / judged > max_error_rate:
        return f"{100 * counts['failed'] / judged:.1f} % of the requests failed; {100 * max_error_rate:g} % are allowed"
    return None


def _said_of(phase: dict[str, Any], problem: str, listed: bool) -> str:
    return f"phase {phase['name']}: {problem}" if listed else problem


def _asked_phases(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the phases that the run was given as a list; none where its options made them."""
    return list((summary.get("meta") or {}).get("config", {}).get("phases", ()))


def verdict(summary: dict[str, Any], max_error_rate: float) -> tuple[str, str | None]:
    """Judge a run: whether it is complete, was interrupted or failed, and why.

    Each phase but the warm-ups is judged by itself: the first that failed makes the run a failed one.

    Args:
        summary: The core's summary.
        max_error_rate: The share of failures above which a run has failed.
    """
    if summary["status"] == "interrupted":
        return "interrupted", summary.get("reason")
    if summary["status"] == "failed" and summary.get("reason"):
        return "failed", summary["reason"]
    listed = len(_asked_phases(summary)) > 1  # else there is no need to say which phase
    answered_before = False
    for phase in summary["phases"]:
        if phase.get("reason") == "early" and answered_before:
            return "failed", _said_of(phase, _REFUSED_SINCE, listed)
        if phase.get("reason") in _ENDED_EARLY:
            return "failed", _said_of(phase, _ENDED_EARLY[phase["reason"]], listed)
        answered_before = answered_before or phase["counts"]["ok"] > 0
    for phase in summary["phases"]:
        problem = None if phase["type"] == "warmup" else _problem(phase, summary, max_error_rate)
        if problem is not None:
            return "failed", _said_of(phase, problem, listed)
    if summary["status"] == "failed":
        return "failed", summary.get("reason")
    return "complete", None
