"""The zones' buckets on S3, or on anything that speaks its API.

A source object is always read by its version, so what is judged is what was listed, whatever has
been written to its key since. Nothing here writes, moves or deletes in the raw bucket.

The client is handed in, and its errors are told by their codes, so that this module, which runs in
a Lambda and in a Glue job too, imports no AWS client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from service_core.layout import Zone
from service_core.ports import Listed, ListingPage, ObjectMissingError, Stored
from service_core.source_object import SourceObject

#: Read at once: what stays in a processor's cache on its way from the socket to its hash, its
#: decoding and the disk.
_CHUNK_BYTES = 256 * 1024
#: Up to here an object is small, and read whole.
_SMALL_BYTES = 1024 * 1024
#: S3 copies at most 5 GB in one request, and takes long over it: above this, in parts.
_COPY_BYTES = 1 << 30
_PAGE = 1_000
_LOOK_AHEAD = 50

# 405 is the answer for a delete marker's version, 412 for an unversioned key whose content is no
# longer the one that was listed.
_MISSING = frozenset(
    {"NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed", "405", "PreconditionFailed", "412"}
)
_TAKEN = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})


class Buckets(Protocol):
    """Who knows the zones' buckets: the settings, or a request."""

    def bucket(self, zone: Zone) -> str:
        """The zone's bucket name."""


class S3ObjectStore:
    """Implements `ports.ObjectStore`.

    Args:
        client: A boto3 S3 client.
        buckets: Where the buckets are.
        quickly: Gives the bytes of a small source object, or None where the client is to be asked.
    """

    def __init__(
        self,
        client: Any,
        buckets: Buckets,
        quickly: Callable[[SourceObject], bytes | None] = lambda _: None,
    ) -> None:
        self._s3 = client
        self._buckets = buckets
        self._quickly = quickly

    def bucket(self, zone: Zone) -> str:
        """The zone's bucket name."""
        return self._buckets.bucket(zone)

    def uri(self, zone: Zone, key: str) -> str:
        """`s3://bucket/key`, the key as it is."""
        return f"s3://{self.bucket(zone)}/{key}"

    def read(self, zone: Zone, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissingError: it is not there.
        """
        return bytes(self._get(Bucket=self.bucket(zone), Key=key).read())

    def write(self, zone: Zone, key: str, body: bytes, *, content_type: str = "") -> str:
        """Put an object in one atomic request; returns its URI."""
        self._s3.put_object(
            Bucket=self.bucket(zone), Key=key, Body=body, **_content_type(content_type)
        )
        return self.uri(zone, key)

    def write_once(self, zone: Zone, key: str, body: bytes, *, content_type: str = "") -> bool:
        """Put an object unless one is there; of several at once, exactly one is told True."""
        try:
            self._s3.put_object(
                Bucket=self.bucket(zone),
                Key=key,
                Body=body,
                IfNoneMatch="*",
                **_content_type(content_type),
            )
        except self._s3.exceptions.ClientError as error:
            if _code(error) in _TAKEN:
                return False
            raise
        return True

    def open_source(self, source_object: SourceObject) -> Iterator[bytes]:
        """The bytes of exactly that version, in chunks of a megabyte at most.

        Raises:
            ObjectMissingError: it is not there; raised at once, before any chunk is asked for.
        """
        small = source_object.size <= _SMALL_BYTES
        if small and (whole := self._quickly(source_object)) is not None:
            return iter((whole,))
        body = self._get(**_exactly(source_object))
        return _chunks(body)

    def upload(self, path: Path, zone: Zone, key: str) -> str:
        """Upload a local file, a large one in parts; returns its URI."""
        self._s3.upload_file(Filename=str(path), Bucket=self.bucket(zone), Key=key)
        return self.uri(zone, key)

    def download(self, uri: str, path: Path) -> None:
        """Download an object of any zone to a local file, which is there whole or not at all.

        Raises:
            ObjectMissingError: it is not there.
        """
        bucket, key = split_uri(uri)
        body = self._get(Bucket=bucket, Key=key)
        part = path.with_name(f"{path.name}.part")
        with part.open("wb") as file:
            for chunk in _chunks(body):
                file.write(chunk)
        part.replace(path)

    def copy_source(self, source_object: SourceObject, zone: Zone, key: str) -> str:
        """Copy exactly that version of a source object, untouched; returns the copy's URI.

        Raises:
            ObjectMissingError: it is not there.
        """
        exactly = _exactly(source_object)
        unchanged = {"CopySourceIfMatch": exactly.pop("IfMatch")} if "IfMatch" in exactly else {}
        place = {"Bucket": self.bucket(zone), "Key": key, "CopySource": exactly}
        try:
            if source_object.size < _COPY_BYTES:
                self._s3.copy_object(**place, **unchanged)
            else:
                self._s3.copy(**place, ExtraArgs=unchanged)
        except self._s3.exceptions.ClientError as error:
            if _code(error) in _MISSING:
                raise _missing(source_object.bucket, source_object.key) from None
            raise
        return self.uri(zone, key)

    def list_versions(
        self, prefix: str, *, resume: tuple[str, str] | None = None, limit: int | None = None
    ) -> ListingPage:
        """One page of the raw bucket's versions under a prefix, in key order and newest first
        within a key; delete markers are passed over.

        Args:
            prefix: What the keys begin with.
            resume: What the page before gave; or any key and an empty text, to start after it.
            limit: Versions and delete markers on the page at most; S3 gives no more than 1,000, and
                as many where None is said.
        """
        marker = _markers(resume) if resume else {}
        answer = self._list(prefix, limit or _PAGE, marker)
        versions = list(answer.get("Versions", ()))
        tail: Sequence[Mapping[str, Any]] = ()
        following = None
        if answer.get("IsTruncated"):
            cut = answer["NextKeyMarker"]
            following = (cut, answer.get("NextVersionIdMarker", ""))
            before = max((key for key in _keys(answer) if key != cut), default=None)
            if versions and versions[-1]["Key"] == cut:
                if before is not None:
                    # How many versions of one second a key has decides their sequence. Leaving a
                    # key that may go on to the next page saves asking for the rest of it.
                    versions = [version for version in versions if version["Key"] != cut]
                    following = (before, "")
                else:
                    tail = self._older_of_that_second(versions[-1], _markers(following))
        sequences = _sequences([*versions, *tail])
        return ListingPage(
            objects=tuple(
                Listed(
                    key=version["Key"],
                    version_id=version.get("VersionId"),
                    etag=version["ETag"].strip('"'),
                    size=int(version["Size"]),
                    last_modified=version["LastModified"],
                    is_latest=bool(version["IsLatest"]),
                    sequence=sequence,
                )
                for version, sequence in zip(versions, sequences, strict=False)
            ),
            resume=following,
        )

    def keys(self, zone: Zone, prefix: str) -> Iterator[str]:
        """Every key of a zone under a prefix, in order."""
        pages = self._s3.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket(zone), Prefix=prefix):
            for found in page.get("Contents", ()):
                yield found["Key"]

    def stored(self, zone: Zone, prefix: str) -> Iterator[Stored]:
        """Every object of a zone under a prefix, in key order."""
        pages = self._s3.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket(zone), Prefix=prefix):
            for found in page.get("Contents", ()):
                yield Stored(
                    key=found["Key"],
                    size=int(found["Size"]),
                    etag=found["ETag"].strip('"'),
                    last_modified=found["LastModified"],
                )

    def remove(self, zone: Zone, keys: Iterable[str]) -> None:
        """Remove objects that nothing names. Those that are not there are no error.

        Raises:
            ValueError: the zone is raw, from which nothing is ever removed.
            ClientError: S3 left some of them where they are; it says so object by object, in an
                answer that is otherwise a success.
        """
        if zone is Zone.RAW:
            raise ValueError("Nothing is ever removed from the raw bucket.")
        for batch in _batched(keys, _PAGE):
            answer = self._s3.delete_objects(
                Bucket=self.bucket(zone),
                Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True},
            )
            if left := answer.get("Errors"):
                first = left[0]
                message = (
                    f"{first.get('Message', '')} ({len(left)} of {len(batch)} objects are left "
                    f"where they are, s3://{self.bucket(zone)}/{first['Key']} for one)"
                )
                error = {"Code": first.get("Code", ""), "Message": message}
                raise self._s3.exceptions.ClientError({"Error": error}, "DeleteObjects")

    def _get(self, **what: Any) -> Any:
        try:
            return self._s3.get_object(**what)["Body"]
        except self._s3.exceptions.ClientError as error:
            if _code(error) in _MISSING:
                raise _missing(what["Bucket"], what["Key"]) from None
            raise

    def _list(self, prefix: str, limit: int, marker: Mapping[str, str]) -> Any:
        # boto3 asks for url-encoded keys by itself and decodes them, which is what makes a
        # control character in a key survive the XML of the answer.
        return self._s3.list_object_versions(
            Bucket=self.bucket(Zone.RAW), Prefix=prefix, MaxKeys=limit, **marker
        )

    def _older_of_that_second(
        self, last: Mapping[str, Any], marker: Mapping[str, str]
    ) -> list[Mapping[str, Any]]:
        """Versions beyond the page that share the key and the second of its last one: how many
        there are decides the sequence of those on the page."""
        found: list[Mapping[str, Any]] = []
        while True:
            answer = self._list(last["Key"], _LOOK_AHEAD, marker)
            for version in answer.get("Versions", ()):
                if _second(version) != _second(last):
                    return found
                found.append(version)
            if not answer.get("IsTruncated") or answer["NextKeyMarker"] != last["Key"]:
                return found
            marker = _markers((answer["NextKeyMarker"], answer.get("NextVersionIdMarker", "")))


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an `s3://` URI; the key may hold anything, `?` and `#` too.

    Raises:
        ValueError: it is none.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme not in {"s3", "s3a"} or not bucket or not key:
        raise ValueError(f"{uri!r} is no URI of an object; expected s3://bucket/key.")
    return bucket, key


def _keys(answer: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("Versions", "DeleteMarkers"):
        for listed in answer.get(kind, ()):
            yield listed["Key"]


def _exactly(source_object: SourceObject) -> dict[str, Any]:
    exactly: dict[str, Any] = {"Bucket": source_object.bucket, "Key": source_object.key}
    if source_object.version_id is not None:
        exactly["VersionId"] = source_object.version_id
    if source_object.if_match is not None:
        exactly["IfMatch"] = source_object.if_match
    return exactly


def _sequences(versions: Sequence[Mapping[str, Any]]) -> list[int]:
    """For each version, newest first, how many older ones share its key and second.

    Counted from the old end, because that does not change as newer versions arrive.
    """
    sequences: list[int] = []
    older = -1
    following: tuple[str, datetime] | None = None
    for version in reversed(versions):
        older = older + 1 if _second(version) == following else 0
        following = _second(version)
        sequences.append(older)
    return sequences[::-1]


def _second(version: Mapping[str, Any]) -> tuple[str, datetime]:
    return version["Key"], version["LastModified"]


def _markers(resume: tuple[str, str]) -> dict[str, str]:
    key, version_id = resume
    return {"KeyMarker": key, **({"VersionIdMarker": version_id} if version_id else {})}


def _chunks(body: Any) -> Iterator[bytes]:
    with body:
        yield from body.iter_chunks(_CHUNK_BYTES)


def _batched(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    given = iter(keys)
    while batch := list(islice(given, size)):
        yield batch


def _content_type(content_type: str) -> dict[str, str]:
    return {"ContentType": content_type} if content_type else {}


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _missing(bucket: str, key: str) -> ObjectMissingError:
    return ObjectMissingError(
        f"s3://{bucket}/{key} is not there, or that version of it is not. It may have been deleted."
    )
