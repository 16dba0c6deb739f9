"""Rules of the options that say how requests are spread over several targets."""

from collections.abc import Callable, Collection, Sequence
from math import gcd
from typing import Any

from loadgen.config import secret
from loadgen.config.known import listed
from loadgen.config.options import Config
from loadgen.errors import ConfigError

Name = Callable[[str], str]

LONGEST_ROUND = 65_536
"""Requests of a round of weighted nodes (`LONGEST_ROUND` of rust/src/engine/balance.rs)."""

_SAYS_MORE_OF = {"weights": "weighted", "session_field": "session"}
_LARGEST = 1_000
_SHOWN = 4


def check_balance(config: Config, given: Collection[str], name: Name) -> None:
    """Check the options of balance against each other and the number of targets.

    Args:
        config: Options that are valid one by one.
        given: Names of those that were given, rather than left at their defaults.
        name: How the user calls an option: ``--balance`` or ``balance``.

    Raises:
        ConfigError: If two contradict each other, or one is missing.
    """
    if not config.more_urls and "balance" in given:
        raise ConfigError(
            f"{name('balance')} {config.balance} spreads requests over several URLs, and there is one",
            "name the others too, or leave it out",
        )
    if not config.more_urls and "weights" in given and config.weights is not None:
        raise ConfigError(
            f"{name('weights')} shares requests between several URLs, and there is one",
            "name the others too, or leave it out",
        )
    if config.weights is not None and config.balance != "weighted":
        raise ConfigError(
            f"{name('weights')} needs nodes that are weighted, and the balance is {config.balance}",
            f"add {name('balance')} weighted",
        )
    check_weights(config, name)
    if config.session_field is not None and config.balance != "session":
        raise ConfigError(f"{name('session_field')} needs sessions to be balanced by", f"add {name('balance')} session")
    if config.balance == "session" and config.dataset is None and config.input_tokens is not None:
        raise ConfigError(
            f"{name('balance')} session needs prompts of sessions, and {name('input_tokens')} makes up others",
            f"give {name('dataset')} FILE with a field that says the session",
        )


def misfits(balance: str) -> list[str]:
    """Return the options that say more of another balance than this one.

    Args:
        balance: The balance chosen.
    """
    return [name for name, of in _SAYS_MORE_OF.items() if of != balance]


def check_weights(config: Config, name: Name) -> None:
    """Check that weighted targets have their weights, one each, which make a round.

    Args:
        config: A run's options, or a phase's.
        name: How the user calls an option.

    Raises:
        ConfigError: If they don't.
    """
    weights, nodes = config.weights, len(config.urls)
    if config.balance != "weighted" or not config.more_urls:
        return
    if weights is None:
        shares = ",".join(str(nodes - at) for at in range(min(nodes, _SHOWN)))
        raise ConfigError(
            f"{name('balance')} weighted has no weights", f"give each URL its own: {name('weights')} {shares}"
        )
    if len(weights) != nodes:
        targets = listed([secret.shown_url(url) for url in config.urls], _SHOWN)
        raise ConfigError(
            f"{name('weights')} has {len(weights)} for {nodes} URLs ({targets})",
            "give each URL its own, in their order",
        )
    requests = sum(weights) // gcd(*weights)
    if requests > LONGEST_ROUND:
        raise ConfigError(
            f"{name('weights')} are exact after {requests:,} requests, and a round has at most {LONGEST_ROUND:,}",
            f"give smaller ones, about the same: {_smaller(weights)}",
        )


def _smaller(weights: Sequence[int]) -> str:
    """Return weights of about the same shares, so small that any number of nodes makes a round."""
    scaled = [str(max(1, round(weight * _LARGEST / max(weights)))) for weight in weights]
    return ",".join(scaled)


def balance_of(config: Config) -> dict[str, Any] | None:
    """Return the balance as the engine is told it (``BalanceConfig`` of ``rust/src/engine/balance.rs``).

    Args:
        config: A run's options, or a phase's.

    Returns:
        The balance; ``None`` where there is one target.
    """
    if not config.more_urls:
        return None
    if config.weights is None:
        return {"kind": config.balance}
    return {"kind": config.balance, "weights": list(config.weights)}


def balance_words(balance: dict[str, Any]) -> str:
    """Return a balance as a report says it.

    Args:
        balance: As the engine was told it.
    """
    words = str(balance["kind"]).replace("_", " ")
    weights = balance.get("weights")
    return f"{words} {':'.join(str(weight) for weight in weights)}" if weights else words
