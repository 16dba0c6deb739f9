"""Synthetic prompts: common words in seeded random order, of an exact length in tokens, or in words."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from loadgen.dataset.sample import Dataset, Sample
from loadgen.dataset.tokenizer import open_tokenizer
from loadgen.dataset.words import WORDS
from loadgen.errors import DatasetError
from loadgen.speech import option

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LENGTH = 128
"""Tokens of a prompt when nobody says."""

_SAMPLES = 1000
_BUDGET = 4_000_000  # words in all when nobody says how many samples: some 25 MB of text, about a second to make
_TRIES = 32
_ROUNDS = 8  # of more words that make no more tokens; real tokenizers join a word to the text before it now and then


def synthetic(
    input_tokens: int | None,
    *,
    output_tokens: int | None,
    tokenizer: str | Path | None,
    seed: int,
    samples: int | None,
) -> Dataset:
    """Make distinct prompts; sample *i* is the same whatever their number.

    Args:
        input_tokens: Tokens in each prompt (the chat template's not counted), at least 1; None makes 128.
        output_tokens: Tokens to ask for.
        tokenizer: A ``tokenizer.json`` or its directory; None lets a word count as a token.
        seed: Seed of the words.
        samples: How many, at least 1; None makes 1,000, fewer where they are long or so many don't exist.
    Raises:
        DatasetError: If the tokenizer can't be used, makes no more tokens of more words, or so many distinct prompts of
            that length don't exist.
    """
    length = input_tokens or LENGTH
    wanted = samples or max(16, min(_SAMPLES, _BUDGET // length))
    make = _by_words if tokenizer is None else _by_tokens(open_tokenizer(tokenizer), tokenizer)
    prompts = _distinct(make, random.Random(seed), length, wanted)
    if len(prompts) < wanted and (samples is not None or not prompts):
        raise DatasetError(
            f"only {len(prompts)} distinct prompts of {length} tokens could be made, not {wanted}",
            f"ask for longer ones: {option('input_tokens')}",
        )
    unit = "words" if tokenizer is None else "tokens"
    note = None
    if tokenizer is None:
        note = "lengths are in words; a tokenizer counts more (--tokenizer FILE makes them exact)"
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(prompt.encode())
        digest.update(b"\n")
    made = [Sample(prompt=prompt, output_tokens=output_tokens) for prompt in prompts]
    return Dataset(f"synthetic, {length} {unit}", digest.hexdigest(), made, note)


def _distinct(
    make: Callable[[random.Random, int], str | None], rng: random.Random, length: int, count: int
) -> list[str]:
    seen: dict[str, None] = {}
    while len(seen) < count:
        for _ in range(_TRIES):
            prompt = make(rng, length)
            if prompt is not None and prompt not in seen:
                seen[prompt] = None
                break
        else:
            break
    return list(seen)


def _by_words(rng: random.Random, length: int) -> str:
    # Only `random()` is promised to give the same numbers in every version of Python, so `choices` isn't used.
    draw, n = rng.random, len(WORDS)
    return " ".join([WORDS[int(draw() * n)] for _ in range(length)])


def _by_tokens(tokenizer: Tokenizer, path: str | Path) -> Callable[[random.Random, int], str | None]:
    def make(rng: random.Random, length: int) -> str | None:
        """Cut words off at the token wanted; None where the cut made the rest fall into other tokens."""
        text = _by_words(rng, length)
        encoding = tokenizer.encode(text, add_special_tokens=False)
        most = stuck = 0
        while len(encoding.ids) < length:
            stuck = stuck + 1 if len(encoding.ids) <= most else 0
            most = max(most, len(encoding.ids))
            if stuck == _ROUNDS:
                raise DatasetError(
                    f"the tokenizer {path} makes {most} tokens of {len(text.split())} words, and no more of more: "
                    f"prompts of {length} tokens can't be made",
                    f"name the model's own: {option('tokenizer', 'FILE')}",
                )
            text = f"{text} {_by_words(rng, length - len(encoding.ids))}"
            encoding = tokenizer.encode(text, add_special_tokens=False)
        text = text[: encoding.offsets[length - 1][1]]
        exact = len(tokenizer.encode(text, add_special_tokens=False).ids) == length
        return text if exact and text.strip() else None

    return make
