"""A look into the live metrics of a run of any process of this user."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from loadgen import _core
from loadgen.config.known import listed
from loadgen.errors import MetricsError
from loadgen.metrics.snapshot import MetricsSnapshot, SessionState, of_core


class MetricsReader:
    """The live metrics of a run, read from its shared memory; the run doesn't notice. Made by :func:`attach`.

    Args:
        segment: The core's reader of the run's segment.
    """

    def __init__(self, segment: _core.SegmentReader) -> None:
        self._segment = segment
        self._sequence = count()

    @property
    def run(self) -> str:
        """The run's id."""
        return self._segment.run

    @property
    def path(self) -> Path:
        """The file that its metrics are in."""
        return self._segment.path

    @property
    def about(self) -> str:
        """What the run says of itself, for a viewer's title; empty where it says nothing."""
        return self._segment.about

    @property
    def alive(self) -> bool:
        """Whether the run's process lives."""
        return self._segment.alive

    @property
    def state(self) -> SessionState:
        """How the session stands."""
        return SessionState(self._segment.state)

    @property
    def was_killed(self) -> bool:
        """Whether the run's process is gone without having ended its session: the run's log has the numbers then."""
        alive = self.alive  # before the state: a process that ends in between has said how it stands
        return not alive and not self.state.is_last

    def snapshot(
        self, *, percentiles: Sequence[float] | None = None, bins: int = 30, phase: int | None = None
    ) -> MetricsSnapshot:
        """Return all counters and series at this moment; those of a run that has ended stay as they were.

        Args:
            percentiles: 0 to 100, ascending; ``None`` for 50, 75, 90, 95, 99 and 99.9.
            bins: Bins of each histogram, at most.
            phase: Only this phase's, and those of the whole run.

        Raises:
            ValueError: If a percentile is none.
            MetricsError: If the file was cut or damaged since.
        """
        try:
            said = self._segment.snapshot(percentiles=percentiles, bins=bins, phase=phase)
        except OSError as error:
            raise self._lost(error) from None
        return of_core(said, next(self._sequence))

    def hdr(self, name: str, phase: int | None = None) -> bytes:
        """Return a series' histogram in HDR's V2 format, compressed, as other programs read it.

        Args:
            name: The series.
            phase: The phase's number; ``None`` for the newest of that name.

        Raises:
            LookupError: If there is none.
            MetricsError: As for :meth:`snapshot`.
        """
        try:
            return self._segment.hdr(name, phase)
        except OSError as error:
            raise self._lost(error) from None

    def _lost(self, error: OSError) -> MetricsError:
        return MetricsError(
            f"can't read the live metrics of run {self.run}: {error}", "its log has the numbers: loadgen report"
        )


def attach(
    run: str | os.PathLike[str] | None = None, *, directories: Sequence[str | os.PathLike[str]] | None = None
) -> MetricsReader:
    """Look into the live metrics of a run of this machine that is going, or was killed; nothing is written.

    Args:
        run: The beginning of a run's id, its directory (``loadgen-runs/…-ID``), or the file of its live metrics;
            ``None`` for the newest that is going.
        directories: Where such files may lie; ``None`` for where they are put.

    Raises:
        MetricsError: If there is none, or several, or the file can't be believed: another user's, cut, damaged, of
            another version.
    """
    path = _found(run, directories)
    try:
        return MetricsReader(_core.Segment.attach(path))
    except OSError as error:
        raise MetricsError(f"can't look into the live metrics in {path}: {error}") from None


def _found(run: str | os.PathLike[str] | None, directories: Sequence[str | os.PathLike[str]] | None) -> Path:
    if run is not None and Path(run).is_file():
        return Path(run)
    files = _core.segments(directories)
    if run is None:
        if not files:
            raise MetricsError("no run of this machine shows live metrics", "start one: loadgen run …")
        return max(files, key=_age)
    wanted = Path(run).name.rpartition("-")[2] if os.sep in os.fspath(run) or Path(run).is_dir() else os.fspath(run)
    matches = [path for path in files if path.name.startswith(wanted)] if wanted else []
    if len(matches) == 1:
        return matches[0]
    exact = [path for path in matches if path.stem == wanted]
    if len(exact) == 1:
        return exact[0]
    if matches:
        names = listed([path.stem for path in matches], 4)
        raise MetricsError(f"{len(matches)} runs with live metrics begin with {wanted}: {names}", "give more of the id")
    raise MetricsError(
        f"no run of this machine that shows live metrics begins with {wanted or os.fspath(run)!r}",
        "they are there while a run goes on; afterwards: loadgen report",
    )


def _age(path: Path) -> tuple[bool, int]:
    """Return what orders files: those of living runs first, then by when they were made or written last."""
    try:
        return _core.Segment.attach(path).alive, path.stat().st_mtime_ns
    except OSError:
        return False, 0
