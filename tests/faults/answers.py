"""How each service words a failure: status, headers and body as AWS sends them."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from tests.faults.plan import Call, Kind

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

#: Status, content type, body.
Answer = tuple[int, str, bytes]

_THROTTLED = {
    "s3": (503, "SlowDown", "Please reduce your request rate."),
    "dynamodb": (
        400,
        "ProvisionedThroughputExceededException",
        "The level of configured provisioned throughput for the table was exceeded.",
    ),
    "glue": (400, "ThrottlingException", "Rate exceeded"),
    "events": (400, "ThrottlingException", "Rate exceeded"),
}
_ERROR_500 = {
    "s3": "InternalError",
    "dynamodb": "InternalServerError",
    "glue": "InternalServiceException",
    "events": "InternalException",
}
_ERROR_503 = {"s3": "ServiceUnavailable"}


def failure(kind: Kind, call: Call) -> Answer:
    """The answer of a service that refuses a call in one of the ways that are answers."""
    service = call.service
    if kind is Kind.THROTTLED:
        status, code, message = _THROTTLED.get(service, (400, "ThrottlingException", "Rate"))
    elif kind is Kind.CONFLICT:
        status, code, message = 400, "ConcurrentModificationException", "Update table failed"
    elif kind is Kind.ERROR_500:
        status, code, message = 500, _ERROR_500.get(service, "InternalFailure"), "We failed."
    else:
        status, code, message = (
            503,
            _ERROR_503.get(service, "ServiceUnavailableException"),
            "Come back later.",
        )
    if service == "s3":
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f"<Error><Code>{code}</Code><Message>{message}</Message>"
            "<RequestId>F</RequestId><HostId>F</HostId></Error>"
        )
        return status, "application/xml", xml.encode()
    body = json.dumps({"__type": code, "message": message}).encode()
    return status, "application/x-amz-json-1.1", body


def stale(body: bytes, newest: int) -> bytes:
    """A listing as it was a moment ago: without the `newest` versions or keys that were written
    last. What is left of a key says of itself that it is its latest, as it did then."""
    ElementTree.register_namespace("", _NAMESPACE)
    root = ElementTree.fromstring(body)
    kinds = {f"{{{_NAMESPACE}}}{name}" for name in ("Contents", "Version", "DeleteMarker")}
    found = [one for one in root if one.tag in kinds]
    if not found:
        return body

    def text(one: ElementTree.Element, name: str) -> str:
        return one.findtext(f"{{{_NAMESPACE}}}{name}") or ""

    gone = sorted(found, key=lambda one: text(one, "LastModified"))[-newest:]
    for one in gone:
        root.remove(one)
    seen: set[str] = set()
    for one in root:
        latest = one.find(f"{{{_NAMESPACE}}}IsLatest")
        if latest is None:
            continue
        key = text(one, "Key")
        if key not in seen and any(text(g, "Key") == key for g in gone):
            latest.text = "true"
        seen.add(key)
    return ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)


def asked_in_part(call: Call, body: bytes) -> tuple[bytes, dict[str, object]] | None:
    """The half of a request that is carried out, and what the answer then says of the other."""
    asked = json.loads(body)
    if call.operation == "BatchGetItem":
        (table, wanted), *others = asked["RequestItems"].items()
        keys = wanted["Keys"]
        if others or len(keys) < 2:
            return None
        half = len(keys) // 2
        asked["RequestItems"] = {table: {**wanted, "Keys": keys[:half]}}
        return json.dumps(asked).encode(), {
            "UnprocessedKeys": {table: {**wanted, "Keys": keys[half:]}}
        }
    entries = asked["Entries"]
    if len(entries) < 2:
        return None
    refused = {"ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded"}
    left = entries[:-1]
    asked["Entries"] = left
    return json.dumps(asked).encode(), {
        "FailedEntryCount": 1,
        "Entries": [*({"EventId": f"e{n}"} for n in range(len(left))), refused],
    }
