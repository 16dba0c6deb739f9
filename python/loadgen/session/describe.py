"""What a run says of itself beside its live metrics: what a viewer's title needs, as the segment's header has room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loadgen import _core, metrics
from loadgen.config.target import bare, names, words
from loadgen.errors import MetricsError
from loadgen.session.phase_plan import PhasePlan

if TYPE_CHECKING:
    from loadgen.metrics import MetricsReader

ROOM = 3896
"""Bytes that a segment's header has for it (`ABOUT_BYTES` of rust/src/series/header.rs)."""

_LONGEST = 200
_LONGEST_NAME = 48
_MOST_NODES = 16
"""So many at most are counted one by one (`NODES_MOST` of rust/src/series/counted.rs)."""


class AboutPhase(msgspec.Struct, frozen=True, array_like=True):
    """A phase, as a viewer names it.

    Args:
        name: Its name.
        kind: ``warmup``, ``performance`` or ``accuracy``.
        load: Its load in words.
        requests: Requests that it makes at most.
        seconds: Seconds that it issues for.
        open_loop: Whether requests start by a schedule, so that times from planned matter.
    """

    name: str
    kind: str = "performance"
    load: str = ""
    requests: int | None = None
    seconds: float | None = None
    open_loop: bool = False


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run, as a viewer names it.

    Args:
        model: The model asked for; empty where phases ask for several.
        target: The target's URL, without credentials.
        directory: Where the run's log is, absolute.
        workers: Worker threads.
        of: How many phases there are.
        phases: The first of them: as many as there is room for.
        nodes: What its targets are called, in their order, where there are several and each is counted by itself.
    """

    model: str = ""
    target: str = ""
    directory: str = ""
    workers: int = 0
    of: int = 0
    phases: list[AboutPhase] = []
    nodes: list[str] = []


def about(meta: dict[str, Any], phases: Sequence[PhasePlan], workers: int, directory: Path) -> About:
    """Return what a run says of itself.

    Args:
        meta: What the log keeps of it.
        phases: Its phases.
        workers: Worker threads.
        directory: The run's directory.
    """
    url = meta["config"].get("url", "")
    return About(
        model=meta.get("model") or "",
        target=words(url),
        directory=str(directory.absolute()),
        workers=workers,
        of=len(phases),
        phases=[_phase(plan) for plan in phases],
        nodes=bare(names(url)) if isinstance(url, list) and len(url) <= _MOST_NODES else [],
    )


def _phase(plan: PhasePlan) -> AboutPhase:
    is_open = plan.load["kind"] in ("rate", "stages")
    return AboutPhase(plan.name, plan.kind.value, plan.words, plan.most_requests, plan.longest_s, is_open)


def written(told: About) -> str:
    """Return it as the segment's header has room for: long texts are cut, then phases from the end are left out.

    Args:
        told: What the run says of itself.
    """
    cut = msgspec.structs.replace(
        told,
        model=_clean(told.model)[:_LONGEST],
        target=_clean(told.target)[:_LONGEST],
        # A path that is cut names another place: better none.
        directory=told.directory if told.directory.isprintable() and len(told.directory) <= 4 * _LONGEST else "",
        phases=[
            msgspec.structs.replace(phase, name=_clean(phase.name)[:_LONGEST], load=_clean(phase.load)[:_LONGEST])
            for phase in told.phases[:128]
        ],
        nodes=[_clean(name)[:_LONGEST_NAME] for name in told.nodes[:_MOST_NODES]],
    )
    while len(text := msgspec.json.encode(cut)) > ROOM:
        cut = msgspec.structs.replace(cut, phases=cut.phases[:-1]) if cut.phases else About(workers=told.workers)
    return text.decode()


def _clean(text: str) -> str:
    """Return text without what a terminal would obey, or a segment refuse."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def read(text: str) -> About:
    """Return what a segment says of its run; nothing where it says nothing, or what isn't ours to read.

    Args:
        text: The header's text; another version's, or a program's that uses the segment for itself, is no error.
    """
    try:
        return msgspec.json.decode(text, type=About)
    except msgspec.DecodeError:
        return About()


def watched(directory: Path) -> MetricsReader | None:
    """Return a look into the run in a directory, by what runs say of themselves: the name needn't have the run's id.

    Args:
        directory: The run's directory.

    Returns:
        The look; ``None`` where no run shows live metrics that says it is there.
    """
    for path in _core.segments():
        try:
            reader = metrics.attach(path)
        except MetricsError:
            continue  # not to be believed, or gone meanwhile
        if read(reader.about).directory == str(directory.absolute()):
            return reader
    return None
