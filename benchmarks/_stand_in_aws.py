"""A stand-in for S3, DynamoDB and SQS with a million objects in the bucket, all but some of which
the ledger knows, and with a notification of each of these in the queue. It speaks the services' own
HTTP, so that clients work as they do, and counts requests. Each service answers after as many
milliseconds as are asked for (`delays`), whatever else it is asked meanwhile.

Filling a real server with a million objects takes longer than anybody waits for a benchmark; here
keys are computed when they are asked for. What it answers to a listing and to a look into the
ledger is what S3 and DynamoDB answer; conditions on writes are taken to hold, as nobody else
writes.

    python benchmarks/_stand_in_aws.py '{"objects": 1000000, "new": 100, "layout": "days"}'
"""

from __future__ import annotations

import hashlib
import heapq
import json
import subprocess
import sys
import time
import urllib.request
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any, overload
from urllib.parse import parse_qs, quote, unquote, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from _stand_in_queue import Queue, notification

from service_core.source_object import source_object_id

RAW = "bench-dev-raw"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
#: The keys are laid out over so many days, where they are.
_DAYS = 365


@dataclass(frozen=True, slots=True)
class Known(Sequence[str]):
    """The keys of the objects that the ledger knows, in S3's order, none of them kept in memory.

    Attributes:
        layout: `days`, over a year of daily partitions; `one_day`, all in today's, named by the
            time they came.
    """

    objects: int
    layout: str
    today: datetime

    def __len__(self) -> int:
        return self.objects

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...

    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        if isinstance(at, slice):
            return [self[n] for n in range(*at.indices(self.objects))]
        if not 0 <= at < self.objects:
            raise IndexError(at)
        if self.layout == "days":
            each = -(-self.objects // _DAYS)
            day = self.today - timedelta(days=_DAYS - 1 - at // each)
            return f"orders/dt={day:%Y-%m-%d}/orders_{at % each:08d}.csv"
        return f"orders/dt={self.today:%Y-%m-%d}/orders_{at:08d}.csv"


def new_keys(count: int, layout: str, today: datetime) -> list[str]:
    """The keys of the objects that nobody knows yet: in random places of today's partition, or
    behind all of it."""
    prefix = f"orders/dt={today:%Y-%m-%d}/orders_"
    if layout == "one_day_by_time":
        return [f"{prefix}{99_000_000 + n:08d}.csv" for n in range(count)]
    names = (hashlib.sha256(str(n).encode()).hexdigest()[:12] for n in range(count))
    digits = "0" if layout == "days" else "00"
    return sorted(f"{prefix}{digits}{int(name, 16) % 10**6:06d}_{name}.csv" for name in names)


@dataclass(slots=True)
class Lake:
    """What the stand-in holds."""

    known: Known
    new: list[str]
    queue: Queue
    delays: dict[str, float] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    objects: dict[str, bytes] = field(default_factory=dict)
    items: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    landed: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    unknown: frozenset[str] = frozenset()

    def versions(self, prefix: str, after: str) -> Iterator[str]:
        """Keys under a prefix that follow one of them."""
        start = max(after, prefix[:-1] + chr(ord(prefix[-1]) - 1) + "\U0010ffff")
        found = heapq.merge(_following(self.known, start), _following(self.new, start))
        for key in found:
            if not key.startswith(prefix):
                return
            yield key


def _following(keys: Sequence[str], start: str) -> Iterator[str]:
    return (keys[n] for n in range(bisect_right(keys, start), len(keys)))


LAKE: Lake


class Handler(BaseHTTPRequestHandler):
    """Answers the few requests that a look for arrivals makes."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path, asked = self._asked()
        if path == "/_requests":
            self._answer(json.dumps(LAKE.requests).encode())
        elif "versions" in asked:
            LAKE.requests["ListObjectVersions"] += 1
            self._delay("s3")
            self._answer(self._listing({k: v[0] for k, v in asked.items()}))
        else:
            LAKE.requests["GetObject"] += 1
            self._delay("s3")
            body = LAKE.objects.get(path)
            missing = b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"
            self._answer(body if body is not None else missing, 200 if body is not None else 404)

    def do_PUT(self) -> None:
        path, _ = self._asked()
        LAKE.requests["PutObject"] += 1
        LAKE.objects[path] = self._body()
        self._delay("s3")
        self._answer(b"", headers={"ETag": '"e"'})

    def do_POST(self) -> None:
        service, _, operation = self.headers.get("X-Amz-Target", "").rpartition(".")
        LAKE.requests[operation] += 1
        asked = json.loads(self._body())
        self._delay("sqs" if service == "AmazonSQS" else "dynamodb")
        answer = getattr(self, f"_{operation}")(asked)
        self._answer(json.dumps(answer).encode(), kind="application/x-amz-json-1.0")

    def _listing(self, asked: dict[str, str]) -> bytes:
        prefix, after = asked.get("prefix", ""), asked.get("key-marker", "")
        limit = int(asked.get("max-keys", 1000))
        found = LAKE.versions(prefix, after)
        page = list(islice(found, limit))
        more = len(page) == limit and next(found, None) is not None
        when = f"{LAKE.landed:%Y-%m-%dT%H:%M:%S.000Z}"
        following = (
            f"<NextKeyMarker>{quote(page[-1])}</NextKeyMarker>"
            f"<NextVersionIdMarker>{_version(page[-1])}</NextVersionIdMarker>"
            if more
            else ""
        )
        versions = "".join(
            f"<Version><Key>{quote(key)}</Key><VersionId>{_version(key)}</VersionId>"
            f"<IsLatest>true</IsLatest><LastModified>{when}</LastModified>"
            f"<ETag>&quot;{_version(key)}&quot;</ETag><Size>1000</Size>"
            "<StorageClass>STANDARD</StorageClass>"
            f"<Owner><ID>{'0' * 64}</ID><DisplayName>o</DisplayName></Owner></Version>"
            for key in page
        )
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><ListVersionsResult xmlns="{_NAMESPACE}">'
            f"<Name>{RAW}</Name><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"<EncodingType>url</EncodingType>{following}{versions}</ListVersionsResult>"
        ).encode()

    def _BatchGetItem(self, asked: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, list[Any]] = {}
        for table, wanted in asked["RequestItems"].items():
            found[table] = []
            for key in wanted["Keys"]:
                pk, sk = key["pk"]["S"], key["sk"]["S"]
                item = LAKE.items.get((pk, sk))
                if item is None and pk.startswith("OBJ#") and pk[4:] not in LAKE.unknown:
                    item = _state(pk[4:])
                if item is not None and "ProjectionExpression" in wanted:
                    item = {name: item[name] for name in ("pk", "sk")}
                if item is not None:
                    found[table].append(item)
        return {"Responses": found, "UnprocessedKeys": {}}

    def _TransactWriteItems(self, asked: dict[str, Any]) -> dict[str, Any]:
        for write in asked["TransactItems"]:
            self._PutItem(write["Put"])
        return {}

    def _PutItem(self, asked: dict[str, Any]) -> dict[str, Any]:
        item = asked["Item"]
        LAKE.items[item["pk"]["S"], item["sk"]["S"]] = item
        return {}

    def _DeleteItem(self, asked: dict[str, Any]) -> dict[str, Any]:
        LAKE.items.pop((asked["Key"]["pk"]["S"], asked["Key"]["sk"]["S"]), None)
        return {}

    def _Query(self, asked: dict[str, Any]) -> dict[str, Any]:
        pk = asked["ExpressionAttributeValues"][":pk"]["S"]
        found = [item for key, item in sorted(LAKE.items.items()) if key[0] == pk]
        return {"Items": found, "Count": len(found), "ScannedCount": len(found)}

    def _GetQueueUrl(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"QueueUrl": f"http://{self.headers['Host']}/000000000000/{asked['QueueName']}"}

    def _ReceiveMessage(self, asked: dict[str, Any]) -> dict[str, Any]:
        return LAKE.queue.receive(asked)

    def _DeleteMessageBatch(self, asked: dict[str, Any]) -> dict[str, Any]:
        return LAKE.queue.delete(asked)

    def _ChangeMessageVisibilityBatch(self, asked: dict[str, Any]) -> dict[str, Any]:
        return LAKE.queue.change_visibility(asked)

    def _GetQueueAttributes(self, asked: dict[str, Any]) -> dict[str, Any]:
        return LAKE.queue.attributes()

    def _delay(self, service: str) -> None:
        time.sleep(LAKE.delays.get(service, 0.0) / 1_000)

    def _asked(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        return unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(
        self,
        body: bytes,
        status: int = 200,
        kind: str = "application/xml",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on


def _version(key: str) -> str:
    return hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()


def _state(object_id: str) -> dict[str, Any]:
    """The ledger's item of an object that was published long ago."""
    texts = {
        "pk": f"OBJ#{object_id}", "sk": "STATE", "object_id": object_id, "dataset": "orders",
        "partition": "2026-01-01", "bucket": RAW, "key": "orders/dt=2026-01-01/orders_1.csv",
        "version_id": "v", "state": "published", "batch_id": "0" * 32, "run_id": "r",
        "contract_version": "1.0.0", "contract_hash": "0" * 16,
        "received_at": "2026-01-01T00:00:00.000000+00:00",
        "updated_at": "2026-01-01T00:00:00.000000+00:00",
        "dataset_partition": "orders#2026-01-01", "state_object": f"published#{object_id}",
    }  # fmt: skip
    numbers = {"revision": 4, "size": 1000, "rows_read": 1, "rows_published": 1}
    return {
        **{name: {"S": text} for name, text in texts.items()},
        **{name: {"N": str(number)} for name, number in numbers.items()},
        "late": {"BOOL": False},
    }


@contextmanager
def stand_in(objects: int, new: int, layout: str, **delays: float) -> Iterator[str]:
    """The endpoint of a stand-in in a process of its own.

    Args:
        delays: By service, the milliseconds before each answer.
    """
    asked = {"objects": objects, "new": new, "layout": layout, "delays": delays}
    server = subprocess.Popen([sys.executable, __file__, json.dumps(asked)], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["endpoint"]
    finally:
        server.kill()
        server.wait()


def requests(endpoint: str) -> dict[str, int]:
    """How often each operation was asked for."""
    with urllib.request.urlopen(f"{endpoint}/_requests") as answer:
        return dict(json.loads(answer.read()))


def main() -> None:
    global LAKE
    asked = json.loads(sys.argv[1])
    today = datetime.now(UTC)
    new = new_keys(asked["new"], asked["layout"], today)
    layout = "days" if asked["layout"] == "days" else "one_day"
    ids = frozenset(source_object_id(RAW, key, _version(key), _version(key), 1000) for key in new)
    told = [notification(RAW, key, _version(key), 1000, today) for key in new]
    LAKE = Lake(
        Known(asked["objects"], layout, today),
        new,
        Queue(told),
        delays=asked.get("delays", {}),
        unknown=ids,
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(json.dumps({"endpoint": f"http://127.0.0.1:{server.server_port}"}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
