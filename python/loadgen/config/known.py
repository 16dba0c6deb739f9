"""Words that are not among those there are: errors that name the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from loadgen.errors import ConfigError


def check_options(given: Collection[str], known: Collection[str]) -> None:
    """Check the keywords of a call.

    Args:
        given: Their names.
        known: Those there are.

    Raises:
        ConfigError: If one isn't known.
    """
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"unknown option {name}", f"perhaps {close[0]}?" if close else f"there are {', '.join(known)}"
            )


def no_choice(called: str, value: object, known: Collection[str]) -> ConfigError:
    """Return the error for a word that is none of a few.

    Args:
        called: What it was given as.
        value: The word.
        known: Those there are.
    """
    close = difflib.get_close_matches(str(value), known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return ConfigError(f"{called} {value!r} is none{hint}", f"choose one of {', '.join(known)}")
