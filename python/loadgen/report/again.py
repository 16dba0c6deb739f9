"""Reporting a run again: from its log where there is one, else from its stored report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from loadgen.errors import ReportError, RunError
from loadgen.report import from_snapshot
from loadgen.session import SessionResult, counting, run_dir, runner, scoring, summary


def load(run: str | None = None, percentiles: tuple[float, ...] | None = None) -> tuple[SessionResult, str]:
    """Return a run's result, derived from its log again.

    A run that has ended without a report (it was killed) gets its ``report.json`` then, and so does one whose answers
    are still to be scored, or to be counted by its tokenizer: that is done first.

    Args:
        run: A directory, the beginning of an id, or ``None`` for the newest run.
        percentiles: Percentiles to report; ``None`` for those that the run was started with.

    Returns:
        The result, and what a reader must be warned of (empty for nothing).

    Raises:
        ReportError: If there is no such run, or neither its log nor its report can be read.
        MetricsError: If all there is of it is a snapshot that can't be read.
    """
    directory = run_dir.find(run)
    if not (directory / run_dir.LOG).exists():
        if not (directory / run_dir.REPORT).exists():
            return from_snapshot.best(directory=directory).result(directory), "there is no run log; this is a snapshot"
        return SessionResult.of(directory, stored(directory)), "the run log is gone; this is the stored report"
    report = summary.report_of(directory, percentiles)
    if run_dir.is_running(directory):
        return SessionResult.of(directory, report), ""
    is_owed = not (directory / run_dir.REPORT).exists()
    try:
        config = report["run"]["config"]
        unscored = [phase for phase in report["phases"] if scoring.is_owed(directory, phase)]
        for phase in unscored:
            scoring.settle(directory, phase)
        to_count = counting.is_owed(directory, config)
        if to_count:
            counting.count(directory, config, keeps=summary.keeps_answers(report))
        if to_count or unscored:
            report, is_owed = summary.report_of(directory, percentiles), True
        if is_owed and percentiles is None:
            runner.save(directory, report)
    except RunError as error:
        return SessionResult.of(directory, report), error.message
    return SessionResult.of(directory, report), ""


def stored(directory: Path) -> dict[str, Any]:
    """Return the report that is stored in a run's directory.

    Args:
        directory: The run's directory.

    Raises:
        ReportError: If there is none, or it isn't a report that this version reads.
    """
    path = directory / run_dir.REPORT
    try:
        report: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict)
    except OSError as error:
        raise ReportError(f"can't read {path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ReportError(f"{path} is not a report: {error}") from None
    if report.get("schema") != summary.SCHEMA:
        raise ReportError(f"{path} has schema {report.get('schema')!r}; this version reads {summary.SCHEMA}")
    return report
