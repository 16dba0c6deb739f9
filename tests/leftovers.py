"""A test leaves no asyncio task behind: one that is collected unfinished, or with an error that nobody asked for, is
told to the log alone, and while whichever later test is running then.
"""

import gc
import logging
from collections.abc import Iterator

import pytest

TOLD = ("was destroyed but it is pending", "exception was never retrieved")

_left: list[str] = []


class _Listener(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if any(words in record.getMessage() for words in TOLD):
            _left.append(self.format(record))


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left_behind() -> Iterator[None]:
    listener = _Listener()
    log = logging.getLogger("asyncio")
    log.addHandler(listener)
    yield
    gc.collect()  # what this file left is its own, and found here
    log.removeHandler(listener)
    left, _left[:] = _left.copy(), []
    assert not left, "a test of this file left behind:\n" + "\n".join(left)
