"""What a report says was run: its title, and the headings of its phases."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from loadgen.config import target
from loadgen.config.nodes import balance_words
from loadgen.report import figures
from loadgen.shown import plain

if TYPE_CHECKING:
    from loadgen.session import PhaseResult, SessionResult


def title(result: SessionResult) -> str:
    """Return what was run, in one line; of several phases, what they have in common."""
    run = result.report["run"]
    parts = [plain(str(run.get("model") or target.words(run["config"]["url"])))]
    phases = measured(result)
    spread = {_spread(phase) for phase in phases}
    parts += spread if len(spread) == 1 else []
    spoken = {_spoken(result, phase) for phase in phases} or {_spoken_by(run["config"])}
    parts += spoken if len(spoken) == 1 else []
    if len(phases) == 1:
        parts += [load(phases[0]), _lasted(phases[0])]
    prompts = {_dataset(phase) for phase in phases}
    parts += prompts if len(prompts) == 1 else []
    return " · ".join(part for part in parts if part)


def heading(result: SessionResult, phase: PhaseResult) -> str:
    """Return what one of several phases was, in one line: its load, and what the others don't share.

    Args:
        result: The run's result.
        phase: The phase.
    """
    parts = [phase.name, "accuracy" if phase.type == "accuracy" else "", load(phase), _lasted(phase)]
    parts += [str(phase.settings["model"])] if "model" in phase.settings else []
    for told in (_spread, lambda one: _spoken(result, one), _dataset):
        parts += [told(phase)] if len({told(other) for other in measured(result)}) > 1 else []
    return plain(" · ".join(part for part in parts if part))


def measured(result: SessionResult) -> list[PhaseResult]:
    """Return the phases that have a report: all but the warm-ups."""
    return [phase for phase in result.phases if phase.type != "warmup"]


def run_name(result: SessionResult) -> str:
    """Return the run's moment and id."""
    return f"{result.report['run']['started_at'][:19]}Z-{result.id}"


def load(phase: PhaseResult) -> str:
    """Return a phase's load in words."""
    words = str(phase.load.get("words") or "")
    cap = phase.load.get("max_concurrency")
    return f"{words}, {cap:,} in flight at most" if cap else words


def options_of(result: SessionResult, phase: PhaseResult) -> dict[str, Any]:
    """Return the options that a phase ran with: the run's, the engine's account of its requests, its own settings.

    Args:
        result: The run's result.
        phase: The phase.
    """
    own = (phase.report.get("config") or {}).get("request") or {}
    told = {name.removesuffix("_s"): value for name, value in own.items()}
    return {**result.report["run"]["config"], **told, **phase.settings}


def _spoken(result: SessionResult, phase: PhaseResult) -> str:
    return _spoken_by(options_of(result, phase))


def _spoken_by(config: dict[str, Any]) -> str:
    if "api" not in config or "stream" not in config:
        return ""  # the log's description of the run is damaged
    return f"{config['api']}, {'streamed' if config['stream'] else 'not streamed'}"


def _spread(phase: PhaseResult) -> str:
    """Return over how many nodes a phase was spread, and how; empty where there was one target."""
    if not phase.nodes:
        return ""
    balance = (phase.report.get("config") or {}).get("balance")
    return figures.many(len(phase.nodes), "node") + (f", {balance_words(balance)}" if balance else "")


def _lasted(phase: PhaseResult) -> str:
    asked = (phase.report.get("config") or {}).get("duration_s")
    # A load that ran its time is named by it; one that ended before, by how long it really took.
    lasted = asked if asked is not None and phase.report.get("reason") == "duration" else phase.duration_s
    return "" if math.isnan(lasted) else figures.clock(lasted)


def _dataset(phase: PhaseResult) -> str:
    prompts = phase.dataset
    return "" if prompts is None else f"{plain(prompts.name)} ({figures.many(prompts.samples, 'prompt')})"
