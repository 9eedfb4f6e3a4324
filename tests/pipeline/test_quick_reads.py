"""Small objects come by the short way, and by the long one whenever the short one cannot."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from resources.aws import clients
from resources.object_store import ObjectStoreResource
from resources.quick_reads import QuickReads
from service_core.layout import Zone
from service_core.ports import ObjectMissingError, ObjectStore
from service_core.s3_store import S3ObjectStore
from service_core.settings import Settings
from service_core.source_object import SourceObject

NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)


@pytest.fixture
def store(settings: Settings) -> S3ObjectStore:
    return ObjectStoreResource.of(settings).store()


@pytest.fixture
def asked(aws: Callable[[str], Any]) -> list[str]:
    """The operations that boto3 was used for since."""
    sent: list[str] = []
    aws("s3").meta.events.register(
        "before-call.s3", lambda model, **_: sent.append(str(model.name))
    )
    return sent


def landed(aws: Callable[[str], Any], settings: Settings, key: str, body: bytes) -> SourceObject:
    bucket = settings.bucket(Zone.RAW)
    answer = aws("s3").put_object(Bucket=bucket, Key=key, Body=body)
    return SourceObject(
        bucket=bucket,
        key=key,
        version_id=answer["VersionId"],
        etag=answer["ETag"].strip('"'),
        size=len(body),
        last_modified=NOW,
        partition="2026-11-21",
    )


def content(store: ObjectStore, source_object: SourceObject) -> bytes:
    return b"".join(store.open_source(source_object))


def test_each_version_of_a_key_is_read_as_itself_and_without_boto3(
    settings: Settings, aws: Callable[[str], Any], store: S3ObjectStore, asked: list[str]
) -> None:
    older = landed(aws, settings, "orders/dt=2026-11-21/a+b c%20d.csv", b"older")
    newer = landed(aws, settings, older.key, b"the newer")
    other = landed(aws, settings, "orders/dt=2026-11-21/a+b c d.csv", b"other")
    asked.clear()
    assert [content(store, o) for o in (older, newer, other)] == [b"older", b"the newer", b"other"]
    assert asked == []


@pytest.mark.parametrize("key", ["a//b.csv", "a/../b.csv", "/a.csv", "a/", "ü.csv", "nl\n.csv"])
def test_a_key_that_would_be_put_in_order_goes_the_long_way(
    settings: Settings, aws: Callable[[str], Any], store: S3ObjectStore, asked: list[str], key: str
) -> None:
    one = landed(aws, settings, key, b"as it is")
    asked.clear()
    assert content(store, one) == b"as it is"
    assert asked == ["GetObject"]


def test_what_is_gone_or_not_what_was_listed_is_missing(
    settings: Settings, aws: Callable[[str], Any], store: S3ObjectStore
) -> None:
    gone = landed(aws, settings, "orders/gone.csv", b"gone")
    aws("s3").delete_object(Bucket=gone.bucket, Key=gone.key, VersionId=gone.version_id)
    bucket = settings.bucket(Zone.MANIFESTS)
    aws("s3").put_object(Bucket=bucket, Key="orders/a.csv", Body=b"1234")
    unversioned = gone.model_copy(
        update={"bucket": bucket, "key": "orders/a.csv", "version_id": None, "etag": "0" * 32}
    )
    for missing in (gone, unversioned):
        with pytest.raises(ObjectMissingError, match="is not there"):
            content(store, missing)


def test_an_object_that_has_another_size_than_was_listed_goes_the_long_way(
    settings: Settings, aws: Callable[[str], Any], store: S3ObjectStore, asked: list[str]
) -> None:
    one = landed(aws, settings, "orders/a.csv", b"whole")
    asked.clear()
    assert content(store, one.model_copy(update={"size": 3})) == b"whole"
    assert asked == ["GetObject"]


def test_a_service_that_cannot_be_reached_by_the_short_way_is_tried_that_way_once(
    settings: Settings, aws: Callable[[str], Any], asked: list[str]
) -> None:
    """boto3 has the retries, and knows the service by another address here."""
    nowhere = clients(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"}))("s3")
    quick = QuickReads(nowhere, settings)
    store = S3ObjectStore(aws("s3"), settings, quick.read)
    several = [landed(aws, settings, f"orders/{n}.csv", b"%d" % n) for n in range(3)]
    asked.clear()
    assert [content(store, one) for one in several] == [b"0", b"1", b"2"]
    assert asked == ["GetObject"] * 3
    assert quick.given_up
