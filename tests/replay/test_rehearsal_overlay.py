"""What a rehearsal stands on: the real thing beneath, its own writes on top, none let through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from resources.ledger import DynamoLedger
from service_core.layout import Zone
from service_core.ledger import KeyHead, Move, MoveRefusedError, Return, State
from service_core.manifest import Manifest, Origin
from service_core.ports import ObjectMissingError, PendingBatch
from service_core.reasons import ReasonCode
from service_core.replay.overlay import OverlayStore
from service_core.s3_store import S3ObjectStore
from service_core.settings import Settings
from service_core.source_object import SourceObject

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = "2026-11-21"


def landed(name: str, version: str = "v1") -> SourceObject:
    return SourceObject(
        bucket="raw", key=f"orders/dt={DAY}/{name}", version_id=version, etag=version, size=1,
        last_modified=AT + timedelta(seconds=int(version[1:])), partition=DAY,
    )  # fmt: skip


def manifest(contract_hash: str, *objects: SourceObject) -> Manifest:
    return Manifest(
        dataset="orders", partition=DAY, contract_version="1.0.0", contract_hash=contract_hash,
        origin=Origin.PERSON, objects=objects, created_at=AT,
    )  # fmt: skip


A, B, C = landed("a.csv"), landed("b.csv"), landed("c.csv")
FIRST, SECOND = manifest("1" * 16, A, B), manifest("2" * 16, A, B, C)


def publish(ledger: DynamoLedger) -> None:
    """What is there before anything is rehearsed: a batch of two objects, published."""
    ledger.receive(FIRST, run_id="r1", at=AT)
    batch = FIRST.batch_id
    for state in (State.VALIDATED, State.CURATED, State.PUBLISHED):
        ledger.move(batch, [Move(object_id=o.id, to=state) for o in (A, B)], run_id="r1", at=AT)
    ledger.claim_content("orders", {"hash": A})
    ledger.raise_key_heads("orders", [head(A, batch)])
    ledger.open_batch(PendingBatch("orders", DAY, "waiting", "s3://m/1", AT))


def head(source: SourceObject, batch_id: str) -> KeyHead:
    return KeyHead(
        key=source.key, object_id=source.id, last_modified=source.last_modified,
        sequence=source.sequence, batch_id=batch_id,
    )  # fmt: skip


def take_over(ledger: DynamoLedger) -> list[Any]:
    """Everything that a batch does to a ledger, and what it is told."""
    batch = SECOND.batch_id
    told: list[Any] = [ledger.receive(SECOND, run_id="r2", at=AT)]
    told.append(ledger.claim_content("orders", {"hash": B, "other": C}))
    moves = [Move(object_id=o.id, to=State.VALIDATED, rows_read=3) for o in (A, B, C)]
    told.append(ledger.move(batch, moves, run_id="r2", at=AT))
    gone = Move(object_id=C.id, to=State.QUARANTINED, reason=ReasonCode.TYPE)
    told.append(ledger.move(batch, [gone], run_id="r2", at=AT))
    told.append(ledger.move(batch, moves[2:], run_id="r2", at=AT))
    ledger.give_back(batch, [Return(object_id=A.id, batch_id=FIRST.batch_id)], run_id="r2", at=AT)
    told.append(ledger.move("stranger", moves[:1], run_id="r3", at=AT))
    newer = landed("a.csv", "v2")
    told.append(ledger.raise_key_heads("orders", [head(newer, batch), head(B, batch)]))
    told.append(ledger.raise_key_heads("orders", [head(A, batch)]))
    ledger.supersede([A.id], by_batch=batch, run_id="r2", at=AT)
    ledger.note(B.id, batch, "seen", run_id="r2", at=AT)
    ledger.open_batch(PendingBatch("orders", DAY, batch, "s3://m/2", AT + timedelta(seconds=1)))
    ledger.close_batch("orders", "waiting")
    with pytest.raises(MoveRefusedError):
        ledger.move(batch, [Move(object_id="unknown", to=State.CURATED)], run_id="r2", at=AT)
    return told


def everything(ledger: DynamoLedger) -> dict[str, Any]:
    objects: Sequence[SourceObject] = (A, B, C)
    return {
        "entries": ledger.entries(o.id for o in objects),
        "partition": sorted(ledger.in_partition("orders", DAY), key=lambda e: e.object_id),
        "published": sorted(
            e.object_id for e in ledger.in_partition("orders", DAY, State.PUBLISHED)
        ),
        "history": {o.id: ledger.history(o.id) for o in objects},
        "heads": ledger.key_heads("orders", [o.key for o in objects]),
        "pending": ledger.pending_batches("orders"),
    }


def test_a_rehearsed_ledger_says_what_the_real_one_would_and_tells_it_nothing(
    ledger: DynamoLedger,
) -> None:
    publish(ledger)
    before = everything(ledger)
    aside = ledger.rehearsal()
    assert everything(aside) == before
    told = take_over(aside)
    rehearsed = everything(aside)
    assert everything(ledger) == before
    assert rehearsed != before
    assert everything(ledger.rehearsal()) == before, "two rehearsals know nothing of each other"
    assert take_over(ledger) == told
    assert everything(ledger) == rehearsed


@pytest.fixture
def overlay(object_store: S3ObjectStore, tmp_path: Path) -> OverlayStore:
    folder = tmp_path / "overlay"
    folder.mkdir()
    return OverlayStore(object_store, folder)


def test_what_is_written_is_read_back_and_is_nowhere_else(
    object_store: S3ObjectStore, overlay: OverlayStore, tmp_path: Path
) -> None:
    object_store.write(Zone.CURATED, "x/1", b"real")
    uri = overlay.write(Zone.CURATED, "x/2", b"mine")
    assert uri == object_store.uri(Zone.CURATED, "x/2")
    assert overlay.read(Zone.CURATED, "x/1") == b"real"
    assert overlay.read(Zone.CURATED, "x/2") == b"mine"
    overlay.write(Zone.CURATED, "x/1", b"changed")
    assert overlay.read(Zone.CURATED, "x/1") == b"changed"
    assert [o.key for o in overlay.stored(Zone.CURATED, "x/")] == ["x/1", "x/2"]
    assert [o.size for o in overlay.stored(Zone.CURATED, "x/")] == [7, 4]
    assert list(overlay.keys(Zone.CURATED, "x/")) == ["x/1", "x/2"]
    assert list(overlay.keys(Zone.VALIDATED, "x/")) == []
    overlay.download(uri, tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == b"mine"
    assert object_store.read(Zone.CURATED, "x/1") == b"real"
    assert list(object_store.keys(Zone.CURATED, "x/")) == ["x/1"]


def test_an_uploaded_file_is_kept_as_it_was(overlay: OverlayStore, tmp_path: Path) -> None:
    """Whoever uploads writes the next part under the same name."""
    path = tmp_path / "part"
    path.write_bytes(b"first")
    overlay.upload(path, Zone.VALIDATED, "p/0")
    path.write_bytes(b"second")
    overlay.upload(path, Zone.VALIDATED, "p/1")
    path.unlink()
    assert [overlay.read(Zone.VALIDATED, f"p/{n}") for n in (0, 1)] == [b"first", b"second"]


def test_what_is_removed_seems_gone_and_is_not(
    object_store: S3ObjectStore, overlay: OverlayStore
) -> None:
    object_store.write(Zone.CURATED, "x/1", b"real")
    overlay.remove(Zone.CURATED, ["x/1", "x/never"])
    assert list(overlay.keys(Zone.CURATED, "x/")) == []
    with pytest.raises(ObjectMissingError):
        overlay.read(Zone.CURATED, "x/1")
    assert overlay.write_once(Zone.CURATED, "x/1", b"again")
    assert not overlay.write_once(Zone.CURATED, "x/1", b"and again")
    assert object_store.read(Zone.CURATED, "x/1") == b"real"
    with pytest.raises(ValueError, match="raw"):
        overlay.remove(Zone.RAW, ["x"])


def test_what_is_really_there_is_not_written_once_more(
    object_store: S3ObjectStore, overlay: OverlayStore
) -> None:
    object_store.write(Zone.MANIFESTS, "m/1", b"real")
    assert not overlay.write_once(Zone.MANIFESTS, "m/1", b"mine")
    # A longer key under the same beginning is another one.
    assert overlay.write_once(Zone.MANIFESTS, "m/", b"mine")


def test_a_copy_of_a_source_object_is_fetched_when_it_is_read(
    settings: Settings, aws: Callable[[str], Any], overlay: OverlayStore
) -> None:
    bucket = settings.bucket(Zone.RAW)
    put = aws("s3").put_object(Bucket=bucket, Key="orders/a.csv", Body=b"first")
    aws("s3").put_object(Bucket=bucket, Key="orders/a.csv", Body=b"second")
    source = SourceObject(
        bucket=bucket, key="orders/a.csv", version_id=put["VersionId"],
        etag=put["ETag"].strip('"'), size=5, last_modified=AT, partition=DAY,
    )  # fmt: skip
    overlay.copy_source(source, Zone.QUARANTINE, "q/content")
    assert overlay.read(Zone.QUARANTINE, "q/content") == b"first"
    assert [o.size for o in overlay.stored(Zone.QUARANTINE, "q/")] == [5]
    aws("s3").delete_object(Bucket=bucket, Key="orders/a.csv", VersionId=put["VersionId"])
    with pytest.raises(ObjectMissingError):
        overlay.copy_source(source, Zone.QUARANTINE, "q/other")
