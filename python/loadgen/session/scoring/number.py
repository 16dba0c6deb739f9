"""Reading the numbers that stand in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

import msgspec

_MOST_DIGITS = 60
# No repetition within a repetition over the same characters, so that a text costs time linear in its length.
_NUMBER = re.compile(
    r"""\\[dt]?frac\{(?P<above>[0-9]{1,18})\}\{(?P<under>[0-9]{1,18})\}
    |(?<![A-Za-z0-9_])(?P<whole>[0-9]{1,3}(?:(?:,|\{,\}|[\u00a0\u202f\u2009])[0-9]{3})+(?![0-9])|[0-9]+)
     (?P<decimals>\.[0-9]+)?(?P<power>[eE][-+]?[0-9]{1,2}(?![0-9]))?
    |(?<![A-Za-z0-9_])(?P<below_one>\.[0-9]+)""",
    re.VERBOSE,
)
_DIVISOR = re.compile(r" ?/ ?([0-9]{1,18})(?![0-9/]|\.[0-9])")
_GROUP_MARKS = re.compile("[,{}\u00a0\u202f\u2009]")
_MINUS = "-\N{MINUS SIGN}\N{EN DASH}"
_CURRENCY = "$€£¥"


class Number(msgspec.Struct, frozen=True, gc=False):
    """A number in a text.

    Args:
        value: Its exact value.
        start: Where it begins, its sign included.
        end: Where it ends.
    """

    value: Fraction
    start: int
    end: int

    def __str__(self) -> str:
        return written(self.value)


def numbers(text: str) -> Iterator[Number]:
    r"""Yield the numbers of a text in order.

    Commas, and no-break or thin spaces, group digits by three; a point begins the decimals. Signs of currency and
    percent are left out, not applied. A hyphen, minus sign or en dash right before a number is its sign, unless a
    letter, digit or closing bracket comes before (``16-3``, ``pages 3–5``). ``3/4`` and ``\frac{3}{4}`` are fractions.
    Digits that follow a Latin letter (``CO2``) are none, nor are those of a number with more than 60.

    Args:
        text: Any text.
    """
    place = 0
    while (found := _NUMBER.search(text, place)) is not None:
        value, place = _value(text, found)
        if value is not None:
            start, is_negative = _sign(text, found.start())
            yield Number(-value if is_negative else value, start, place)


def last(text: str) -> Number | None:
    """Return the last number of a text."""
    found = None
    for found in numbers(text):  # noqa: B007
        pass
    return found


def written(value: Fraction) -> str:
    """Return a value as it is written: with decimals where they end, else as a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    places, rest = 0, value.denominator
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest, count = rest // prime, count + 1
        places = max(places, count)
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _value(text: str, found: re.Match[str]) -> tuple[Fraction | None, int]:
    """Return a number without its sign, ``None`` if it is none, and where it ends."""
    end = found.end()
    if found["above"] is not None:
        under = int(found["under"])
        return (Fraction(int(found["above"]), under) if under else None), end
    if end - found.start() > _MOST_DIGITS:
        return None, end
    if found["below_one"] is not None:
        return Fraction("0" + found["below_one"]), end
    whole = _GROUP_MARKS.sub("", found["whole"])
    if found["decimals"] is None and found["power"] is None and text[found.start() - 1 : found.start()] != "/":
        below = _DIVISOR.match(text, end)
        if below is not None and int(below[1]):
            return Fraction(int(whole), int(below[1])), below.end()
    return Fraction(whole + (found["decimals"] or "") + (found["power"] or "")), end


def _sign(text: str, start: int) -> tuple[int, bool]:
    """Return where a number begins with its signs, and whether it is negative."""
    place = start
    if text[place - 1 : place] in _CURRENCY:
        place -= len(text[place - 1 : place])
        if text[place - 1 : place] == "\\":  # as LaTeX writes it
            place -= 1
    mark, before = text[place - 1 : place], text[max(0, place - 2) : max(0, place - 1)]
    if not mark or mark not in _MINUS or before.isalnum() or before in (")", "]", "}", "_"):
        return place, False
    has_currency = before != "" and before in _CURRENCY
    return place - (2 if has_currency else 1), True
