"""CopyObject heeds `x-amz-copy-source-if-match`.

Stock moto reads the condition and copies all the same. In a bucket without versions it is what
tells the object that was listed from one that has taken its place.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from moto.s3.exceptions import PreconditionFailed
from moto.s3.responses import S3Response


def apply() -> None:
    """Wrap moto's CopyObject."""
    stock_copy = S3Response.copy_object

    def copy_object(self: S3Response) -> Any:
        expected = self.headers.get("x-amz-copy-source-if-match")
        if expected is not None:
            source = urlparse(self.headers["x-amz-copy-source"])
            bucket, _, key = unquote(source.path).removeprefix("/").partition("/")
            version_id = parse_qs(source.query).get("versionId", [None])[0]
            found = self.backend.get_object(bucket, key, version_id=version_id)
            if found is not None and found.etag.strip('"') != expected.strip('"'):
                raise PreconditionFailed(failed_condition="x-amz-copy-source-If-Match")
        return stock_copy(self)

    S3Response.copy_object = copy_object
