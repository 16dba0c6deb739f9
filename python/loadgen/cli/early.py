"""What is said when a run stopped early: the server's own words, and what it does have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadgen import config as configs
from loadgen.config import Config, secret
from loadgen.config.known import listed
from loadgen.config.target import words as in_words
from loadgen.errors import TargetError
from loadgen.report import failed, figures
from loadgen.session import models

if TYPE_CHECKING:
    from loadgen.session import PhaseResult, SessionResult


def error_of(result: SessionResult, config: Config) -> tuple[str, str]:
    """Return the error of a run whose first answers were all refusals, and the way out.

    Args:
        result: The run's result.
        config: The run's options.
    """
    phase = next(phase for phase in result.phases if phase.report.get("reason") == "early")
    # What the phase asked for stands in its own options where the run has a list of them.
    config = next((one.options for one in config.phases if one.name == phase.name), config)
    failure, detail = _main_failure(phase)
    words = failed.said(detail) if detail else ""
    names = _models(config) if failure == "http_404" else ()
    is_path = bool(names) and config.model in (None, *names)  # it has the model: what it lacks is the path
    has = f"the server has: {listed(names)}" if names and not is_path else ""
    way_out = {
        "http_404": _other_api(config) if is_path else "",
        "http_401": "check the API key: --api-key-env NAME or --api-key-file FILE",
        "http_403": "check what the API key may do",
        "connect": _unreachable(result, phase, config, was_silent="timed out" in words),
        "tls": models.insecure(config, unverified="certificate" in words),
    }.get(failure, "")
    of = _of(phase, config)
    where_to = f" in phase {phase.name}" if len(result.report["run"]["config"].get("phases", ())) > 1 else ""
    done = f"stopped early{where_to}; {figures.whole(phase.counts.issued)}{of} requests were sent. Report: {result.dir}"
    head = failed.words(failure).removeprefix("HTTP ")
    where = "from" if failure.startswith("http_") else "to"
    target = in_words([secret.shown_endpoint(url, config.api) for url in config.urls])
    message = f"{head} {where} {target} after {figures.whole(phase.counts.issued)} requests"
    message += f": {words}" if words else ""
    return message + (f" ({has})" if has else ""), f"{way_out}\n{done}" if way_out else done


def _unreachable(result: SessionResult, phase: PhaseResult, config: Config, *, was_silent: bool) -> str:
    """Return what to look at where nobody listens: whoever has answered before is no wrong address."""
    before = [other for other in result.phases[: result.phases.index(phase)] if other.counts.ok]
    if not before:
        return models.silent(config) if was_silent else models.unreachable(config)
    return f"it answered in phase {before[-1].name}: is it still up?"


def _main_failure(phase: PhaseResult) -> tuple[str, dict[str, Any]]:
    details = sorted(phase.report.get("failure_details") or [], key=lambda detail: -detail["count"])
    if details:
        return str(details[0]["class"]), details[0]
    failures = sorted(phase.failures.items(), key=lambda item: -item[1])
    return (failures[0][0] if failures else "connect"), {}


def _of(phase: PhaseResult, config: Config) -> str:
    total = config.requests if phase.type == "performance" else None
    return f" of {figures.whole(total)}" if total is not None else ""


def _other_api(config: Config) -> str:
    if config.api.startswith("ollama"):
        return "does it speak Ollama's API? OpenAI's is --api chat, completions or embeddings"
    return f"it lists models, but has no path of {config.api}: another --api, or another path in the URL"


def _models(config: Config) -> tuple[str, ...]:
    """Return the models that a server has; none where it doesn't say."""
    if config.is_mock or config.more_urls:  # which of several lacks the model, its failures say
        return ()
    try:
        return models.ask(config, configs.api_key(config))
    except TargetError:
        return ()  # the error at hand says more than why its help can't be had
