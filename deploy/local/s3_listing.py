"""S3's listings: in S3's order, safe for any key, and not the slower the more is there.

Stock moto deep-copies and sorts every version of the whole bucket for each page (100,000 keys:
85 s), sorts versions of one millisecond oldest first and then calls the oldest the latest, starts
after the marker for one listing and at it for the other, and ignores `encoding-type` when it lists
versions, so that a control character in a key makes XML that no client can read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from moto.core.responses import ActionResult
from moto.s3.models import FakeBucket, FakeDeleteMarker, S3Backend
from moto.s3.responses import S3Response

_PAGE = 1_000
_OWNER = {"ID": "0" * 64, "DisplayName": "embedded"}


def apply() -> None:
    """Replace moto's ListObjectVersions and ListObjectsV2 wherever no delimiter is asked for."""
    stock_versions = S3Response.list_object_versions
    stock_objects = S3Backend.list_objects_v2

    def list_object_versions(self: S3Response) -> Any:
        asked = {name: values[0] for name, values in self.querystring.items()}
        if asked.get("delimiter"):
            return stock_versions(self)
        bucket = self.backend.get_bucket(self.bucket_name)
        limit = min(int(asked.get("max-keys", _PAGE)), _PAGE)
        prefix, key_marker = asked.get("prefix", ""), asked.get("key-marker", "")
        following = _versions(bucket, prefix, key_marker, asked.get("version-id-marker", ""))
        page = [entry for entry, _ in zip(following, range(limit), strict=False)]
        more = limit > 0 and _is_left(bucket, prefix, page)

        encoding = asked.get("encoding-type")
        spelled = quote if encoding == "url" else str
        result: dict[str, Any] = {
            "Name": bucket.name,
            "Prefix": spelled(prefix),
            "KeyMarker": spelled(key_marker),
            "VersionIdMarker": asked.get("version-id-marker", ""),
            "MaxKeys": limit,
            "IsTruncated": more,
            "EncodingType": encoding,
            "Versions": [
                {
                    "Key": spelled(version.name),
                    "VersionId": version.version_id,
                    "IsLatest": latest,
                    "LastModified": version.last_modified_ISO8601,
                    "ETag": version.etag,
                    "Size": version.size,
                    "StorageClass": version.storage_class,
                    "Owner": _OWNER,
                }
                for version, latest in page
                if not isinstance(version, FakeDeleteMarker)
            ],
            "DeleteMarkers": [
                {
                    "Key": spelled(version.name),
                    "VersionId": version.version_id,
                    "IsLatest": latest,
                    "LastModified": version.last_modified_ISO8601,
                    "Owner": _OWNER,
                }
                for version, latest in page
                if isinstance(version, FakeDeleteMarker)
            ],
        }
        if more:
            result["NextKeyMarker"] = spelled(page[-1][0].name)
            result["NextVersionIdMarker"] = page[-1][0].version_id
        self.data["Action"] = "ListObjectVersions"
        return self.serialized(ActionResult(result))

    def list_objects_v2(
        self: S3Backend,
        bucket: FakeBucket,
        prefix: str | None,
        delimiter: str | None,
        continuation_token: str | None,
        start_after: str | None,
        max_keys: int,
    ) -> Any:
        if delimiter or not isinstance(bucket, FakeBucket):
            return stock_objects(
                self, bucket, prefix, delimiter, continuation_token, start_after, max_keys
            )
        after = start_after or ""
        if continuation_token:
            after = self._pagination_tokens.get(continuation_token) or after
        found = []
        for name in _names(bucket, prefix or "", after):
            newest = bucket.keys[name]
            if not isinstance(newest, FakeDeleteMarker):
                found.append(newest)
            if len(found) > max_keys:
                break
        return self._truncate_result(found, max_keys)

    S3Response.list_object_versions = list_object_versions
    S3Backend.list_objects_v2 = list_objects_v2


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


def _is_left(bucket: FakeBucket, prefix: str, page: list[tuple[Any, bool]]) -> bool:
    if not page:
        return False
    last = page[-1][0]
    return next(_versions(bucket, prefix, last.name, last.version_id), None) is not None
