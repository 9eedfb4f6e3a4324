"""SQS's long poll waits without keeping others from the queue, and a long queue is not a slow one.

Stock moto waits inside of the request that waits, in steps of a second, and takes no lock against
others. Where SQS answered one request at a time, nobody could send or delete while somebody waited.
For each message that it gives it also works out all attributes of the queue, and so goes three
times over every message that lies there: ten messages out of 2,000 took 2.7 s.
"""

from __future__ import annotations

import threading
import time
from functools import wraps
from typing import Any

from moto.core.utils import unix_time_millis
from moto.sqs.models import Message, Queue, SQSBackend

_STEP_SECONDS = 0.02
#: Whatever reads and then changes the messages of a queue; S3 and EventBridge send without a
#: request of their own.
_GUARDED = (
    "change_message_visibility",
    "change_message_visibility_batch",
    "create_queue",
    "delete_message",
    "delete_message_batch",
    "delete_queue",
    "purge_queue",
    "send_message",
    "send_message_batch",
    "set_queue_attributes",
)


def apply() -> None:
    """Replace ReceiveMessage and what makes it slow, and guard what changes queues by a lock."""
    lock = threading.RLock()
    for name in _GUARDED:
        setattr(SQSBackend, name, _guarded(getattr(SQSBackend, name), lock))
    stock = SQSBackend.receive_message

    @wraps(stock)
    def receive_message(
        self: SQSBackend, queue_name: str, count: int, wait_seconds_timeout: int, *more: Any
    ) -> list[Message]:
        until = time.monotonic() + wait_seconds_timeout
        while True:
            with lock:
                found = stock(self, queue_name, count, 0, *more)
            if found or time.monotonic() >= until:
                return found
            time.sleep(_STEP_SECONDS)

    SQSBackend.receive_message = receive_message  # type: ignore[method-assign]
    SQSBackend.is_message_valid_based_on_retention_period = _is_kept  # type: ignore[method-assign]
    Queue.messages = property(_ready)  # type: ignore[assignment]


def _ready(queue: Queue) -> list[Message]:
    """The messages that could be received now."""
    now = unix_time_millis()
    return [m for m in queue._messages if m.visible_at < now and m.delayed_until <= now]


def _is_kept(backend: SQSBackend, queue_name: str, message: Message) -> bool:
    """Whether a message is younger than its queue keeps any."""
    kept = int(backend.get_queue(queue_name).message_retention_period)  # type: ignore[attr-defined]
    return message.sent_timestamp + kept * 1_000 > unix_time_millis()  # type: ignore[operator]


def _guarded(method: Any, lock: threading.RLock) -> Any:
    @wraps(method)
    def guarded(*given: Any, **named: Any) -> Any:
        with lock:
            return method(*given, **named)

    return guarded
