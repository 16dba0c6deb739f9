"""What a call cost in tokens, where its value tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens"))


def usage_of(value: Any) -> tuple[int, int]:
    """Return the tokens of prompt and answer by the value's ``usage``, as openai's, litellm's and anthropic's have it.

    Args:
        value: What a callable returned.

    Returns:
        Both counts; 0 where the value doesn't tell.
    """
    usage = value.get("usage") if isinstance(value, dict) else getattr(value, "usage", None)
    if usage is None:
        return 0, 0
    for names in _NAMES:
        found = tuple(_count(usage, name) for name in names)
        if any(found):
            return found[0], found[1]
    return 0, 0


def _count(usage: Any, name: str) -> int:
    count = usage.get(name) if isinstance(usage, Mapping) else getattr(usage, name, None)
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**32 else 0
