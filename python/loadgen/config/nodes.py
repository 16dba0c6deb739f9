"""Rules of the options that say how requests are spread over several targets."""

from collections.abc import Callable, Collection
from typing import Any

from loadgen.config import secret
from loadgen.config.options import Config
from loadgen.errors import ConfigError

Name = Callable[[str], str]


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
    _weights(config, name)
    if config.session_field is not None and config.balance != "session":
        raise ConfigError(f"{name('session_field')} needs sessions to be balanced by", f"add {name('balance')} session")
    if config.balance == "session" and config.dataset is None and config.input_tokens is not None:
        raise ConfigError(
            f"{name('balance')} session needs prompts of sessions, and {name('input_tokens')} makes up others",
            f"give {name('dataset')} FILE with a field that says the session",
        )


def _weights(config: Config, name: Name) -> None:
    weights, nodes = config.weights, len(config.urls)
    if config.balance == "weighted" and weights is None:
        shares = ",".join(str(nodes - at) for at in range(min(nodes, 4)))
        raise ConfigError(
            f"{name('balance')} weighted has no weights", f"give each URL its own: {name('weights')} {shares}"
        )
    if weights is None:
        return
    if config.balance != "weighted":
        raise ConfigError(
            f"{name('weights')} needs nodes that are weighted, and the balance is {config.balance}",
            f"add {name('balance')} weighted",
        )
    if len(weights) != nodes:
        targets = ", ".join(secret.shown_url(url) for url in config.urls[:4])
        raise ConfigError(
            f"{name('weights')} has {len(weights)} for {nodes} URLs ({targets}{', …' if nodes > 4 else ''})",
            "give each URL its own, in their order",
        )


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
