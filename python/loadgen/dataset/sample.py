"""What a dataset is made of: samples, each with a prompt or the messages of a conversation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

import msgspec

Message: TypeAlias = dict[str, Any]
"""One message in OpenAI's chat form: ``{"role": "user", "content": "…"}``; content may be a list of typed parts."""


class Sample(msgspec.Struct, frozen=True, gc=False):
    """What one request asks. Exactly one of ``prompt`` and ``messages`` is set.

    Args:
        prompt: The text to send, not blank.
        messages: A conversation that ends before the answer wanted; at least one user message holds text.
        output_tokens: How many tokens to ask for, at least 1; None leaves it to the server.
        reference: The answer that the dataset itself gives, if it does.
        target: What a scorer compares the answer with, as the record has it; the letter of an option where there are
            choices. None where answers are not scored, or the record has none.
        choices: The texts of the options, A first, where the answer is one of them.
        session: What it has in common with the others of its session; None where nobody asked.
    """

    prompt: str | None = None
    messages: list[Message] | None = None
    output_tokens: int | None = None
    reference: str | None = None
    target: Any = None
    choices: list[str] | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset(Sequence[Sample]):
    """A sequence of samples that knows where it is from: ``len(dataset)``, ``dataset[i]``, ``for sample in dataset``.

    Args:
        name: The file's name, or how the prompts were made.
        sha256: Hex digest of the file's bytes, or of the prompts that were made.
        samples: The samples, at least one.
        note: What a reader of the report must know of how they came to be; None where there is nothing to say.
    """

    name: str
    sha256: str
    samples: list[Sample]
    note: str | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        return self.samples[index]
