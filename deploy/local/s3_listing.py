"""S3's listings: in S3's order, safe for any key, and not the slower the more is there.

Stock moto deep-copies and sorts every version of the whole bucket for each page (100,000 keys:
85 s), sorts versions of one millisecond oldest first and then calls the oldest the latest, starts
after the marker for one listing and at it for the other, and ignores `encoding-type` when it lists
versions, so that a control character in a key makes XML that no client can read. Its generic
serialiser takes most of a second for a page of 1,000; what two lists hold is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from moto.s3.models import FakeBucket, FakeDeleteMarker
from moto.s3.responses import S3Response

_PAGE = 1_000
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_OWNER = f"<Owner><ID>{'0' * 64}</ID><DisplayName>embedded</DisplayName></Owner>"


def apply() -> None:
    """Replace moto's ListObjectVersions and ListObjectsV2 wherever no delimiter is asked for."""
    stock_versions = S3Response.list_object_versions
    stock_objects = S3Response.list_objects_v2

    def list_object_versions(self: S3Response) -> Any:
        asked = {name: values[0] for name, values in self.querystring.items()}
        if asked.get("delimiter"):
            return stock_versions(self)
        bucket = self.backend.get_bucket(self.bucket_name)
        limit = min(int(asked.get("max-keys", _PAGE)), _PAGE)
        prefix, key_marker = asked.get("prefix", ""), asked.get("key-marker", "")
        version_marker = asked.get("version-id-marker", "")
        page, more = _cut(_versions(bucket, prefix, key_marker, version_marker), limit)
        spelled = _spelling(asked)
        following = ""
        if more:
            last = page[-1][0]
            following = _tag("NextKeyMarker", spelled(last.name)) + _tag(
                "NextVersionIdMarker", last.version_id
            )
        return _answer(
            "ListVersionsResult",
            _tag("Name", bucket.name),
            _tag("Prefix", spelled(prefix)),
            _tag("KeyMarker", spelled(key_marker)),
            _tag("VersionIdMarker", version_marker),
            following,
            _tag("MaxKeys", str(limit)),
            _tag("IsTruncated", str(more).lower()),
            _encoding(asked),
            *(
                _element(
                    "DeleteMarker" if isinstance(version, FakeDeleteMarker) else "Version",
                    _tag("Key", spelled(version.name)),
                    _tag("VersionId", version.version_id),
                    _tag("IsLatest", str(latest).lower()),
                    _figures(version),
                    _OWNER,
                )
                for version, latest in page
            ),
        )

    def list_objects_v2(self: S3Response) -> Any:
        asked = {name: values[0] for name, values in self.querystring.items()}
        bucket = self.backend.get_bucket(self.bucket_name)
        if asked.get("delimiter") or asked.get("fetch-owner") == "true":
            return stock_objects(self)
        if not isinstance(bucket, FakeBucket) or asked.get("continuation-token") == "":
            return stock_objects(self)
        limit = min(int(asked.get("max-keys", _PAGE)), _PAGE)
        prefix, start = asked.get("prefix", ""), asked.get("start-after", "")
        token = asked.get("continuation-token", "")
        # S3's tokens are opaque; ours is the last key of the page before, in hexadecimal.
        after = bytes.fromhex(token).decode() if token else start
        page, more = _cut(_newest(bucket, prefix, after), limit)
        spelled = _spelling(asked)
        following = _tag("NextContinuationToken", page[-1].name.encode().hex()) if more else ""
        return _answer(
            "ListBucketResult",
            _tag("Name", bucket.name),
            _tag("Prefix", spelled(prefix)),
            _tag("StartAfter", spelled(start)) if start else "",
            _tag("ContinuationToken", token) if token else "",
            following,
            _tag("KeyCount", str(len(page))),
            _tag("MaxKeys", str(limit)),
            _tag("IsTruncated", str(more).lower()),
            _encoding(asked),
            *(
                _element("Contents", _tag("Key", spelled(found.name)), _figures(found))
                for found in page
            ),
        )

    S3Response.list_object_versions = list_object_versions
    S3Response.list_objects_v2 = list_objects_v2


def _names(bucket: FakeBucket, prefix: str, after: str, *, inclusive: bool = False) -> list[str]:
    """The bucket's keys under a prefix that follow one of them, in S3's order of bytes.

    Python's order of code points is the order of their UTF-8 bytes.
    """
    return sorted(
        name
        for name in dict(bucket.keys)
        if name.startswith(prefix) and (name > after or (inclusive and name == after))
    )


def _versions(
    bucket: FakeBucket, prefix: str, key_marker: str, version_marker: str
) -> Iterator[tuple[Any, bool]]:
    """Each version after the marker with whether it is its key's latest: by key, newest first."""
    for name in _names(bucket, prefix, key_marker, inclusive=bool(version_marker)):
        versions = list(reversed(bucket.keys.getlist(name, [])))
        start = 0
        if version_marker and name == key_marker:
            ids = [version.version_id for version in versions]
            start = ids.index(version_marker) + 1 if version_marker in ids else 0
        for position, version in enumerate(versions[start:], start):
            yield version, position == 0


def _newest(bucket: FakeBucket, prefix: str, after: str) -> Iterator[Any]:
    for name in _names(bucket, prefix, after):
        newest = bucket.keys[name]
        if not isinstance(newest, FakeDeleteMarker):
            yield newest


def _cut(found: Iterator[Any], limit: int) -> tuple[list[Any], bool]:
    """A page, and whether there is more; of nothing asked for, nothing follows."""
    page = list(islice(found, limit))
    return page, limit > 0 and next(found, None) is not None


def _spelling(asked: dict[str, str]) -> Callable[[str], str]:
    return quote if asked.get("encoding-type") == "url" else str


def _encoding(asked: dict[str, str]) -> str:
    encoding = asked.get("encoding-type")
    return _tag("EncodingType", encoding) if encoding else ""


def _figures(version: Any) -> str:
    when = _tag("LastModified", version.last_modified_ISO8601)
    if isinstance(version, FakeDeleteMarker):
        return when
    return "".join(
        (
            when,
            _tag("ETag", version.etag),
            _tag("Size", str(version.size)),
            _tag("StorageClass", version.storage_class),
        )
    )


def _answer(root: str, *parts: str) -> tuple[int, dict[str, str], str]:
    declaration = '<?xml version="1.0" encoding="UTF-8"?>'
    body = f'{declaration}<{root} xmlns="{_NAMESPACE}">{"".join(parts)}</{root}>'
    return 200, {"Content-Type": "application/xml"}, body


def _element(name: str, *parts: str) -> str:
    return f"<{name}>{''.join(parts)}</{name}>"


def _tag(name: str, text: str) -> str:
    return f"<{name}>{escape(text)}</{name}>"
