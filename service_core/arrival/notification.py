"""A notification that an object was created, in either of the forms in which S3 sends it.

Straight to a queue, S3 sends `Records` with keys in URL encoding; by way of EventBridge it sends
one event with the key as it is. Whatever else lies in the queue is either known to be no arrival,
and ignored, or not understood, and said to be so; it is never taken for an arrival by guessing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from service_core.source_object import source_object_id


class NotUnderstoodError(Exception):
    """A message says nothing that is known; the message is the reason, in a sentence."""


@dataclass(frozen=True, slots=True)
class Created:
    """One object that was created, as a notification has it.

    Attributes:
        key: Exactly as S3 has it.
        version_id: None where the notification names none.
        at: When it happened, by S3's clock; None where the notification does not say.
    """

    bucket: str
    key: str
    version_id: str | None = None
    etag: str | None = None
    size: int | None = None
    at: datetime | None = None

    @property
    def object_id(self) -> str | None:
        """The source object's id, where the notification says enough to have it."""
        if self.version_id in (None, "null") and (self.etag is None or self.size is None):
            return None
        return source_object_id(
            self.bucket, self.key, self.version_id, self.etag or "", self.size or 0
        )


def read_notification(body: str, bucket: str) -> tuple[Created, ...]:
    """What was created, by a message's body; nothing where it is no news of that.

    Args:
        body: The message as it lay in the queue.
        bucket: The raw bucket: what is about another does not belong in the queue.

    Raises:
        NotUnderstoodError: it is no notification of this bucket's.
    """
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise NotUnderstoodError("The message is no JSON.") from None
    if not isinstance(told, dict):
        raise NotUnderstoodError(f"The message is a JSON {type(told).__name__}, no object.")
    if told.get("Event") == "s3:TestEvent":
        # What S3 sends when the bucket's notifications are set up.
        return ()
    if "Records" in told:
        records = told["Records"]
        if not isinstance(records, list):
            raise NotUnderstoodError("`Records` is no list.")
        found = [_record(record, bucket) for record in records]
        return tuple(one for one in found if one is not None)
    if "detail-type" in told:
        event = _event(told, bucket)
        return (event,) if event is not None else ()
    raise NotUnderstoodError("The message has neither `Records` nor `detail-type`.")


def _record(record: Any, bucket: str) -> Created | None:
    name = _text(record, "eventName")
    if not name.startswith("ObjectCreated:") and not name.startswith("s3:ObjectCreated:"):
        return None
    about = _mapping(_mapping(record, "s3"), "object")
    return _created(
        _text(_mapping(_mapping(record, "s3"), "bucket"), "name"),
        bucket,
        # S3 encodes keys in records as in a form: `+` is a space.
        unquote_plus(_text(about, "key")),
        about.get("versionId"),
        about,
        record.get("eventTime"),
    )


def _event(told: Mapping[str, Any], bucket: str) -> Created | None:
    if told["detail-type"] != "Object Created":
        if told.get("source") == "aws.s3":
            return None
        raise NotUnderstoodError(f"An event {told['detail-type']!r} is not S3's.")
    detail = _mapping(told, "detail")
    about = _mapping(detail, "object")
    named = _text(_mapping(detail, "bucket"), "name")
    key = _text(about, "key")
    return _created(named, bucket, key, about.get("version-id"), about, told.get("time"))


def _created(
    named: str, bucket: str, key: str, version_id: Any, about: Mapping[str, Any], at: Any
) -> Created:
    if named != bucket:
        raise NotUnderstoodError(f"It is about the bucket {named!r}, not about {bucket!r}.")
    etag, size = about.get("etag", about.get("eTag")), about.get("size")
    return Created(
        bucket=bucket,
        key=key,
        version_id=version_id if isinstance(version_id, str) and version_id else None,
        etag=etag.strip('"') if isinstance(etag, str) else None,
        size=size if isinstance(size, int) else None,
        at=_time(at),
    )


def _mapping(of: Any, key: str) -> Mapping[str, Any]:
    found = of.get(key) if isinstance(of, dict) else None
    if not isinstance(found, dict):
        raise NotUnderstoodError(f"It has no object `{key}` where S3's notifications have one.")
    return found


def _text(of: Any, key: str) -> str:
    found = of.get(key) if isinstance(of, dict) else None
    if not isinstance(found, str) or not found:
        raise NotUnderstoodError(f"It has no text `{key}` where S3's notifications have one.")
    return found


def _time(at: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(at) if isinstance(at, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
