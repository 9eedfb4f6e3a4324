"""A page that is read the short way says what botocore would have said of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest

from service_core.layout import Zone
from service_core.settings import Settings

EVENT = "before-parse.s3.ListObjectVersions"


@pytest.mark.parametrize("size", [3, 1_000])
def test_a_page_is_what_an_ordinary_client_gives(
    settings: Settings, aws: Callable[[str], Any], size: int
) -> None:
    quick, bucket = aws("s3"), settings.bucket(Zone.RAW)
    for key in ("o/a b+%", "o/ä\n😀", "o/c", "o/c", "o/d", "other"):
        quick.put_object(Bucket=bucket, Key=key, Body=key.encode())
    quick.delete_object(Bucket=bucket, Key="o/c")
    ordinary = boto3.session.Session().client("s3", endpoint_url=settings.endpoint_of("s3"))
    asked: dict[str, Any] = {"Bucket": bucket, "Prefix": "o/", "MaxKeys": size}
    while True:
        page, expected = (c.list_object_versions(**asked) for c in (quick, ordinary))
        for kind in ("Versions", "DeleteMarkers"):
            assert len(page.get(kind, ())) == len(expected.get(kind, ()))
            for mine, theirs in zip(page.get(kind, ()), expected.get(kind, ()), strict=True):
                assert mine == {name: theirs[name] for name in mine}
        assert page["IsTruncated"] == expected["IsTruncated"]
        if not page["IsTruncated"]:
            break
        markers = {name: page[f"Next{name}"] for name in ("KeyMarker", "VersionIdMarker")}
        assert markers == {name: expected[f"Next{name}"] for name in markers}
        asked |= markers


@pytest.mark.parametrize(
    "body", [b"<Error><Code>InternalError</Code></Error>", b"<ListVersionsResult><Version>", b""]
)
def test_an_error_and_half_a_page_are_left_to_botocore(
    aws: Callable[[str], Any], body: bytes
) -> None:
    """S3 may answer status 200 and an error; botocore tries again then."""
    answer = {"status_code": 200, "body": body, "headers": {}}
    read: dict[str, Any] = {}
    events = aws("s3").meta.events
    model = aws("s3").meta.service_model.operation_model("ListObjectVersions")
    events.emit(EVENT, response_dict=answer, customized_response_dict=read, operation_model=model)
    assert answer["body"] == body
    assert read == {}
