"""The native engine as a session's issuer: the target, and how to reach it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Unpack

    from loadgen.config import RunOptions


class HttpIssuer:
    """The native HTTP engine. A session's phases say what is sent and when; this says where, and how it is reached.

    Args:
        url: The target, or several, as for :func:`loadgen.run`.
        **options: The run's options by their names: connection, workers, directory, results. What the phases say of
            their requests wins over what is said here.
    """

    def __init__(self, url: str | Sequence[str], **options: Unpack[RunOptions]) -> None:
        self.url = url
        self.options = options

    def __repr__(self) -> str:
        return f"HttpIssuer({', '.join(self.options)})" if self.options else "HttpIssuer()"
