"""A batch on the real store and ledger: what is written, moved, quarantined, and done again."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_core.canonical import MALFORMED_SCHEMA, canonical_schema
from service_core.contract import load_contract
from service_core.contract.model import Contract, DriftPolicy, FileFormat, FilePolicy
from service_core.layout import Zone, quarantined_file_prefix, validation_key
from service_core.ledger import State
from service_core.quarantine import QuarantineRecord
from service_core.source_object import SourceObject
from service_core.validation import batch, preparing, writing
from service_core.validation.held_rows import HeldRows, Room
from service_core.validation.stored import read_record
from tests.canonical_batches import shape
from tests.unit.validation_files import (
    EXTENSION,
    NOW,
    PARTITION,
    Landed,
    codes,
    column,
    contract,
    values,
    with_landing,
)

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
HEADER = b"a,b,c\n"


@pytest.fixture
def land(object_store: Any, ledger: Any, aws: Any, tmp_path: Path) -> Callable[..., Landed]:
    """`land(contract)`: the contract's landing on the embedded AWS."""
    return lambda agreed: Landed(agreed, object_store, ledger, aws("s3"), tmp_path / "scratch")


def quarantine_record(landed: Landed, source_object: SourceObject) -> QuarantineRecord:
    prefix = quarantined_file_prefix(landed.contract.dataset, PARTITION, source_object.id)
    return QuarantineRecord.model_validate_json(
        landed.store.read(Zone.QUARANTINE, prefix + "record.json")
    )


# --- What is written -----------------------------------------------------------------------------


def test_good_files_share_parts_in_the_manifests_order(land: Callable[..., Landed]) -> None:
    landed = land(contract())
    objects = [landed.put(f"{i:03d}.csv", HEADER + b"%d,x,y\n" % i * 3) for i in range(12)]
    record = landed.validate(*objects)
    assert len(record.parts) == 1
    assert record.malformed is None
    rows = landed.rows(record)
    assert [r["a"] for r in rows] == [str(i) for i in range(12) for _ in range(3)]
    assert [r["_source_object_id"] for r in rows] == [o.id for o in objects for _ in range(3)]
    assert [r["_source_row"] for r in rows] == [1, 2, 3] * 12
    assert [f.rows_read for f in record.files] == [3] * 12
    assert record.parts[0].rows == 36


def test_parts_and_malformed_rows_have_the_agreed_schemas(
    land: Callable[..., Landed], tmp_path: Path
) -> None:
    landed = land(contract())
    record = landed.validate(landed.put("a.csv", HEADER + b"1,2,3\nshort\n"))
    assert record.malformed is not None
    for staged, schema in (
        (record.parts[0], canonical_schema(landed.contract)),
        (record.malformed, MALFORMED_SCHEMA),
    ):
        path = tmp_path / "x.parquet"
        landed.store.download(staged.uri, path)
        assert shape(pq.read_schema(path)) == shape(schema)
        assert pq.read_metadata(path).num_rows == staged.rows
        assert path.stat().st_size == staged.bytes


def test_a_batch_is_cut_into_parts_of_bounded_size(
    land: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service_core.validation.parts.ROW_GROUP_ROWS", 100)
    monkeypatch.setattr("service_core.validation.csv_rows._BLOCK", 500)
    writer = writing.PartWriter
    monkeypatch.setattr(
        writing, "PartWriter", lambda *a, **k: writer(*a, **({"part_bytes": 5_000} | k))
    )
    landed = land(contract())
    record = landed.validate(
        *(landed.put(f"{i}.csv", HEADER + b"%d,x,y\n" % i * 150) for i in range(4))
    )
    assert len(record.parts) > 1
    assert sum(p.rows for p in record.parts) == 600
    assert [r["a"] for r in landed.rows(record)] == [str(i) for i in range(4) for _ in range(150)]


def test_large_files_are_written_once_as_parts_of_their_own_among_the_shared_ones(
    land: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their rows are held back in the form in which they go on. A refused one and a duplicate
    among them leave nothing, in scratch as little as in the parts."""
    monkeypatch.setattr("service_core.validation.parts._IN_MEMORY", 5_000)
    monkeypatch.setattr("service_core.validation.parts.ROW_GROUP_ROWS", 100)
    monkeypatch.setattr("service_core.validation.json_documents._BLOCK", 2_000)
    landed = land(refusing_duplicates(kind=FileFormat.JSON_LINES))

    def body(name: str, rows: int) -> bytes:
        line = '{"a":"%s","b":"%d","c":"z"}'
        text = [line % (name, n) if n % 90 else f"{name} is no JSON" for n in range(1, rows + 1)]
        return "\n".join(text).encode()

    sizes = {"small": 3, "large": 400, "refused": 400, "twice": 400, "last": 4, "huge": 950}
    bodies = {name: body(name, rows) for name, rows in sizes.items()}
    bodies["refused"] += b"\xff"
    bodies["twice"] = bodies["large"]
    record = landed.validate(
        *(landed.put(f"{n}-{name}.jsonl", bodies[name]) for n, name in enumerate(bodies))
    )
    assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]
    assert [codes(f) for f in record.files] == [
        *([], ["JSON_MALFORMED"], ["ENCODING"], ["DUPLICATE_CONTENT"], [], ["JSON_MALFORMED"])
    ]
    assert [p.rows for p in record.parts] == [3, 396, 4, 940]
    taken = [(name, n) for name in ("small", "large", "last", "huge") for n in range(sizes[name])]
    assert [(r["a"], r["b"], r["_source_row"], r["_source_line"]) for r in landed.rows(record)] == [
        (name, str(n + 1), n + 1, n + 1) for name, n in taken if (n + 1) % 90
    ]
    assert record.malformed is not None
    assert record.malformed.rows == 14
    assert record.files[1].content_hash == hashlib.sha256(bodies["large"]).hexdigest()


def test_a_large_delimited_file_is_judged_as_a_small_one_is(
    land: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are read as they arrive, where a small one's text is kept."""
    rows = b"".join(b'%d,"x\n%d",%s\n' % (n, n, b"\xc3\xa9" * (n % 7)) for n in range(60))
    bodies = {
        "good": HEADER + rows,
        "bare": HEADER + rows + b"last,row,bare",
        "wrong": HEADER + rows + b"too,short\n" + rows + b'a"b,c,d\n1,2,3,4\n' + rows,
        "unclosed": HEADER + rows + b'"never closed,1,2\n' + rows,
        "reversed": b"c,b,a\r\n" + rows.replace(b"\n", b"\r\n"),
        "headless": rows,
        "twice_named": b"a,a,c\n" + rows,
        "late_rows": HEADER + b"\n" * 900 + rows,
        "no_rows": HEADER + b"\n" * 900,
        "no_text": HEADER + rows + b"\xff",
        "nul": HEADER + rows + b"\0",
        "long_head": b'a,b,c,"' + b"x" * 900 + b'"\n' + rows.replace(b"\n", b",\n"),
        "again": HEADER + rows,
    }
    landed = land(refusing_duplicates())
    objects = [
        landed.put(f"{number}-{name}.csv", body)
        for number, (name, body) in enumerate(bodies.items())
    ]

    def outcome() -> Any:
        record = landed.validate(*objects)
        files = [file.model_dump() for file in record.files]
        for file in files:
            # Quotes are looked at before widths, block by block.
            file["findings"] = sorted(file["findings"], key=lambda f: f["code"])
        malformed = landed.malformed(record)
        by_place = sorted(malformed, key=lambda r: (r["_source_object_id"], r["_source_row"]))
        return files, landed.rows(record), by_place

    small = outcome()
    assert len({tuple(codes(f)) for f in landed.validate(*objects).files}) >= 8
    monkeypatch.setattr(preparing, "_SMALL_BYTES", 0)
    monkeypatch.setattr(preparing, "_LARGE_BYTES", 300)
    monkeypatch.setattr("service_core.s3_store._SMALL_BYTES", 0)
    monkeypatch.setattr("service_core.s3_store._CHUNK_BYTES", 70)
    monkeypatch.setattr("service_core.validation.csv_rows._BLOCK", 500)
    monkeypatch.setattr("service_core.validation.parts._IN_MEMORY", 2_000)
    read_at_once, held = [], preparing._held
    monkeypatch.setattr(preparing, "_held", lambda *a: read_at_once.append(a) or held(*a))
    assert outcome() == small
    # All but those of which the first bytes do not say enough.
    assert len(read_at_once) >= 6


@pytest.mark.parametrize("kind", [FileFormat.CSV, FileFormat.JSON_LINES])
def test_files_for_which_memory_has_no_room_wait_in_scratch_and_share_a_part_all_the_same(
    land: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch, kind: FileFormat
) -> None:
    """Files in hand are bounded by landed bytes, of which unpacking may make a hundred times as
    many."""
    room = 20_000
    monkeypatch.setattr(preparing, "_HELD_BYTES", room)
    monkeypatch.setattr(preparing, "_LARGE_BYTES", 100)
    seated: list[HeldRows] = []
    seat, hand_on = Room.seat, preparing._ReadyHeld.hand_on
    in_memory: list[int] = []

    def handing_on(ready: Any, to: Any) -> int:
        in_memory.append(sum(held.bytes_in_memory for held in seated))
        return hand_on(ready, to)

    monkeypatch.setattr(Room, "seat", lambda room, held: (seated.append(held), seat(room, held)))
    monkeypatch.setattr(preparing._ReadyHeld, "hand_on", handing_on)
    landed = land(contract(kind=kind, missing=DriftPolicy.ALLOW))
    line, header = (b"%d,x,y\n", HEADER) if kind is FileFormat.CSV else (b'{"a":"%d"}\n', b"")
    objects = [
        landed.put(f"{i:02d}.{EXTENSION[kind]}", header + line % i * 100 + b"short\n")
        for i in range(12)
    ]
    record = landed.validate(*objects)
    assert len(seated) == 12
    assert room / 2 < in_memory[0] <= room
    assert [p.rows for p in record.parts] == [1_200]
    assert [r["a"] for r in landed.rows(record)] == [str(i) for i in range(12) for _ in range(100)]
    assert record.malformed is not None
    assert record.malformed.rows == 12


def test_malformed_rows_are_one_file_however_many_there_are(
    land: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service_core.validation.parts._IN_MEMORY", 1_000)
    monkeypatch.setattr("service_core.validation.json_documents._BLOCK", 1_000)
    landed = land(contract(kind=FileFormat.JSON_LINES, missing=DriftPolicy.ALLOW))
    faults = {"a": 900, "b": 2, "c": 900}
    objects = [
        landed.put(f"{name}.jsonl", b'{"a":"1"}\n' + b"x\n" * count)
        for name, count in faults.items()
    ]
    record = landed.validate(*objects)
    assert record.malformed is not None
    assert record.malformed.rows == 1_802
    assert [r["a"] for r in landed.rows(record)] == ["1", "1", "1"]


def test_the_record_lies_in_the_validated_zone_after_all_that_it_names(
    land: Callable[..., Landed],
) -> None:
    landed = land(contract())
    source_object = landed.put("a.csv", HEADER + b"1,2,3\nx\n")
    record = landed.validate(source_object)
    assert read_record(landed.store, landed.manifest(source_object)) == record
    keys = list(landed.store.keys(Zone.VALIDATED, ""))
    assert validation_key("things", PARTITION, record.batch_id) in keys
    assert len(keys) == 3


def test_rows_are_conserved_and_counted_in_the_ledger(land: Callable[..., Landed]) -> None:
    landed = land(contract())
    body = HEADER + b'1,2,3\nshort\n4,5,6\n1,2,3,4\n"x\n'
    source_object = landed.put("a.csv", body)
    record = landed.validate(source_object)
    (file,) = record.files
    assert (file.rows_read, file.rows_malformed) == (5, 3)
    assert len(landed.rows(record)) + len(landed.malformed(record)) == file.rows_read
    entry = landed.ledger.entries([source_object.id])[source_object.id]
    assert entry.state is State.VALIDATED
    assert entry.rows_read == 5
    assert entry.content_hash == file.content_hash == hashlib.sha256(body).hexdigest()


def test_a_file_of_malformed_rows_alone_is_for_curation_to_judge(
    land: Callable[..., Landed],
) -> None:
    landed = land(contract())
    record = landed.validate(landed.put("a.csv", HEADER + b"1\n2\n"))
    assert record.files[0].accepted
    assert record.parts == ()
    assert record.malformed is not None
    assert record.malformed.rows == 2


def test_findings_are_counted_by_code_with_the_first_line_and_a_sample(
    land: Callable[..., Landed],
) -> None:
    landed = land(contract())
    file = landed.judge("a.csv", HEADER + b"1,2,3\nshort,1\nok,1,2\nshort,2\n" + b"x" * 500)
    (finding,) = file.findings
    assert (finding.code.value, finding.line, finding.count) == ("ROW_TOO_SHORT", 3, 3)
    assert finding.sample == "short,1"
    long = landed.judge("b.csv", HEADER + b"x" * 500 + b"\n").findings[0].sample
    assert long is not None
    assert len(long) == 200


def test_samples_of_rows_are_masked_where_any_column_is_personal(
    land: Callable[..., Landed],
) -> None:
    landed = land(contract("a", column("b", classification="pii"), "c"))
    record = landed.validate(landed.put("a.csv", HEADER + b"Ada,Example\n"))
    assert record.files[0].findings[0].sample == "***"
    assert "Ada" not in record.model_dump_json()
    assert landed.malformed(record)[0]["_raw"] == "Ada,Example"


# --- Whole files that go -------------------------------------------------------------------------


def test_a_refused_file_is_copied_untouched_beside_its_record(
    land: Callable[..., Landed],
) -> None:
    landed = land(contract())
    body = b"a;b;c\n1;2;3\n\xc3\xa9;x;y"
    source_object = landed.put("bad file é.csv", body)
    record = landed.validate(source_object, landed.put("good.csv", HEADER + b"1,2,3\n"))
    assert [f.accepted for f in record.files] == [False, True]
    prefix = quarantined_file_prefix("things", PARTITION, source_object.id)
    assert landed.store.read(Zone.QUARANTINE, prefix + "content") == body
    why = quarantine_record(landed, source_object)
    assert (why.code.value, why.stage.value, why.line) == ("DELIMITER", "validation", 1)
    assert why.findings == record.files[0].findings
    assert why.source_object == source_object
    assert (why.batch_id, why.run_id) == (record.batch_id, record.run_id)
    assert why.content_hash == hashlib.sha256(body).hexdigest()
    assert why.quarantined_at == NOW
    assert source_object.uri in why.replay
    assert "lakegate quarantine release" in why.replay and source_object.id in why.replay
    entry = landed.ledger.entries([source_object.id])[source_object.id]
    assert (entry.state, entry.reason) == (State.QUARANTINED, why.code)
    assert landed.store.open_source(source_object), "raw is never touched"


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("a.csv", b"", "EMPTY"),
        ("a.csv", HEADER, "EMPTY"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "EMPTY"),
        ("a.pdf", b"x", "UNSUPPORTED_EXTENSION"),
        ("a.csv", gzip.compress(HEADER + b"1,2,3\n", mtime=0), "COMPRESSION"),
        ("a.csv.gz", HEADER + b"1,2,3\n", "COMPRESSION"),
        ("a.csv.zst", gzip.compress(HEADER, mtime=0), "COMPRESSION"),
        ("a.csv.gz", gzip.compress(HEADER + b"1,2,3\n", mtime=0)[:-4], "TRUNCATED"),
        ("a.csv.gz", gzip.compress(HEADER + b"1,2,3\n" * 20_000, mtime=0), "DECOMPRESSION_BOMB"),
        ("a.csv", HEADER + b"1,\xff,3\n", "ENCODING"),
        ("a.csv", (HEADER + b"1,2,3\n").decode().encode("utf-16"), "ENCODING"),
        ("a.csv", HEADER + b"1,\0,3\n", "ENCODING"),
        ("a.csv", b"x" * 200_000, "TOO_LARGE"),
        ("a.csv", b"a,b\n1,2\n", "COLUMN_MISSING"),
    ],
)
def test_each_way_of_being_unusable_has_its_reason(
    land: Callable[..., Landed], name: str, body: bytes, code: str
) -> None:
    landed = land(with_landing(contract(), max_bytes=100_000, max_unpacked_bytes=100_000))
    record = landed.validate(landed.put(name, body))
    assert codes(record.files[0]) == [code]
    assert (record.files[0].rows_read, record.parts, record.malformed) == (0, (), None)


def test_an_object_deleted_meanwhile_is_a_data_error(land: Callable[..., Landed]) -> None:
    landed = land(contract())
    gone, there = landed.put("a.csv", HEADER + b"1,2,3\n"), landed.put("b.csv", HEADER + b"4,5,6\n")
    landed.delete(gone)
    record = landed.validate(gone, there)
    assert [codes(f) for f in record.files] == [["OBJECT_MISSING"], []]
    why = quarantine_record(landed, gone)
    assert why.content_uri is None
    assert "land it again" in why.replay


def test_exactly_the_listed_version_is_read_whatever_came_after(
    land: Callable[..., Landed],
) -> None:
    landed = land(contract())
    first = landed.put("a.csv", HEADER + b"old,2,3\n")
    landed.put("a.csv", HEADER + b"new,2,3\n")
    assert [r["a"] for r in landed.rows(landed.validate(first))] == ["old"]


def test_a_failing_service_is_no_data_error(land: Callable[..., Landed]) -> None:
    landed = land(contract())
    source_object = landed.put("a.csv", HEADER + b"1,2,3\n")
    elsewhere = source_object.model_copy(update={"bucket": "no-such-bucket-anywhere"})
    with pytest.raises(Exception, match="bucket"):
        landed.validate(elsewhere)
    entry = landed.ledger.entries([elsewhere.id])[elsewhere.id]
    assert entry.state is State.RECEIVED


def test_a_file_that_fails_for_an_unknown_reason_does_not_stop_the_others(
    land: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch
) -> None:
    landed = land(contract(kind=FileFormat.JSON_LINES, missing=DriftPolicy.ALLOW))
    read = preparing.read_json_lines

    def fails(agreed: Contract, object_id: str, chunks: Any, *rest: Any) -> Any:
        body = b"".join(chunks)
        if b"poison" in body:
            raise ValueError("a secret value")
        return read(agreed, object_id, [body], *rest)

    monkeypatch.setattr(preparing, "read_json_lines", fails)
    record = landed.validate(
        landed.put("a.jsonl", b'{"a":"poison"}\n'), landed.put("b.jsonl", b'{"a":"1"}\n')
    )
    assert [codes(f) for f in record.files] == [["PROCESSING_FAILURE"], []]
    assert all(f.content_hash for f in record.files)
    assert "secret" not in record.model_dump_json()


def test_a_service_that_fails_in_the_middle_of_a_file_is_no_data_error(
    land: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines are read as they arrive, so the store fails inside of what reads them."""
    landed = land(contract(kind=FileFormat.JSON_LINES))
    source_object = landed.put("a.jsonl", b'{"a":"1","b":"2","c":"3"}\n' * 9)

    def breaks(source_object: SourceObject) -> Iterator[bytes]:
        yield b'{"a":"1","b":"2","c":"3"}\n'
        raise ValueError("the connection broke")

    monkeypatch.setattr(landed.store, "open_source", breaks)
    with pytest.raises(ValueError, match="the connection broke"):
        landed.validate(source_object)
    assert landed.ledger.entries([source_object.id])[source_object.id].state is State.RECEIVED


# --- Duplicates ----------------------------------------------------------------------------------


def refusing_duplicates(**what: Any) -> Contract:
    return with_landing(contract(**what), duplicates=FilePolicy.QUARANTINE_FILE)


BODY = HEADER + b"1,2,3\n"


def test_the_same_content_under_another_key_is_a_duplicate(land: Callable[..., Landed]) -> None:
    landed = land(refusing_duplicates())
    assert landed.judge("b.csv", BODY).accepted
    later = landed.judge("a.csv", BODY)
    assert codes(later) == ["DUPLICATE_CONTENT"]
    assert "b.csv" in later.findings[0].message
    assert later.rows_read == 0


def test_of_duplicates_in_one_manifest_the_first_is_taken(land: Callable[..., Landed]) -> None:
    landed = land(refusing_duplicates())
    record = landed.validate(landed.put("b.csv", BODY), landed.put("a.csv", BODY))
    assert [(f.source_object.key[-5:], f.accepted) for f in record.files] == [
        ("a.csv", True),
        ("b.csv", False),
    ]
    assert len(landed.rows(record)) == 1


def test_the_same_content_again_under_its_own_key_is_no_duplicate(
    land: Callable[..., Landed],
) -> None:
    landed = land(refusing_duplicates())
    first, second = landed.put("a.csv", BODY), landed.put("a.csv", BODY)
    assert first.id != second.id
    assert landed.validate(first).files[0].accepted
    assert landed.validate(second).files[0].accepted


def test_a_refused_file_does_not_claim_its_content(land: Callable[..., Landed]) -> None:
    landed = land(refusing_duplicates(kind=FileFormat.JSON_LINES, missing=DriftPolicy.ALLOW))
    agreed = landed.contract
    body = b'{"a":"1","zzz":2}\n'
    strict = replace(agreed, drift=replace(agreed.drift, additive=DriftPolicy.QUARANTINE_FILE))
    landed.contract = strict
    assert codes(landed.judge("a.jsonl", body)) == ["COLUMN_UNEXPECTED"]
    landed.contract = agreed
    assert landed.judge("b.jsonl", body).accepted


def test_duplicates_that_are_allowed_are_taken(land: Callable[..., Landed]) -> None:
    landed = land(contract())
    record = landed.validate(landed.put("a.csv", BODY), landed.put("b.csv", BODY))
    assert [f.accepted for f in record.files] == [True, True]


# --- Again ---------------------------------------------------------------------------------------


def test_validating_again_gives_the_same_and_moves_nothing(land: Callable[..., Landed]) -> None:
    landed = land(refusing_duplicates())
    objects = [
        landed.put("a.csv", BODY),
        landed.put("b.csv", BODY),
        landed.put("c.csv", HEADER + b"x\n"),
    ]
    first = landed.validate(*objects)
    lines = [len(landed.ledger.history(o.id)) for o in objects]
    second = landed.validate(*objects)
    assert second.files == first.files
    assert second.parts == first.parts
    assert [len(landed.ledger.history(o.id)) for o in objects] == lines


class Died(Exception):
    pass


@pytest.mark.parametrize("at", ["upload", "copy_source", "write", "move"])
def test_a_run_that_died_anywhere_is_run_again_with_the_same_outcome(
    land: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    landed = land(refusing_duplicates())
    objects = [landed.put("a.csv", BODY), landed.put("b.csv", BODY), landed.put("c.csv", b"")]

    def die(*_: Any, **__: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(landed.ledger if at == "move" else landed.store, at, die)
        with pytest.raises(Died):
            landed.validate(*objects)
    if at != "move":
        assert not [k for k in landed.store.keys(Zone.VALIDATED, "") if "validation.json" in k]
    record = landed.validate(*objects)
    assert [f.accepted for f in record.files] == [True, False, False]
    states = [landed.ledger.entries([o.id])[o.id].state for o in objects]
    assert states == [State.VALIDATED, State.QUARANTINED, State.QUARANTINED]


# --- Formats, and many of them -------------------------------------------------------------------


def body_of(kind: FileFormat, rows: list[list[str]]) -> bytes:
    if kind is FileFormat.PARQUET:
        out = pa.BufferOutputStream()
        names = ("a", "b", "c")
        pq.write_table(pa.table({n: [r[i] for r in rows] for i, n in enumerate(names)}), out)
        return out.getvalue().to_pybytes()
    objects = [dict(zip("abc", row, strict=True)) for row in rows]
    if kind is FileFormat.JSON_ARRAY:
        return json.dumps(objects).encode()
    if kind is FileFormat.JSON_LINES:
        return "".join(json.dumps(o) + "\n" for o in objects).encode()
    separator = "\t" if kind is FileFormat.TSV else ","
    return "".join(separator.join(row) + "\n" for row in [["a", "b", "c"], *rows]).encode()


@pytest.mark.parametrize("kind", list(FileFormat))
def test_every_format_gives_the_same_canonical_text(
    land: Callable[..., Landed], kind: FileFormat
) -> None:
    landed = land(contract(kind=kind))
    rows = [["1.10", "é", ""], ["x", "y", "z"]]
    name = f"a.{EXTENSION[kind]}.gz"
    record = landed.validate(landed.put(name, gzip.compress(body_of(kind, rows))))
    assert values(landed.rows(record)) == rows


@pytest.mark.parametrize("kind", list(FileFormat))
@given(body=st.binary(max_size=80) | st.text('ab,"\n\r{}[]:1\t', max_size=60).map(str.encode))
@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_get_a_record_and_their_rows_are_conserved(
    land: Callable[..., Landed], kind: FileFormat, body: bytes
) -> None:
    landed = land(contract(kind=kind))
    name = f"{time.perf_counter_ns()}"
    record = landed.validate(
        landed.put(f"{name}.{EXTENSION[kind]}", body),
        landed.put(f"{name}-headed.{EXTENSION[kind]}", b"a,b,c\n" + body),
    )
    assert len(record.files) == 2
    for file in record.files:
        assert file.accepted or file.findings
    read = sum(f.rows_read for f in record.files)
    assert read == sum(p.rows for p in record.parts) + (
        record.malformed.rows if record.malformed else 0
    )


def test_many_small_files_are_no_many_parts_nor_many_files_in_hand(
    land: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_WINDOW_FILES", 7)
    landed = land(refusing_duplicates())
    objects = [landed.put(f"{i:04d}.csv", HEADER + b"%d,x,y\n" % i) for i in range(40)]
    record = landed.validate(*objects)
    assert len(record.parts) == 1
    assert [r["a"] for r in landed.rows(record)] == [str(i) for i in range(40)]


# --- Golden files --------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["orders", "customers", "shipments"])
def test_golden_files_have_the_validation_outcome_that_they_state(
    land: Callable[..., Landed], dataset: str
) -> None:
    agreed = load_contract(ROOT / "contracts" / f"{dataset}.yaml")
    expected = json.loads((GOLDEN / dataset / "expected.json").read_text())
    landed = land(agreed)
    paths = sorted((GOLDEN / dataset).glob(f"{dataset}_*"))
    assert {p.name for p in paths} == set(expected), "expected.json speaks of every golden file"
    record = landed.validate(
        *(
            landed.put(p.name, p.read_bytes(), late=expected[p.name].get("days_ago", 0) > 3)
            for p in paths
        )
    )
    by_curation = {"TYPE", "RANGE", "RULE", "DUPLICATE_KEY"}
    for file in record.files:
        name = file.source_object.key.rpartition("/")[2]
        meant = expected[name]
        assert file.accepted == (meant["status"] != "quarantined"), name
        assert file.rows_read == meant["rows_read"], name
        assert [
            {"code": f.code, "scope": f.scope, "line": f.line, "column": f.column,
             "count": f.count}
            for f in file.findings
        ] == [r for r in meant["reasons"] if r["code"] not in by_curation], name  # fmt: skip
        kinds = sorted({d.kind.value for d in file.drift})
        assert kinds == sorted(set(meant["drift"]) - {"type"}), name
        assert meant["rows_read"] == meant["rows_published"] + meant["rows_quarantined"], name


def test_golden_files_name_no_real_address() -> None:
    for path in GOLDEN.glob("customers/*.jsonl"):
        for line in path.read_text().splitlines():
            assert "@" not in line or "@example.com" in line
