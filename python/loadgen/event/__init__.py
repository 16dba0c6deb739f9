"""Events while a session runs: published over ZMQ in batches, received as records."""

from loadgen.event.codec import EventCodec, MessageCodec
from loadgen.event.context import ManagedZMQContext
from loadgen.event.frame import TOPIC_FRAME_SIZE, FrameError
from loadgen.event.message import MessagePublisher, MessageSubscriber, PublisherStats, SubscriberStats
from loadgen.event.record import EventRecord, EventType
from loadgen.event.service import EventPublisherService
from loadgen.event.zmq_publisher import ZmqMessagePublisher
from loadgen.event.zmq_subscriber import ZmqMessageSubscriber

__all__ = [
    "TOPIC_FRAME_SIZE",
    "EventCodec",
    "EventPublisherService",
    "EventRecord",
    "EventType",
    "FrameError",
    "ManagedZMQContext",
    "MessageCodec",
    "MessagePublisher",
    "MessageSubscriber",
    "PublisherStats",
    "SubscriberStats",
    "ZmqMessagePublisher",
    "ZmqMessageSubscriber",
]
