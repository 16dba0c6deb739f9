"""The fixture of the tests of metrics: a loop whose clock goes on by itself."""

from collections.abc import Iterator

import pytest

from metrics_support import PausedLoop


@pytest.fixture
def paused() -> Iterator[PausedLoop]:
    loop = PausedLoop()
    yield loop
    loop.close()
