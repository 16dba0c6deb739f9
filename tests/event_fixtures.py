"""The fixtures of the tests of events: contexts that are closed at the end."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from event_support import Contexts
from loadgen.event import ManagedZMQContext


@pytest.fixture
def contexts() -> Iterator[Contexts]:
    """Makes contexts, and closes them at the test's end without waiting for anybody."""
    with ExitStack() as stack:

        def make() -> ManagedZMQContext:
            ctx = ManagedZMQContext()
            stack.callback(ctx.close, 1.0)
            return ctx

        yield make


@pytest.fixture
def ctx(contexts: Contexts) -> ManagedZMQContext:
    return contexts()
