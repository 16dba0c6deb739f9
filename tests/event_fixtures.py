"""The fixtures of the tests of events: contexts that are closed at the end, and subscribers in them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from event_support import WAIT_S, Contexts, Subscriber
from loadgen.event import EventCodec, EventPublisherService, ManagedZMQContext, ZmqMessageSubscriber


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


@pytest.fixture
def listen(contexts: Contexts) -> Callable[..., Subscriber]:
    """Makes a subscriber, on this thread and in a context of its own, that the service has waited for."""

    def made(service: EventPublisherService, *topics: str) -> Subscriber:
        subscriber = ZmqMessageSubscriber(
            contexts(), service.address, EventCodec(), topics=topics or ("",), from_start=True
        )
        assert service.wait_for(subscriber.greeting, WAIT_S)
        return subscriber

    return made
