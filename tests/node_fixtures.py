"""Fixtures of the node pool's tests: mock servers that go with the test."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from loadgen import _core

Start = Callable[..., _core.MockServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a mock server, told its options as keywords."""
    with ExitStack() as stack:
        yield lambda **config: stack.enter_context(_core.MockServer(json.dumps(config)))
