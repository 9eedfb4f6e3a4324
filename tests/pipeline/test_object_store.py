"""The object store reads what was listed, whatever a key holds and whatever happens to it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service_core.layout import Zone
from service_core.ports import Listed, ObjectMissingError, ObjectStore
from service_core.s3_store import S3ObjectStore, split_uri
from service_core.settings import Settings
from service_core.source_object import SourceObject

HOSTILE_KEYS = (
    "a b.csv", " lead", "trail ", "a+b.csv", "a%2Fb.csv", "a%20b", "%", "%zz", "ü/ñ 漢字.csv",
    "emoji😀.csv", "e\u0301", "é", "x/../y.csv", "../up.csv", "./dot", "..", "a/..", "a//b.csv",
    "/lead.csv", "//", "trail/", "c\x01\x1f.csv", "nul\x00.csv", "tab\t.csv", "nl\nx.csv",
    "cr\rx.csv", "\x7f", "\x85", "\u2028", "\ufeffbom", "\uffff", "q?x=1&y=2", "h#f", "a;b",
    "back\\slash", "quote\"'<>&", "~", "{}^`|[]", "a=b,c:d@e!$*()'", "x" * 1000, "dot.",
    "favicon.ico", "moto-api/x",
)  # fmt: skip


def source(listed: Listed, bucket: str) -> SourceObject:
    return SourceObject(
        bucket=bucket,
        key=listed.key,
        version_id=listed.version_id,
        etag=listed.etag,
        size=listed.size,
        last_modified=listed.last_modified,
        sequence=listed.sequence,
        partition="2026-11-21",
    )


def all_versions(store: ObjectStore, prefix: str = "") -> list[Listed]:
    page = store.list_versions(prefix)
    found = list(page.objects)
    while page.resume is not None:
        page = store.list_versions(prefix, resume=page.resume)
        found += page.objects
    return found


def content(store: ObjectStore, source_object: SourceObject) -> bytes:
    return b"".join(store.open_source(source_object))


@pytest.fixture
def raw(settings: Settings) -> str:
    return settings.bucket(Zone.RAW)


@pytest.fixture
def s3(aws: Callable[[str], Any]) -> Any:
    return aws("s3")


def test_any_key_is_listed_read_copied_and_downloaded_as_it_is(
    object_store: S3ObjectStore, s3: Any, raw: str, tmp_path: Path
) -> None:
    for key in HOSTILE_KEYS:
        s3.put_object(Bucket=raw, Key=key, Body=key.encode())
    listed = all_versions(object_store)
    assert [o.key for o in listed] == sorted(HOSTILE_KEYS, key=str.encode)
    for found in listed:
        source_object = source(found, raw)
        assert content(object_store, source_object) == found.key.encode()
        uri = object_store.copy_source(source_object, Zone.QUARANTINE, found.key)
        object_store.download(uri, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == found.key.encode()
        assert found.key in [o.key for o in object_store.list_versions(found.key).objects]
    assert list(object_store.keys(Zone.QUARANTINE, "")) == sorted(HOSTILE_KEYS, key=str.encode)


_NUMBERS = itertools.count()


@given(key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_text_a_key_is_it_comes_back(
    object_store: S3ObjectStore, s3: Any, raw: str, key: str
) -> None:
    prefix = f"{next(_NUMBERS)}/"
    s3.put_object(Bucket=raw, Key=prefix + key, Body=key.encode())
    (found,) = object_store.list_versions(prefix).objects
    assert found.key == prefix + key
    assert content(object_store, source(found, raw)) == key.encode()


def test_an_overwritten_key_is_two_objects_and_each_keeps_its_content(
    object_store: S3ObjectStore, s3: Any, raw: str
) -> None:
    for body in (b"first", b"second"):
        s3.put_object(Bucket=raw, Key="orders/a.csv", Body=body)
    newer, older = object_store.list_versions("orders/").objects
    assert (newer.is_latest, older.is_latest) == (True, False)
    assert source(newer, raw).id != source(older, raw).id
    assert content(object_store, source(older, raw)) == b"first"
    assert content(object_store, source(newer, raw)) == b"second"
    object_store.copy_source(source(older, raw), Zone.QUARANTINE, "kept")
    assert object_store.read(Zone.QUARANTINE, "kept") == b"first"


def test_versions_of_one_second_sort_oldest_first_whatever_page_they_are_on(
    object_store: S3ObjectStore, s3: Any, raw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        s3.put_object(Bucket=raw, Key="k", Body=str(number).encode())
    s3.put_object(Bucket=raw, Key="k2", Body=b"another")
    whole = {o.version_id: o for o in all_versions(object_store)}
    monkeypatch.setattr("service_core.s3_store._PAGE", 2)
    monkeypatch.setattr("service_core.s3_store._LOOK_AHEAD", 3)
    paged = all_versions(object_store)
    assert {o.version_id: o for o in paged} == whole
    in_order = sorted((source(o, raw) for o in paged if o.key == "k"), key=lambda o: o.order)
    assert [content(object_store, o) for o in in_order] == [str(n).encode() for n in range(9)]


def test_a_later_version_does_not_change_the_order_number_of_an_earlier_one(
    object_store: S3ObjectStore, s3: Any, raw: str
) -> None:
    seen: dict[str | None, int] = {}
    for number in range(5):
        s3.put_object(Bucket=raw, Key="k", Body=str(number).encode())
        for found in object_store.list_versions("k").objects:
            assert seen.setdefault(found.version_id, found.sequence) == found.sequence


def test_a_deleted_key_is_listed_by_the_versions_that_it_had(
    object_store: S3ObjectStore, s3: Any, raw: str
) -> None:
    s3.put_object(Bucket=raw, Key="gone.csv", Body=b"1")
    s3.delete_object(Bucket=raw, Key="gone.csv")
    (left,) = object_store.list_versions("").objects
    assert not left.is_latest
    assert content(object_store, source(left, raw)) == b"1"


def test_a_listing_goes_on_where_it_stopped_though_keys_come_and_go(
    object_store: S3ObjectStore, s3: Any, raw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        s3.put_object(Bucket=raw, Key=f"k{number}", Body=b"")
    monkeypatch.setattr("service_core.s3_store._PAGE", 2)
    page = object_store.list_versions("k")
    assert page.resume is not None
    s3.put_object(Bucket=raw, Key="k0a", Body=b"")
    s3.delete_object(Bucket=raw, Key="k3")
    found: list[Listed] = list(page.objects)
    while page.resume is not None:
        page = object_store.list_versions("k", resume=page.resume)
        found += page.objects
    # A page leaves its last key, which may have more versions, to the next.
    assert [o.key for o in found] == ["k0", "k0a", "k1", "k2", "k3", "k4", "k5"]


def test_a_listing_can_start_after_any_text(object_store: S3ObjectStore, s3: Any, raw: str) -> None:
    for key in ("orders/a", "orders/b", "payments/a"):
        s3.put_object(Bucket=raw, Key=key, Body=b"")
    page = object_store.list_versions("", resume=("orders/\U0010ffff", ""))
    assert [o.key for o in page.objects] == ["payments/a"]


def test_a_listing_of_more_than_a_page_is_whole(
    object_store: S3ObjectStore, s3: Any, raw: str
) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: s3.put_object(Bucket=raw, Key=f"{n:04}", Body=b""), range(1100)))
    assert [o.key for o in all_versions(object_store)] == [f"{n:04}" for n in range(1100)]


def test_what_is_not_there_is_missing_before_any_chunk_is_asked_for(
    object_store: S3ObjectStore, s3: Any, raw: str, tmp_path: Path
) -> None:
    s3.put_object(Bucket=raw, Key="k", Body=b"1")
    (found,) = object_store.list_versions("k").objects
    s3.delete_object(Bucket=raw, Key="k", VersionId=found.version_id)
    with pytest.raises(ObjectMissingError, match="k is not there"):
        object_store.open_source(source(found, raw))
    with pytest.raises(ObjectMissingError):
        object_store.copy_source(source(found, raw), Zone.QUARANTINE, "copy")
    with pytest.raises(ObjectMissingError):
        object_store.read(Zone.MANIFESTS, "nothing")
    with pytest.raises(ObjectMissingError):
        object_store.download(object_store.uri(Zone.MANIFESTS, "nothing"), tmp_path / "f")
    assert list(tmp_path.glob("f*")) == []


def test_without_versions_an_overwritten_object_is_missing_and_not_another(
    settings: Settings, object_store: S3ObjectStore, s3: Any
) -> None:
    """An unversioned bucket gives whatever is there now; its ETag gives that away."""
    bucket = settings.bucket(Zone.VALIDATED)
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"].strip('"')
    landed = SourceObject(
        bucket=bucket, key="k", etag=etag, size=1, last_modified=datetime.now(UTC), partition="p"
    )
    assert content(object_store, landed) == b"1"
    s3.put_object(Bucket=bucket, Key="k", Body=b"2")
    with pytest.raises(ObjectMissingError):
        object_store.open_source(landed)
    with pytest.raises(ObjectMissingError):
        object_store.copy_source(landed, Zone.QUARANTINE, "copy")


def test_a_large_file_goes_up_in_parts_and_comes_back_whole_in_chunks(
    settings: Settings, object_store: S3ObjectStore, s3: Any, raw: str, tmp_path: Path
) -> None:
    body = bytes(range(256)) * (20 * 4096)
    (tmp_path / "up").write_bytes(body)
    uri = object_store.upload(tmp_path / "up", Zone.CURATED, "large.parquet")
    assert uri == f"s3://{settings.bucket(Zone.CURATED)}/large.parquet"
    object_store.download(uri, tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == body
    s3.upload_file(str(tmp_path / "up"), raw, "large.csv")
    (found,) = object_store.list_versions("large.csv").objects
    assert "-" in found.etag
    chunks = list(object_store.open_source(source(found, raw)))
    assert b"".join(chunks) == body
    assert max(map(len, chunks)) <= 1 << 20


def test_a_very_large_object_is_copied_in_parts_by_its_version(
    object_store: S3ObjectStore, s3: Any, raw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"0123456789abcdef" * (640 * 1024)
    s3.put_object(Bucket=raw, Key="k", Body=body)
    (first,) = object_store.list_versions("k").objects
    s3.put_object(Bucket=raw, Key="k", Body=b"newer")
    monkeypatch.setattr("service_core.s3_store._COPY_BYTES", 1)
    object_store.copy_source(source(first, raw), Zone.QUARANTINE, "copy")
    assert object_store.read(Zone.QUARANTINE, "copy") == body


def test_of_several_that_write_once_one_is_told_so(object_store: S3ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        told = list(
            pool.map(
                lambda n: object_store.write_once(Zone.MANIFESTS, "m.json", str(n).encode()),
                range(8),
            )
        )
    assert told.count(True) == 1
    assert object_store.read(Zone.MANIFESTS, "m.json") == str(told.index(True)).encode()


def test_what_nothing_names_is_removed_but_never_from_raw(
    object_store: S3ObjectStore, raw: str, s3: Any
) -> None:
    keys = [f"a/{number:05d} #?+é" for number in range(1_100)]
    for key in keys[:3]:
        object_store.write(Zone.CURATED, key, b"x")
    object_store.write(Zone.CURATED, "b", b"kept")
    # More than one request takes, most of them not there.
    object_store.remove(Zone.CURATED, iter(keys))
    assert list(object_store.keys(Zone.CURATED, "")) == ["b"]
    object_store.remove(Zone.CURATED, [])
    s3.put_object(Bucket=raw, Key="k", Body=b"x")
    with pytest.raises(ValueError, match="Nothing is ever removed from the raw bucket"):
        object_store.remove(Zone.RAW, ["k"])
    assert [o.key for o in object_store.list_versions("").objects] == ["k"]


def test_what_s3_does_not_let_go_is_said(
    object_store: S3ObjectStore, settings: Settings, s3: Any
) -> None:
    bucket = settings.bucket(Zone.CURATED)
    for key in ("held/1", "held/2", "free"):
        object_store.write(Zone.CURATED, key, b"x")
    held = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject",
            "Resource": f"arn:aws:s3:::{bucket}/held/*"}  # fmt: skip
    s3.put_bucket_policy(
        Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [held]})
    )
    with pytest.raises(ClientError, match=rf"AccessDenied.*2 of 3 objects.*s3://{bucket}/held/1"):
        object_store.remove(Zone.CURATED, ["held/1", "free", "held/2"])
    assert list(object_store.keys(Zone.CURATED, "")) == ["held/1", "held/2"]
    s3.delete_bucket_policy(Bucket=bucket)


@pytest.mark.parametrize("uri", ["", "s3://", "s3://bucket", "s3://bucket/", "/tmp/x", "s3:///k"])
def test_a_uri_that_names_no_object_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="expected s3://bucket/key"):
        split_uri(uri)
