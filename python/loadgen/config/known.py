"""Words that are not among those there are: errors that name the nearest, or list what there is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from loadgen.config import elsewhere
from loadgen.errors import ConfigError


def nearest(word: object, known: Collection[str]) -> str:
    """Return the word that was probably meant; empty if none comes near.

    Args:
        word: What was given.
        known: The words there are.
    """
    import difflib  # only a mistake needs it

    return next(iter(difflib.get_close_matches(str(word), known, n=1)), "")


def did_you_mean(word: object, known: Collection[str]) -> str:
    """Return that as a question behind the word, in brackets; empty likewise.

    Args:
        word: As for :func:`nearest`.
        known: Likewise.
    """
    close = nearest(word, known)
    return f" (did you mean {close}?)" if close else ""


def hint(word: object, known: Collection[str], are: str = "there are") -> str:
    """Return the way out of an error that meets such a word: the one that was probably meant, or all there are.

    Args:
        word: As for :func:`nearest`.
        known: Likewise.
        are: What stands before all of them, such as ``the topics are``.
    """
    close = nearest(word, known)
    return f"perhaps {close}?" if close else f"{are} {', '.join(known)}"


def listed(words: Sequence[str], most: int = 8) -> str:
    """Return words as an error lists them: ``a, b, c``, or of more than it has room for ``a, b, and 7 more``.

    Args:
        words: The words, at least one.
        most: How many are named.
    """
    rest = len(words) - most
    return ", ".join(words[:most]) + (f", and {rest} more" if rest > 0 else "")


def check_options(
    given: Collection[str], known: Collection[str], beside: Collection[str] = (), owner: str = ""
) -> None:
    """Check the keywords of a call.

    Args:
        given: Their names.
        known: Those there are.
        beside: Those that belong elsewhere.
        owner: Where that is, such as ``Dispatcher``.

    Raises:
        ConfigError: If one isn't known.
    """
    for name in given:
        if name not in known:
            raise ConfigError(f"unknown option {name}", _way_out(name, known, beside, owner))


def _way_out(name: str, known: Collection[str], beside: Collection[str], owner: str) -> str:
    there = elsewhere.ours_of_calls(name, known) or elsewhere.ours(name, known)
    if there:
        return f"here it is {there}" + (", which counts all attempts" if there == "retry" else "")
    there = name if name in beside else elsewhere.ours_of_calls(name, beside)
    if there:
        return f"the {owner} has it" + (f", as {there}" if there != name else "")
    return hint(name, known)


def no_choice(called: str, value: object, known: Collection[str]) -> ConfigError:
    """Return the error for a word that is none of a few.

    Args:
        called: What it was given as.
        value: The word.
        known: Those there are.
    """
    return ConfigError(f"{called} {value!r} is none{did_you_mean(value, known)}", f"choose one of {', '.join(known)}")
