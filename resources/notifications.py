"""The queue of notifications on SQS, and its dead-letter queue.

No message is deleted before what follows from it is safe: a message that is put off, given up or
sent back is written anew first, and deleted then. Who dies in between leaves it twice, which does
no harm.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from resources.settings import SettingsResource
from service_core.ports import Notice, QueueDepth
from service_core.telemetry import logger

_THREADS = 16
#: SQS takes and gives at most ten messages in a request, and delays one by at most 15 minutes.
_TEN = 10
_LONGEST_DELAY_SECONDS = 900
#: Ten messages together may hold 256 KiB; what is said of them beside their bodies counts, too.
_REQUEST_BYTES = 200_000
#: For so long messages are gathered before they are worked on.
_GATHER_SECONDS = 5.0

_T = TypeVar("_T")


class NotificationsError(Exception):
    """The queue cannot be used."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message of the dead-letter queue.

    Attributes:
        id: SQS's id of it.
        reason: Why it was given up; empty where SQS moved it, because it had been received so
            often without being deleted.
        since: Since when it lies there.
    """

    id: str
    body: str
    reason: str
    since: datetime
    handle: str


class SqsNotifications:
    """Implements `ports.Notifications`.

    Args:
        client: A boto3 SQS client, shared between threads.
        queue: The queue's name.
        dead_letters: The dead-letter queue's name.
        visibility_seconds: For how long the queue hides a message that is in hand.
        more_seconds: How long a request waits for more messages. One that does not wait at all
            asks only some of SQS's servers, and may find nothing though something is there.
        longest_wait_seconds: The longest that any request waits: less than the client waits for
            an answer, or waiting would be taken for an outage. SQS allows 20.
    """

    def __init__(
        self,
        client: Any,
        queue: str,
        dead_letters: str,
        *,
        visibility_seconds: float = 120.0,
        more_seconds: int = 1,
        longest_wait_seconds: float = 20.0,
    ) -> None:
        self._sqs = client
        self._queue = queue
        self._dead_letters = dead_letters
        self._visibility = visibility_seconds
        self._more = more_seconds
        self._longest_wait = longest_wait_seconds
        self._urls: dict[str, str] = {}

    def receive(self, *, most: int, wait_seconds: float) -> list[Notice]:
        """Messages, as many as are there and no more than `most`; waits for the first of them."""
        found = self._receive(min(_TEN, most), wait_seconds)
        if not found:
            return []
        # Those that came first must not come back while the last are gathered.
        deadline = time.monotonic() + min(_GATHER_SECONDS, self._visibility / 4)
        tickets = iter(range(len(found), most, _TEN))
        lock = threading.Lock()

        def gather(_: int) -> list[Notice]:
            mine: list[Notice] = []
            while time.monotonic() < deadline:
                with lock:
                    ticket = next(tickets, None)
                if ticket is None:
                    break
                got = self._receive(min(_TEN, most - ticket), self._more)
                if not got:
                    break
                mine += got
            return mine

        for part in _in_threads(gather, range(_THREADS)):
            found += part
        return found

    @contextmanager
    def in_hand(self, notices: Sequence[Notice]) -> Iterator[None]:
        """Keeps messages from coming back for the length of a block, however long that is."""
        over = threading.Event()

        def keep() -> None:
            while not over.wait(self._visibility / 3):
                self._extend(notices)

        keeper = threading.Thread(target=keep, name="notifications-in-hand", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()

    def delete(self, notices: Sequence[Notice]) -> None:
        """Delete messages that are done with. One that cannot be deleted comes back, and is found
        known then."""
        self._delete(self._queue, [notice.handle for notice in notices])

    def postpone(self, notices: Sequence[Notice], seconds: float) -> None:
        """Have messages come back after about so many seconds (at most 15 minutes), as if they had
        never been received: waiting is no failure, and must not bring them nearer to the
        dead-letter queue."""
        delay = max(0, min(int(seconds) + 1, _LONGEST_DELAY_SECONDS))
        entries = [(n, {"MessageBody": n.body, "DelaySeconds": delay}) for n in notices]
        sent = self._send(self._queue, entries)
        self._delete(self._queue, [notice.handle for notice in sent])

    def give_up(self, notices: Sequence[tuple[Notice, str]]) -> None:
        """Move messages to the dead-letter queue, each with the reason."""
        entries = [
            (
                notice,
                {
                    "MessageBody": notice.body,
                    "MessageAttributes": {
                        "reason": {"DataType": "String", "StringValue": reason[:1_000]}
                    },
                },
            )
            for notice, reason in notices
        ]
        sent = self._send(self._dead_letters, entries)
        self._delete(self._queue, [notice.handle for notice in sent])

    def depth(self) -> QueueDepth:
        """How many messages there are."""
        return self._depth(self._queue)

    # --- The dead-letter queue ---------------------------------------------------------------

    def dead_depth(self) -> QueueDepth:
        """How many messages the dead-letter queue holds."""
        return self._depth(self._dead_letters)

    def dead_letters(self, *, most: int = 1_000) -> tuple[DeadLetter, ...]:
        """Look at the dead-letter queue; everything stays there."""
        found = self._dead(most)
        self._show_again(found)
        return tuple(sorted(found, key=lambda letter: (letter.since, letter.id)))

    def redrive(self, ids: frozenset[str] | None, *, most: int = 100_000) -> int:
        """Send dead letters back to the queue, as if they had just come.

        Args:
            ids: Which; None for all.
            most: Messages looked at.

        Returns:
            How many were sent.
        """
        found = self._dead(most)
        wanted = [letter for letter in found if ids is None or letter.id in ids]
        self._show_again([letter for letter in found if letter not in wanted])
        sent = self._send(self._queue, [(one, {"MessageBody": one.body}) for one in wanted])
        self._delete(self._dead_letters, [letter.handle for letter in sent])
        return len(sent)

    def _dead(self, most: int) -> list[DeadLetter]:
        found: dict[str, DeadLetter] = {}
        while len(found) < most:
            answer = self._sqs.receive_message(
                QueueUrl=self._url(self._dead_letters),
                MaxNumberOfMessages=_TEN,
                WaitTimeSeconds=self._more,
                VisibilityTimeout=120,
                AttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            letters = [_dead_letter(message) for message in answer.get("Messages", ())]
            if not any(letter.id not in found for letter in letters):
                break
            found.update((letter.id, letter) for letter in letters)
        return list(found.values())[:most]

    def _show_again(self, letters: Sequence[DeadLetter]) -> None:
        handles = [letter.handle for letter in letters]
        self._change_visibility(self._dead_letters, handles, 0)

    # --- Requests ----------------------------------------------------------------------------

    def _receive(self, most: int, wait_seconds: float) -> list[Notice]:
        answer = self._sqs.receive_message(
            QueueUrl=self._url(self._queue),
            MaxNumberOfMessages=most,
            WaitTimeSeconds=int(min(wait_seconds, self._longest_wait)),
            VisibilityTimeout=int(self._visibility),
        )
        return [Notice(m["ReceiptHandle"], m["Body"]) for m in answer.get("Messages", ())]

    def _extend(self, notices: Sequence[Notice]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            handles = [notice.handle for notice in notices]
            self._change_visibility(self._queue, handles, int(self._visibility))
        except (BotoCoreError, ClientError) as problem:
            # They come back while they are worked on, and are found known then.
            logger().warning("notifications not kept in hand", because=str(problem))

    def _change_visibility(self, queue: str, handles: Sequence[str], seconds: int) -> None:
        url = self._url(queue)

        def change(ten: Sequence[str]) -> None:
            self._sqs.change_message_visibility_batch(
                QueueUrl=url,
                Entries=[
                    {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
                    for n, handle in enumerate(ten)
                ],
            )

        list(_in_threads(change, list(_tens(handles))))

    def _delete(self, queue: str, handles: Sequence[str]) -> None:
        url = self._url(queue) if handles else ""

        def delete(ten: Sequence[str]) -> None:
            self._sqs.delete_message_batch(
                QueueUrl=url,
                Entries=[{"Id": str(n), "ReceiptHandle": h} for n, h in enumerate(ten)],
            )

        list(_in_threads(delete, list(_tens(handles))))

    def _send(self, queue: str, entries: Sequence[tuple[_T, dict[str, Any]]]) -> list[_T]:
        """Send messages; returns those that the queue has now."""
        url = self._url(queue) if entries else ""

        def send(ten: Sequence[tuple[_T, dict[str, Any]]]) -> list[_T]:
            answer = self._sqs.send_message_batch(
                QueueUrl=url, Entries=[{"Id": str(n), **entry} for n, (_, entry) in enumerate(ten)]
            )
            return [ten[int(sent["Id"])][0] for sent in answer.get("Successful", ())]

        return [one for part in _in_threads(send, list(_sendable(entries))) for one in part]

    def _depth(self, queue: str) -> QueueDepth:
        names = ("", "NotVisible", "Delayed")
        attributes = [f"ApproximateNumberOfMessages{name}" for name in names]
        answer = self._sqs.get_queue_attributes(
            QueueUrl=self._url(queue), AttributeNames=attributes
        )
        return QueueDepth(*(int(answer["Attributes"].get(name, 0)) for name in attributes))

    def _url(self, queue: str) -> str:
        if queue not in self._urls:
            try:
                self._urls[queue] = self._sqs.get_queue_url(QueueName=queue)["QueueUrl"]
            except self._sqs.exceptions.QueueDoesNotExist:
                raise NotificationsError(
                    f"There is no queue {queue}. Set LAKEGATE_NOTIFICATIONS to sqs or eventbridge "
                    "and run `lakegate bootstrap`, which makes it."
                ) from None
        return self._urls[queue]


def _dead_letter(message: dict[str, Any]) -> DeadLetter:
    attributes = message.get("Attributes", {})
    sent = int(attributes.get("SentTimestamp", 0)) / 1_000
    reason = message.get("MessageAttributes", {}).get("reason", {}).get("StringValue", "")
    return DeadLetter(
        id=message["MessageId"],
        body=message["Body"],
        reason=reason,
        since=datetime.fromtimestamp(sent, UTC),
        handle=message["ReceiptHandle"],
    )


def _in_threads(work: Callable[[Any], _T], parts: Sequence[Any]) -> Iterator[_T]:
    if len(parts) < 2:
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(min(_THREADS, len(parts))) as pool:
        yield from pool.map(work, parts)


def _tens(values: Sequence[_T]) -> Iterator[list[_T]]:
    given = iter(values)
    while ten := list(islice(given, _TEN)):
        yield ten


def _sendable(entries: Sequence[tuple[_T, dict[str, Any]]]
              ) -> Iterator[list[tuple[_T, dict[str, Any]]]]:  # fmt: skip
    """Tens of messages, fewer where they are long."""
    some: list[tuple[_T, dict[str, Any]]] = []
    size = 0
    for one in entries:
        needs = len(json.dumps(one[1]).encode())
        if some and (len(some) == _TEN or size + needs > _REQUEST_BYTES):
            yield some
            some, size = [], 0
        some.append(one)
        size += needs
    if some:
        yield some


class NotificationsResource(SettingsResource):
    """The queue of notifications: `NotificationsResource.of(settings)`."""

    def queue(self) -> SqsNotifications:
        """The queue itself."""
        from resources.aws import client

        settings = self.settings()
        return SqsNotifications(
            client(settings, "sqs"),
            settings.notifications_queue,
            settings.dead_letter_queue,
            longest_wait_seconds=min(settings.aws_read_seconds / 2, 20),
        )
