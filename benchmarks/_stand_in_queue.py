"""The stand-in's queue: notifications of what was created, as S3 sends them straight to SQS, and
what SQS does with them. Ten messages at most in a request; hidden once received; gone once deleted.
None can be sent: a benchmark that puts messages off is to fail.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus

_TEN = 10


def notification(bucket: str, key: str, version: str, size: int, at: datetime) -> str:
    """One message's body, with all that S3 puts into it."""
    return json.dumps(
        {
            "Records": [
                {
                    "eventVersion": "2.1",
                    "eventSource": "aws:s3",
                    "awsRegion": "us-east-1",
                    "eventTime": f"{at:%Y-%m-%dT%H:%M:%S}.000Z",
                    "eventName": "ObjectCreated:Put",
                    "userIdentity": {"principalId": "AWS:AROAEXAMPLE:producer"},
                    "requestParameters": {"sourceIPAddress": "192.0.2.1"},
                    "responseElements": {
                        "x-amz-request-id": version[:16].upper(),
                        "x-amz-id-2": version * 2,
                    },
                    "s3": {
                        "s3SchemaVersion": "1.0",
                        "configurationId": "lakegate-arrivals",
                        "bucket": {
                            "name": bucket,
                            "ownerIdentity": {"principalId": "A3EXAMPLE"},
                            "arn": f"arn:aws:s3:::{bucket}",
                        },
                        "object": {
                            "key": quote_plus(key),
                            "size": size,
                            "eTag": version,
                            "versionId": version,
                            "sequencer": version[:18].upper(),
                        },
                    },
                }
            ]
        }
    )


class Queue:
    """Messages, in the order in which they came."""

    def __init__(self, bodies: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._ready = deque(
            {
                "MessageId": f"{n:08x}-0000-4000-8000-000000000000",
                "ReceiptHandle": f"{n}",
                "MD5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
                "Body": body,
            }
            for n, body in enumerate(bodies)
        )
        self._in_hand: dict[str, tuple[float, dict[str, Any]]] = {}

    def receive(self, asked: dict[str, Any]) -> dict[str, Any]:
        """`ReceiveMessage`; waits for nothing, as nothing comes."""
        most = min(int(asked.get("MaxNumberOfMessages", 1)), _TEN)
        until = time.monotonic() + float(asked.get("VisibilityTimeout", 30))
        with self._lock:
            if not self._ready:
                self._bring_back()
            given = [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
            self._in_hand.update((one["ReceiptHandle"], (until, one)) for one in given)
        return {"Messages": given} if given else {}

    def delete(self, asked: dict[str, Any]) -> dict[str, Any]:
        """`DeleteMessageBatch`."""
        with self._lock:
            for entry in asked["Entries"]:
                self._in_hand.pop(entry["ReceiptHandle"], None)
        return _all_done(asked)

    def change_visibility(self, asked: dict[str, Any]) -> dict[str, Any]:
        """`ChangeMessageVisibilityBatch`."""
        with self._lock:
            for entry in asked["Entries"]:
                if (held := self._in_hand.get(entry["ReceiptHandle"])) is not None:
                    until = time.monotonic() + float(entry["VisibilityTimeout"])
                    self._in_hand[entry["ReceiptHandle"]] = (until, held[1])
        return _all_done(asked)

    def attributes(self) -> dict[str, Any]:
        """`GetQueueAttributes`."""
        with self._lock:
            counts = {"": len(self._ready), "NotVisible": len(self._in_hand), "Delayed": 0}
        return {
            "Attributes": {
                f"ApproximateNumberOfMessages{name}": str(count) for name, count in counts.items()
            }
        }

    def _bring_back(self) -> None:
        """What has been in hand for too long is there again."""
        now = time.monotonic()
        for handle in [h for h, (until, _) in self._in_hand.items() if until <= now]:
            self._ready.append(self._in_hand.pop(handle)[1])


def _all_done(asked: dict[str, Any]) -> dict[str, Any]:
    return {"Successful": [{"Id": entry["Id"]} for entry in asked["Entries"]], "Failed": []}
