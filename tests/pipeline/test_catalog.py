"""The published tables, on a real Glue catalog and real Parquet: one snapshot for one batch.

Every test here stands for a sentence of the project's promise that repetition, conflict, and death
in the middle change nothing about which rows are published.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ReadTimeoutError
from pyiceberg.table import DataScan

from resources.catalog import CatalogResource, IcebergCatalog
from resources.table_files import StagedFileError
from resources.table_name import TableSchemaError
from resources.table_patience import PublicationConflictError
from resources.table_rows import PublishedDeletesError
from service_core.canonical import accepted_schema, canonical_schema
from service_core.contract.model import (
    ColumnType,
    Contract,
    LogicalType,
    Processing,
    PublicationMode,
)
from service_core.layout import accepted_part_key
from service_core.ports import ObjectMissingError, Publication
from service_core.settings import Settings
from service_core.source_object import SourceObject
from service_core.verdict import Verdict
from tests.judged_batches import NOON, PARTITION, Judged, column, contract, landed

NOTHING: frozenset[str] = frozenset()


@pytest.fixture
def judged(aws: Callable[[str], Any], settings: Settings) -> Judged:
    return Judged(aws("s3"), settings)


@pytest.fixture
def catalog(settings: Settings, aws: Callable[[str], Any]) -> IcebergCatalog:
    return IcebergCatalog(settings)


def ids(catalog: IcebergCatalog, of: Contract) -> list[int]:
    return sorted(catalog.scan(of, columns=["id"]).read_all()["id"].to_pylist())


def snapshots(catalog: IcebergCatalog, of: Contract) -> int:
    table = catalog.table(of)
    return 0 if table is None else len(table.metadata.snapshots)


# --- One batch -----------------------------------------------------------------------------------


def test_a_batch_becomes_one_snapshot_whose_summary_says_where_it_came_from(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of, one, two = contract(), landed("a.csv"), landed("b.csv")
    verdict = judged(of, {one: [1, 2], two: [3]}, replay_id="replay-7")
    done = catalog.publish(of, verdict, NOTHING)
    assert (done.committed, done.rows_added, done.rows_removed) == (True, 3, 0)
    assert ids(catalog, of) == [1, 2, 3]
    table = catalog.table(of)
    assert table is not None and table.metadata.current_snapshot_id == done.snapshot_id
    assert table.metadata_location == done.metadata_location
    (snapshot,) = table.metadata.snapshots
    assert snapshot.summary is not None
    fields = snapshot.summary.ser_model()
    said = {k: v for k, v in fields.items() if k.startswith("lakegate.")}
    assert said == {
        "lakegate.batch-id": verdict.batch_id,
        "lakegate.run-id": "run-1",
        "lakegate.replay-id": "replay-7",
        "lakegate.dataset": "orders",
        "lakegate.partition": PARTITION,
        "lakegate.contract-version": "1.0.0",
        "lakegate.contract-hash": "0123456789abcdef",
        "lakegate.source-objects": "2",
        "lakegate.rows-added": "3",
        "lakegate.rows-removed": "0",
    }
    paths = set(table.inspect.data_files()["file_path"].to_pylist())
    assert paths == {file.uri for file in verdict.staged}, "staged files are added as they are"


def test_the_published_schema_is_the_contracts(
    catalog: IcebergCatalog, judged: Judged, aws: Callable[[str], Any], settings: Settings
) -> None:
    of = contract()
    catalog.publish(of, judged(of, {landed("a.csv"): [1]}), NOTHING)
    rows = catalog.scan(of).read_all()
    assert rows.schema == accepted_schema(of)
    assert rows.to_pylist()[0] | {} == {
        "id": 1,
        "amount": Decimal("0.01"),
        "at": NOON,
        "note": "note 1",
        "_extra": None,
        "_source_object_id": landed("a.csv").id,
        "_source_key": landed("a.csv").key,
        "_source_row": 1,
        "_batch_id": rows["_batch_id"][0].as_py(),
        "_contract_version": "1.0.0",
        "_ingested_at": NOON,
        "_partition": PARTITION,
    }
    described = aws("glue").get_table(DatabaseName=settings.database, Name="orders")["Table"]
    first = described["StorageDescriptor"]["Columns"][0]
    assert (first["Name"], first["Type"], first["Comment"]) == (
        "id",
        "bigint",
        "The order's number.",
    )
    assert described["Parameters"]["table_type"] == "ICEBERG"


def test_repeating_a_batch_changes_nothing(catalog: IcebergCatalog, judged: Judged) -> None:
    of = contract()
    verdict = judged(of, {landed("a.csv"): [1, 2]})
    first = catalog.publish(of, verdict, NOTHING)
    again = catalog.publish(of, verdict, NOTHING)
    assert not again.committed
    assert (again.snapshot_id, again.rows_added) == (first.snapshot_id, 2)
    assert ids(catalog, of) == [1, 2]
    assert snapshots(catalog, of) == 1


def test_a_repeated_batch_is_found_even_when_its_staged_files_are_gone(
    catalog: IcebergCatalog, judged: Judged, aws: Callable[[str], Any], settings: Settings
) -> None:
    of, one = contract(), landed("a.csv")
    first = judged(of, {one: [1]})
    catalog.publish(of, first, NOTHING)
    catalog.publish(of, judged(of, {one: [1]}), NOTHING)
    bucket, key = first.staged[0].uri.removeprefix("s3://").split("/", 1)
    aws("s3").delete_object(Bucket=bucket, Key=key)
    assert not catalog.publish(of, first, NOTHING).committed


def test_nothing_to_add_and_nothing_to_remove_is_no_commit(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of = contract()
    done = catalog.publish(of, judged(of, {landed("a.csv"): []}), NOTHING)
    assert (done.snapshot_id, done.committed) == (None, False)
    assert catalog.table(of) is None
    assert catalog.current_snapshot(of) is None
    assert list(catalog.published_keys(of, PARTITION, ["id"])) == []
    assert catalog.scan(of).read_all().schema == accepted_schema(of)


def test_a_staged_file_that_is_missing_stops_everything(
    catalog: IcebergCatalog, judged: Judged, aws: Callable[[str], Any]
) -> None:
    of = contract()
    verdict = judged(of, {landed("a.csv"): [1], landed("b.csv"): [2]})
    bucket, key = verdict.staged[1].uri.removeprefix("s3://").split("/", 1)
    aws("s3").delete_object(Bucket=bucket, Key=key)
    with pytest.raises(ObjectMissingError, match=re.escape(verdict.staged[1].uri)):
        catalog.publish(of, verdict, NOTHING)
    assert catalog.table(of) is None


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t.slice(1), "holds 1 rows, and its verdict counted 2"),
        (lambda t: t.drop_columns(["_source_object_id"]), "no column _source_object_id"),
        (lambda t: t.append_column("x", pa.array([1, 2])), "says nothing of it"),
        (
            lambda t: t.set_column(0, "id", pa.array(["1", "2"])),
            "Column id .* is string; the contract says int64",
        ),
        (
            lambda t: t.set_column(11, "_partition", pa.array([PARTITION, "2026-11-22"])),
            "holds rows of partition .*2026-11-22",
        ),
    ],
)
def test_a_staged_file_that_is_not_what_the_verdict_says_is_refused(
    catalog: IcebergCatalog,
    judged: Judged,
    spoil: Callable[[pa.Table], pa.Table],
    said: str,
) -> None:
    of, one = contract(), landed("a.csv")
    verdict = judged(of, {one: [1, 2]})
    key = accepted_part_key("orders", PARTITION, verdict.batch_id, "spoilt", 0)
    spoilt = judged.stage(spoil(judged._table(of, one, [1, 2], verdict.batch_id)), key)
    verdict = verdict.model_copy(update={"staged": (spoilt.model_copy(update={"rows": 2}),)})
    with pytest.raises(StagedFileError, match=said):
        catalog.publish(of, verdict, NOTHING)
    assert catalog.table(of) is None


# --- One batch after another ---------------------------------------------------------------------


def test_another_batch_of_the_same_source_objects_replaces_their_rows(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of, one, two = contract(), landed("a.csv"), landed("b.csv")
    catalog.publish(of, judged(of, {one: [1, 2], two: [3]}), NOTHING)
    done = catalog.publish(of, judged(of, {one: [1]}), NOTHING)
    assert (done.rows_added, done.rows_removed, done.superseded) == (1, 2, ())
    assert ids(catalog, of) == [1, 3]


def test_a_newer_version_of_a_key_replaces_the_older_ones_rows(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of, old, other = contract(), landed("a.csv"), landed("b.csv")
    new = landed("a.csv", "v2", minutes=1)
    catalog.publish(of, judged(of, {old: [1, 2], other: [3]}), NOTHING)
    done = catalog.publish(of, judged(of, {new: [4]}), NOTHING)
    assert done.superseded == (old.id,)
    assert ids(catalog, of) == [3, 4]


def test_in_append_mode_versions_stand_beside_each_other_and_a_batch_replaces_only_its_own(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of = contract(publication=PublicationMode.APPEND)
    old, new = landed("a.csv"), landed("a.csv", "v2", minutes=1)
    catalog.publish(of, judged(of, {old: [1]}), NOTHING)
    catalog.publish(of, judged(of, {new: [2]}), NOTHING)
    assert ids(catalog, of) == [1, 2]
    catalog.publish(of, judged(of, {new: [3]}), NOTHING)
    assert ids(catalog, of) == [1, 3]


def test_repeating_an_older_batch_does_not_bring_its_rows_back(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of, one = contract(), landed("a.csv")
    first, second = judged(of, {one: [1, 2]}), judged(of, {one: [2, 3]})
    catalog.publish(of, first, NOTHING)
    catalog.publish(of, second, NOTHING)
    assert not catalog.publish(of, first, NOTHING).committed
    assert ids(catalog, of) == [2, 3]


def test_a_withheld_object_brings_no_rows_and_touches_none(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    """The older version arrives after the newer one, with another file in its batch."""
    of, new, other = contract(), landed("a.csv", "v2", minutes=1), landed("b.csv")
    old = landed("a.csv")
    catalog.publish(of, judged(of, {new: [9]}), NOTHING)
    for together in (False, True):
        verdict = judged(of, {old: [1], other: [2]}, together=together)
        done = catalog.publish(of, verdict, frozenset({old.id}))
        assert done.withheld == (old.id,)
        assert done.rows_added == 1
        assert ids(catalog, of) == [2, 9]


def test_what_is_withheld_is_asked_after_every_reading_of_the_table(
    catalog: IcebergCatalog, judged: Judged, settings: Settings
) -> None:
    """A newer version is committed between the older one's decision and its commit."""
    of, old, other = contract(), landed("a.csv"), landed("b.csv")
    new = landed("a.csv", "v2", minutes=1)
    catalog.publish(of, judged(of, {landed("c.csv"): [0]}), NOTHING)
    seen: list[int | None] = []

    def withheld(snapshot_id: int | None) -> frozenset[str]:
        seen.append(snapshot_id)
        if len(seen) == 1:
            IcebergCatalog(settings).publish(of, judged(of, {new: [9]}), NOTHING)
            return NOTHING
        return frozenset({old.id})

    catalog.publish(of, judged(of, {old: [1], other: [2]}), withheld)
    assert len(seen) == 2 and seen[0] != seen[1]
    assert ids(catalog, of) == [0, 2, 9]


def test_rows_of_an_object_that_is_now_quarantined_are_withdrawn(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of, bad, good = contract(), landed("a.csv"), landed("b.csv")
    catalog.publish(of, judged(of, {bad: [1, 2], good: [3]}), NOTHING)
    done = catalog.publish(of, judged(of, {good: [3]}, quarantined=[bad]), NOTHING)
    assert done.rows_removed == 3
    assert ids(catalog, of) == [3]


def test_a_quarantined_newer_version_leaves_the_older_ones_rows(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of, old, new = contract(), landed("a.csv"), landed("a.csv", "v2", minutes=1)
    catalog.publish(of, judged(of, {old: [1]}), NOTHING)
    catalog.publish(of, judged(of, {landed("b.csv"): [2]}, quarantined=[new]), NOTHING)
    assert ids(catalog, of) == [1, 2]


def test_a_file_that_is_hit_in_part_is_written_anew_and_the_old_one_left_as_it_was(
    catalog: IcebergCatalog, judged: Judged, aws: Callable[[str], Any]
) -> None:
    of, one, two = contract(), landed("a.csv"), landed("b.csv")
    first = judged(of, {one: [1, 2], two: [3, 4]}, together=True)
    before = catalog.publish(of, first, NOTHING)
    bucket, key = first.staged[0].uri.removeprefix("s3://").split("/", 1)
    etag = aws("s3").head_object(Bucket=bucket, Key=key)["ETag"]

    done = catalog.publish(of, judged(of, {two: [5]}), NOTHING)
    assert (done.rows_added, done.rows_removed) == (1, 2)
    rows = catalog.scan(of).read_all().sort_by("id")
    assert rows["id"].to_pylist() == [1, 2, 5]
    assert rows["_batch_id"].to_pylist()[:2] == [first.batch_id] * 2, "the others keep their origin"
    table = catalog.table(of)
    assert table is not None
    assert first.staged[0].uri not in table.inspect.data_files()["file_path"].to_pylist()
    assert aws("s3").head_object(Bucket=bucket, Key=key)["ETag"] == etag
    old = table.scan(snapshot_id=before.snapshot_id).to_arrow()
    assert sorted(old["id"].to_pylist()) == [1, 2, 3, 4], "older snapshots stay readable"


def test_only_the_batchs_partition_and_only_files_that_can_hold_its_rows_are_read(
    catalog: IcebergCatalog,
    judged: Judged,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import resources.table_change as table_change

    of = contract()
    for number in range(6):
        catalog.publish(of, judged(of, {landed(f"{number}.csv"): [number]}), NOTHING)
    read: list[str] = []
    actual = table_change.read_columns

    def counting(io: Any, uri: str, *rest: Any) -> pa.Table:
        read.append(uri)
        return actual(io, uri, *rest)

    monkeypatch.setattr(table_change, "read_columns", counting)
    catalog.publish(of, judged(of, {landed("3.csv"): [30]}), NOTHING)
    assert len(read) == 1
    assert ids(catalog, of) == [0, 1, 2, 4, 5, 30]


def test_more_keys_than_iceberg_compares_one_by_one_are_still_found(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of = contract()
    many = {landed(f"{n:04d}.csv"): [n] for n in range(250)}
    catalog.publish(of, judged(of, many, together=True), NOTHING)
    done = catalog.publish(of, judged(of, many, together=True), NOTHING)
    assert done.rows_removed == 250
    assert ids(catalog, of) == list(range(250))


# --- Many at once, and dying in the middle -------------------------------------------------------


@pytest.mark.slow
def test_eight_publishers_at_once_lose_nothing_and_double_nothing(
    judged: Judged, settings: Settings
) -> None:
    """They race for the table's creation too, and each batch is published by two of them."""
    of = contract()
    verdicts = [judged(of, {landed(f"{n}.csv"): [n]}) for n in range(4)] * 2
    together = threading.Barrier(len(verdicts))

    def publish(verdict: Verdict) -> Publication:
        catalog = IcebergCatalog(settings)
        together.wait()
        return catalog.publish(of, verdict, NOTHING)

    with ThreadPoolExecutor(len(verdicts)) as publishers:
        done = list(publishers.map(publish, verdicts))
    catalog = IcebergCatalog(settings)
    assert ids(catalog, of) == [0, 1, 2, 3]
    assert sum(d.committed for d in done) == 4
    assert snapshots(catalog, of) == 4


@pytest.mark.slow
def test_eight_batches_of_one_object_at_once_leave_the_rows_of_one(
    judged: Judged, settings: Settings
) -> None:
    of, one = contract(), landed("a.csv")
    verdicts = [judged(of, {one: [n, n + 100]}) for n in range(8)]

    with ThreadPoolExecutor(8) as publishers:
        done = list(
            publishers.map(lambda v: IcebergCatalog(settings).publish(of, v, NOTHING), verdicts)
        )
    assert all(d.committed for d in done)
    left = ids(IcebergCatalog(settings), of)
    assert len(left) == 2 and left[1] == left[0] + 100


@contextmanager
def handling(client: Any, event: str, handler: Callable[..., Any]) -> Iterator[None]:
    """A handler of a client that the whole process shares."""
    client.meta.events.register(event, handler)
    try:
        yield
    finally:
        client.meta.events.unregister(event, handler)


def test_a_commit_whose_answer_is_lost_is_found_and_not_made_twice(
    catalog: IcebergCatalog, judged: Judged, settings: Settings
) -> None:
    """Sent again by the client itself, the commit would be refused as a conflict, and PyIceberg
    would then delete the manifests of the very snapshot that is now the table."""
    of = contract()
    catalog.publish(of, judged(of, {landed("a.csv"): [1]}), NOTHING)
    glue = catalog._tables.opened().glue
    sent: list[Any] = []

    def lose(request: Any, **_: Any) -> None:
        if not sent:
            sent.append(glue._endpoint.http_session.send(request))
            raise ReadTimeoutError(endpoint_url="https://glue")

    with handling(glue, "before-send.glue.UpdateTable", lose):
        done = catalog.publish(of, judged(of, {landed("b.csv"): [2]}), NOTHING)
    assert sent[0].status_code == 200
    assert not done.committed and done.snapshot_id is not None
    assert ids(IcebergCatalog(settings), of) == [1, 2]
    assert snapshots(catalog, of) == 2


def test_a_catalog_that_never_answers_is_given_up_with_a_sentence(
    settings: Settings, judged: Judged
) -> None:
    of, catalog = contract(), IcebergCatalog(settings, patience=1.0)
    verdict = judged(of, {landed("a.csv"): [1]})
    catalog.publish(of, verdict, NOTHING)

    def lost(**_: Any) -> None:
        raise ReadTimeoutError(endpoint_url="https://glue")

    with (
        handling(catalog._tables.opened().glue, "before-call.glue.UpdateTable", lost),
        pytest.raises(PublicationConflictError, match="Publish it again"),
    ):
        catalog.publish(of, judged(of, {landed("b.csv"): [2]}), NOTHING)
    assert ids(catalog, of) == [1]


def test_a_repetition_still_says_which_objects_its_commit_superseded(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    """Whoever died between the commit and the ledger needs to know."""
    of, old, other = contract(), landed("a.csv"), landed("b.csv")
    new = landed("a.csv", "v2", minutes=1)
    catalog.publish(of, judged(of, {old: [1], other: [2]}, together=True), NOTHING)
    verdict = judged(of, {new: [3]})
    first = catalog.publish(of, verdict, NOTHING)
    again = catalog.publish(of, verdict, NOTHING)
    assert first.superseded == again.superseded == (old.id,)
    assert again.rows_removed == 1


def test_a_batch_whose_snapshot_was_expired_does_not_double_its_rows(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of = contract()
    verdict = judged(of, {landed("a.csv"): [1, 2]})
    first = catalog.publish(of, verdict, NOTHING)
    catalog.publish(of, judged(of, {landed("b.csv"): [3]}), NOTHING)
    table = catalog.table(of)
    assert table is not None and first.snapshot_id is not None
    table.maintenance.expire_snapshots().by_id(first.snapshot_id).commit()
    catalog.publish(of, verdict, NOTHING)
    assert ids(catalog, of) == [1, 2, 3]


# --- The contract changes ------------------------------------------------------------------------


def test_a_column_that_the_contract_gains_is_null_in_older_rows_and_stands_in_its_place(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of = contract()
    catalog.publish(of, judged(of, {landed("a.csv"): [1]}), NOTHING)
    country = column("country", LogicalType.STRING, description="Where to.")
    columns = (*of.columns[:2], country, *of.columns[2:])
    wider = contract(version="1.1.0", hash="f" * 16, columns=columns)
    catalog.publish(wider, judged(wider, {landed("b.csv"): [2]}), NOTHING)
    rows = catalog.scan(wider).read_all()
    assert rows.schema == accepted_schema(wider)
    assert sorted(rows["id"].to_pylist()) == [1, 2]
    assert rows["note"].null_count == 0
    assert snapshots(catalog, of) == 2, "schema and rows change in one commit"
    # What is left of a file from before the change is still readable.
    catalog.publish(wider, judged(wider, {landed("a.csv"): [5]}), NOTHING)
    assert ids(catalog, wider) == [2, 5]


def test_decimals_widen_and_files_from_before_stay_readable(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of, one, two = contract(), landed("a.csv"), landed("b.csv")
    catalog.publish(of, judged(of, {one: [1], two: [2]}, together=True), NOTHING)
    wide = replace(of.columns[1], type=ColumnType(LogicalType.DECIMAL, 18, 2))
    wider = contract(version="2.0.0", columns=(of.columns[0], wide, *of.columns[2:]))
    catalog.publish(wider, judged(wider, {two: [3]}), NOTHING)
    rows = catalog.scan(wider).read_all().sort_by("id")
    assert rows.schema.field("amount").type == pa.decimal128(18, 2)
    assert rows["amount"].to_pylist() == [Decimal("0.01"), Decimal("0.03")]


def test_a_dropped_column_and_a_narrowed_decimal_leave_the_table_as_wide_as_it_was(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of = contract()
    catalog.publish(of, judged(of, {landed("a.csv"): [1]}), NOTHING)
    narrow = replace(of.columns[1], type=ColumnType(LogicalType.DECIMAL, 8, 2))
    less = contract(version="2.0.0", columns=(of.columns[0], narrow))
    catalog.publish(less, judged(less, {landed("b.csv"): [2]}), NOTHING)
    rows = catalog.scan(less).read_all().sort_by("id")
    assert rows.schema == accepted_schema(of)
    assert rows["note"].to_pylist() == ["note 1", None]
    assert rows["amount"].to_pylist() == [Decimal("0.01"), Decimal("0.02")]


def test_a_change_that_iceberg_cannot_make_is_refused_before_anything_is_touched(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of = contract()
    before = catalog.publish(of, judged(of, {landed("a.csv"): [1]}), NOTHING)
    text = replace(of.columns[0], type=ColumnType(LogicalType.STRING))
    other = contract(version="2.0.0", columns=(text, *of.columns[1:]))
    rows = judged(of, {landed("b.csv"): [2]})
    key = accepted_part_key("orders", PARTITION, rows.batch_id, "text", 0)
    table = Judged._table(of, landed("b.csv"), [2], rows.batch_id)
    staged = judged.stage(table.set_column(0, "id", pa.array(["2"])), key)
    with pytest.raises(TableSchemaError, match=r"Column id of table .*orders is long.*string"):
        catalog.publish(other, rows.model_copy(update={"staged": (staged,)}), NOTHING)
    assert catalog.current_snapshot(of) == before.snapshot_id


def test_an_elt_data_set_publishes_its_text_with_the_whole_origin(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of = contract(processing=Processing.ELT)
    old, new = landed("a.csv"), landed("a.csv", "v2", minutes=1)

    def verdict(source: SourceObject, amount: str) -> Verdict:
        empty = judged(of, {source: [1]})
        row = {
            "id": "1",
            "amount": amount,
            "_source_object_id": source.id,
            "_source_row": 1,
            "_source_line": 2,
        }
        key = accepted_part_key("orders", PARTITION, empty.batch_id, "text", 0)
        text = pa.Table.from_pylist([row], canonical_schema(of))
        return empty.model_copy(update={"staged": (judged.stage(text, key),)})

    catalog.publish(of, verdict(old, "1,50"), NOTHING)
    done = catalog.publish(of, verdict(new, "1.50"), NOTHING)
    assert catalog.table_name(of).endswith(".orders_text")
    assert done.superseded == (old.id,)
    (row,) = catalog.scan(of).read_all().to_pylist()
    assert (row["amount"], row["_source_key"], row["_partition"]) == ("1.50", old.key, PARTITION)


# --- What is published ---------------------------------------------------------------------------


def test_published_keys_are_those_of_the_partition_without_what_is_about_to_be_replaced(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of, one, two, three = contract(), landed("a.csv"), landed("b.csv"), landed("c.csv")
    catalog.publish(of, judged(of, {one: [1], two: [2], three: [3]}, together=True), NOTHING)

    def keys(**excepted: Any) -> list[dict[str, Any]]:
        batches = catalog.published_keys(of, PARTITION, ["id"], **excepted)
        return sorted((r for b in batches for r in b.to_pylist()), key=lambda r: r["id"])

    assert keys(except_source_keys=[one.key], except_source_objects=[two.id]) == [
        {"id": 3, "_source_key": three.key, "_source_row": 3}
    ]
    assert [row["id"] for row in keys(except_source_keys=[])] == [1, 2, 3]
    assert list(catalog.published_keys(of, "2026-11-22", ["id"])) == []
    assert list(catalog.published_keys(of, PARTITION, ["not_there_yet"])) == []


def test_published_files_hold_the_partitions_rows_as_of_their_snapshot_and_no_others(
    catalog: IcebergCatalog, judged: Judged, aws: Callable[[str], Any]
) -> None:
    """An engine without a catalogue reads these files, and must find what the table shows."""
    of = contract()
    assert catalog.published_files(of, PARTITION) is None
    catalog.publish(of, judged(of, {landed("a.csv"): [1], landed("b.csv"): [2, 3]}), NOTHING)
    country = column("country", LogicalType.STRING)
    wider = contract(version="1.1.0", hash="f" * 16, columns=(*of.columns, country))
    newer = judged(wider, {landed("a.csv", "v2", minutes=1): [4]}, together=True)
    catalog.publish(wider, newer, NOTHING)

    files = catalog.published_files(wider, PARTITION)
    assert files is not None
    assert files.snapshot_id == catalog.current_snapshot(wider)
    tables = [_read(aws("s3"), uri) for uri in files.uris]
    assert sorted(i for table in tables for i in table["id"].to_pylist()) == [2, 3, 4]
    assert any("country" not in table.column_names for table in tables), "a file from before"
    nothing = catalog.published_files(wider, "2026-11-22")
    assert nothing is not None and nothing.uris == ()


def _read(s3: Any, uri: str) -> pa.Table:
    bucket, key = uri.removeprefix("s3://").split("/", 1)
    return pq.read_table(io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read()))


def test_files_that_do_not_tell_what_is_published_are_not_given_out(
    catalog: IcebergCatalog, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = contract()
    catalog.publish(of, judged(of, {landed("a.csv"): [1]}), NOTHING)
    table = catalog.table(of)
    assert table is not None
    (task,) = table.scan().plan_files()
    # As a table looks in which another engine has deleted rows by position.
    task.delete_files.add(task.file)
    monkeypatch.setattr(DataScan, "plan_files", lambda _: [task])
    with pytest.raises(PublishedDeletesError, match=r"OPTIMIZE .*orders REWRITE DATA"):
        catalog.published_files(of, PARTITION)


def test_the_resource_gives_the_catalog_of_its_settings(settings: Settings) -> None:
    resource = CatalogResource.of(settings)
    assert resource.catalog() is resource.catalog()
    assert resource.catalog().table_name(contract()) == f"{settings.database}.orders"


def test_a_commit_takes_few_requests(catalog: IcebergCatalog, judged: Judged) -> None:
    """Each is a round trip. PyIceberg's own ways make some 25, and more with every commit that
    the partition has had."""
    of = contract()
    for number in range(3):
        catalog.publish(of, judged(of, {landed(f"{number}.csv"): [number]}), NOTHING)
    verdict = judged(of, {landed("new.csv"): [9]})
    calls: list[str] = []

    def count(model: Any, **_: Any) -> None:
        calls.append(model.name)

    glue = catalog._tables.opened()
    with (
        handling(glue.glue, "before-call.glue", count),
        handling(glue.io._s3, "before-call.s3", count),
    ):
        catalog.publish(of, verdict, NOTHING)
    # And one by Arrow, for the staged file's footer.
    assert calls == ["GetTable", "PutObject", "PutObject", "GetTable", "PutObject", "UpdateTable"]


def test_manifests_do_not_grow_with_every_commit(catalog: IcebergCatalog, judged: Judged) -> None:
    of = contract()
    for number in range(25):
        catalog.publish(of, judged(of, {landed(f"{number}.csv"): [number]}), NOTHING)
    table = catalog.table(of)
    assert table is not None
    assert len(table.inspect.manifests()) < 20
    assert ids(catalog, of) == list(range(25))
    catalog.publish(of, judged(of, {landed("3.csv"): [30]}), NOTHING)
    assert ids(catalog, of) == sorted([*range(3), *range(4, 25), 30])
