"""Source objects: one version of one landed object, and the id that follows it everywhere.

The id is a pure function of bucket, key and version, so that everyone who sees the same bytes in
the same place names them alike, and an overwritten key is another source object.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import lru_cache

from pydantic import AwareDatetime, BaseModel, ConfigDict

_ID_CHARACTERS = 32
#: A batch's objects are asked for their ids some fifty times each on their way.
_REMEMBERED = 16_384


@lru_cache(_REMEMBERED)
def source_object_id(bucket: str, key: str, version_id: str | None, etag: str, size: int) -> str:
    """The id of one version of one object: 32 hexadecimal characters.

    In an unversioned bucket S3 gives no version id (or the literal `null`), and ETag with size
    stands in for it.
    """
    version = version_id if version_id not in (None, "", "null") else f"{etag}:{size}"
    # The unit separator cannot make two different triples the same text: each part's length
    # goes before it.
    parts = (bucket, key, str(version))
    text = "".join(f"{len(part)}\x1f{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_ID_CHARACTERS]


class SourceObject(BaseModel):
    """One version of one landed object.

    Attributes:
        bucket: The raw bucket.
        key: The object's key, exactly as S3 gives it.
        version_id: S3's version id; None where the bucket is unversioned.
        etag: S3's ETag without quotes. No checksum: a multipart upload's is of another kind.
        size: Bytes.
        last_modified: When S3 took it, in whole seconds (S3 gives no finer).
        sequence: Orders the versions of one key that share a `last_modified` second, oldest
            first, from the order in which S3 lists versions.
        partition: The landing partition that the key names, or that it is filed under.
        partition_valid: False where the key itself names no partition, so that `partition` is
            the day or hour of arrival.
        late: Whether it arrived after its partition's window had closed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: str
    key: str
    version_id: str | None = None
    etag: str
    size: int
    last_modified: AwareDatetime
    sequence: int = 0
    partition: str
    partition_valid: bool = True
    late: bool = False

    @property
    def id(self) -> str:
        """See `source_object_id`."""
        return source_object_id(self.bucket, self.key, self.version_id, self.etag, self.size)

    @property
    def uri(self) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def if_match(self) -> str | None:
        """The ETag, in quotes, which has to stand still when the object is read; None where its
        version id says which bytes are meant. Without versions, nothing but the ETag tells whether
        it is still what was listed."""
        return f'"{self.etag}"' if self.version_id in (None, "null") else None

    @property
    def order(self) -> tuple[datetime, int]:
        """Sorts the versions of one key, oldest first."""
        return (self.last_modified, self.sequence)
