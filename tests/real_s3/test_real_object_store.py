"""The object store keeps its promises on an S3 that is not moto's."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from service_core.layout import Zone
from service_core.s3_store import S3ObjectStore
from tests.pipeline import test_object_store as shared

# ruff: noqa: F403
from tests.pipeline.test_object_store import *

#: Of the keys that S3 takes, those that SeaweedFS refuses, or that it lists under another name.
REFUSED = ("x/../y.csv", "../up.csv", "./dot", "..", "a/..", "nul\x00.csv")
RESPELT = {
    "a//b.csv": "a/b.csv",
    "/lead.csv": "lead.csv",
    "//": "",
    "back\\slash": "back/slash",
    "c\x01\x1f.csv": "c\ufffd\ufffd.csv",
    "\uffff": "\ufffd",
}
#: Listed as it is, but there are no bytes in it: it is a folder.
FOLDER = "trail/"
#: Too long for a file's name, which only a bucket with versions takes.
LONG = "x" * 1000

# The one is done here with the keys that it takes, the other finds one that it does not at random.
del test_any_key_is_listed_read_copied_and_downloaded_as_it_is  # noqa: F821
del test_whatever_text_a_key_is_it_comes_back  # noqa: F821
# Whoever has no identity of its own may do everything here, whatever a bucket's policy says.
del test_what_s3_does_not_let_go_is_said  # noqa: F821


def test_every_key_that_it_takes_as_it_is_comes_back(
    object_store: S3ObjectStore,
    s3: Any,
    raw: str,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = [k for k in shared.HOSTILE_KEYS if k not in {*REFUSED, *RESPELT, FOLDER, LONG}]
    monkeypatch.setattr(shared, "HOSTILE_KEYS", taken)
    shared.test_any_key_is_listed_read_copied_and_downloaded_as_it_is(
        object_store, s3, raw, tmp_path
    )


def test_the_keys_that_it_does_not_take_are_those_that_the_docs_name(
    object_store: S3ObjectStore, s3: Any, raw: str
) -> None:
    for key in REFUSED:
        with pytest.raises(ClientError, match="InvalidRequest"):
            s3.put_object(Bucket=raw, Key=key, Body=b"x")
    s3.put_object(Bucket=raw, Key=LONG, Body=b"x")
    with pytest.raises(ClientError, match="KeyTooLong"):
        object_store.write(Zone.QUARANTINE, LONG, b"x")
    s3.delete_object(
        Bucket=raw, Key=LONG, VersionId=object_store.list_versions("").objects[0].version_id
    )
    for key in RESPELT:
        s3.put_object(Bucket=raw, Key=key, Body=b"x")
    assert {o.key for o in object_store.list_versions("").objects} == set(RESPELT.values())


def test_a_conditional_write_needs_the_content_that_it_names(s3: Any, raw: str) -> None:
    etag = s3.put_object(Bucket=raw, Key="k", Body=b"1")["ETag"]
    s3.put_object(Bucket=raw, Key="k", Body=b"2", IfMatch=etag)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=raw, Key="k", Body=b"3", IfMatch=etag)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=raw, Key="k", Body=b"3", IfNoneMatch="*")
    assert s3.get_object(Bucket=raw, Key="k")["Body"].read() == b"2"
