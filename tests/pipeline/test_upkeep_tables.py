"""Upkeep of the published tables, on a real Glue catalog and real Parquet: no row changes by it,
whoever publishes, reads or dies meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ReadTimeoutError

from dagster_project.definitions import build_definitions
from resources.catalog import IcebergCatalog
from resources.table_upkeep import RowsLostError
from service_core.contract.model import ColumnType, Contract, LogicalType
from service_core.layout import Zone
from service_core.leftovers import DatasetFiles, ZoneTally, clear_leftovers
from service_core.leftovers import Kept as KeptFile
from service_core.ports import Ledger, ObjectStore
from service_core.settings import Settings
from service_core.upkeep import Kept, Retention, Tended
from tests.judged_batches import Judged, column, contract, landed
from tests.pipeline.conftest import Lake, orders

NOTHING: frozenset[str] = frozenset()
ALL = Retention(timedelta(days=30), 1_000)


@pytest.fixture
def judged(aws: Callable[[str], Any], settings: Settings) -> Judged:
    return Judged(aws("s3"), settings)


@pytest.fixture
def catalog(settings: Settings) -> IcebergCatalog:
    return IcebergCatalog(settings)


def tend(catalog: IcebergCatalog, of: Contract, retention: Retention = ALL, **more: Any) -> Tended:
    """As it would be in two days, when the partition is closed."""
    instead = {"settled": lambda ids: ids, "now": datetime.now(UTC) + timedelta(days=2), **more}
    done = catalog.tend(of, retention, **instead)
    assert done is not None
    return done


def rows(catalog: IcebergCatalog, of: Contract) -> pa.Table:
    return catalog.scan(of).read_all().sort_by("id")


def ids(catalog: IcebergCatalog, of: Contract) -> list[int]:
    return list(rows(catalog, of)["id"].to_pylist())


def files(catalog: IcebergCatalog, of: Contract) -> set[str]:
    table = catalog.table(of)
    assert table is not None
    return {task.file.file_path for task in table.scan().plan_files()}


def publish(catalog: IcebergCatalog, judged: Judged, of: Contract, numbers: Iterable[int]) -> Any:
    """One batch, each row of it in a file of its own."""
    verdict = judged(of, {landed(f"{n}.csv"): [n] for n in numbers})
    catalog.publish(of, verdict, NOTHING)
    return verdict


def test_small_files_of_a_closed_partition_become_one_and_every_column_stays_as_it_was(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of = contract()
    first = publish(catalog, judged, of, range(5))
    table = catalog.table(of)
    assert table is not None
    pinned = table.metadata.current_snapshot_id
    wide = replace(of.columns[1], type=ColumnType(LogicalType.DECIMAL, 18, 2))
    columns = (of.columns[0], wide, *of.columns[2:], column("country", LogicalType.STRING))
    wider = contract(version="1.1.0", hash="f" * 16, columns=columns)
    publish(catalog, judged, wider, range(5, 9))
    before, there = rows(catalog, wider), files(catalog, wider)

    shown = tend(catalog, wider, dry_run=True)
    assert (shown.compacted, shown.written) == (9, 1)
    assert files(catalog, wider) == there
    open_still = tend(catalog, wider, now=datetime.now(UTC))
    assert open_still.compacted == 0 and open_still.kept[Kept.FEW_OPEN] == 9

    done = tend(catalog, wider)
    assert (done.compacted, done.written, done.outrun) == (9, 1, ())
    assert (done.before.data_files, done.after.data_files, done.after.rows) == (9, 1, 9)
    assert rows(catalog, wider) == before and before.num_rows == 9
    assert len(files(catalog, wider)) == 1

    again = tend(catalog, wider)
    assert (again.compacted, again.merged, again.expired) == (0, False, 0)
    assert again.kept[Kept.FEW_CLOSED] == 1 and again.after.snapshots == done.after.snapshots

    # Who reads an older snapshot reads what it held; publishers find a batch's rows by themselves.
    table = catalog.table(of)
    assert table is not None
    read = table.scan(snapshot_id=pinned, selected_fields=("id",)).to_arrow()
    assert sorted(read["id"].to_pylist()) == [0, 1, 2, 3, 4]
    assert not catalog.publish(of, first, NOTHING).committed
    catalog.publish(wider, judged(wider, {landed("3.csv", "v2", minutes=1): [33]}), NOTHING)
    assert ids(catalog, wider) == [0, 1, 2, 4, 5, 6, 7, 8, 33]


def test_a_batch_whose_snapshot_is_expired_and_whose_files_are_gone_is_not_published_twice(
    catalog: IcebergCatalog, judged: Judged
) -> None:
    of = contract()
    verdict = publish(catalog, judged, of, range(9))
    for n in range(10, 13):
        publish(catalog, judged, of, [n])
    before = rows(catalog, of)
    done = tend(catalog, of, Retention(timedelta(days=30), 2))
    assert (done.compacted, done.after.snapshots) == (12, 2)
    table = catalog.table(of)
    assert table is not None
    assert verdict.batch_id not in str(table.metadata.snapshots)
    catalog.publish(of, verdict, NOTHING)
    assert rows(catalog, of) == before
    catalog.publish(of, verdict, NOTHING)
    assert rows(catalog, of) == before


def test_what_expired_snapshots_refer_to_goes_with_the_second_clean_up_and_not_before(
    catalog: IcebergCatalog,
    judged: Judged,
    settings: Settings,
    object_store: ObjectStore,
    ledger: Ledger,
) -> None:
    """Somebody may still be reading by a snapshot that has just gone."""
    of = contract()

    def clean_up() -> ZoneTally:
        return clear_leftovers(
            [DatasetFiles("orders", "orders")],
            object_store,
            ledger,
            IcebergCatalog(settings),
            lambda: (),
            clock=lambda: datetime.now(UTC) + timedelta(days=4),
            safety_age=timedelta(days=3),
            retention=timedelta(0),
        )[Zone.CURATED]

    publish(catalog, judged, of, range(9))
    table = catalog.table(of)
    assert table is not None
    (held,) = (table.scan(snapshot_id=s.snapshot_id) for s in table.metadata.snapshots)
    publish(catalog, judged, of, [10])
    tend(catalog, of)
    publish(catalog, judged, of, [11])
    assert clean_up().removed == 0, "a snapshot refers to every file"
    done = tend(catalog, of, Retention(timedelta(days=30), 1))
    assert done.expired == 3 and done.after.snapshots == 1

    metadata = set(object_store.keys(Zone.CURATED, "_tables/orders/metadata/"))
    first = clean_up()
    assert (first.removed, first.kept[KeptFile.REFERENCED] > 10) == (1, True), "only the note"
    assert held.to_arrow().num_rows == 9
    second = clean_up()
    # Ten staged files, and the manifest lists and some manifests of three snapshots.
    assert second.removed >= 10 + 3
    assert set(object_store.keys(Zone.CURATED, "_tables/orders/metadata/")) < metadata
    assert list(object_store.keys(Zone.CURATED, "_tables/orders/parted/")) == []
    assert clean_up().removed == 0
    assert ids(IcebergCatalog(settings), of) == [*range(9), 10, 11]


def test_manifests_that_replacing_batches_leave_are_put_together(
    catalog: IcebergCatalog, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = contract()
    publish(catalog, judged, of, range(5))
    for minute in range(1, 5):
        newer = landed(f"{minute}.csv", f"v{minute}", minutes=minute)
        catalog.publish(of, judged(of, {newer: [minute * 100]}), NOTHING)
    monkeypatch.setattr("service_core.upkeep.MANIFESTS", 3)
    done = tend(catalog, of)
    assert done.merged and done.before.manifests > 3 and done.after.manifests == 1
    assert ids(catalog, of) == [0, 100, 200, 300, 400]
    table = catalog.table(of)
    assert table is not None
    assert table.properties["commit.manifest.min-count-to-merge"] == "20"
    assert not tend(catalog, of).merged


@pytest.mark.soak
def test_publishers_and_upkeep_at_once_lose_nothing_and_double_nothing(
    settings: Settings, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = contract()
    monkeypatch.setattr("service_core.upkeep.FEWEST_CLOSED", 2)
    monkeypatch.setattr("service_core.upkeep.MANIFESTS", 3)
    publish(IcebergCatalog(settings), judged, of, range(4))
    over = threading.Event()
    tended: list[Tended] = []

    def look_after() -> None:
        while not over.is_set():
            tended.append(tend(IcebergCatalog(settings), of, Retention(timedelta(days=30), 3)))

    def publisher(which: int) -> None:
        for n in range(3):
            # Each replaces a row that upkeep may just be moving, and brings one.
            publish(IcebergCatalog(settings), judged, of, [100 + which * 10 + n])
            newer = landed(f"{which}.csv", f"v{n}", minutes=1 + n)
            catalog = IcebergCatalog(settings)
            catalog.publish(of, judged(of, {newer: [1_000 + which * 10 + n]}), NOTHING)

    with ThreadPoolExecutor(6) as threads:
        keepers = [threads.submit(look_after) for _ in range(2)]
        publishers = [threads.submit(publisher, which) for which in range(3)]
        for one in publishers:
            one.result()
        over.set()
        for one in keepers:
            one.result()
    wanted = [3, *(100 + w * 10 + n for w in range(3) for n in range(3))]
    assert ids(IcebergCatalog(settings), of) == [*wanted, *(1_002 + w * 10 for w in range(3))]
    assert sum(one.compacted for one in tended) > 0 and sum(one.expired for one in tended) > 0


def test_a_commit_whose_answer_is_lost_is_found_made(
    catalog: IcebergCatalog, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = contract()
    publish(catalog, judged, of, range(9))
    before = rows(catalog, of)
    update = catalog._tables.opened().glue.update_table
    answers = [ReadTimeoutError(endpoint_url="https://glue")]

    def update_table(**fields: Any) -> Any:
        done = update(**fields)
        if answers:
            raise answers.pop()
        return done

    monkeypatch.setattr(catalog._tables.opened().glue, "update_table", update_table)
    done = tend(catalog, of)
    assert (done.compacted, done.written, done.outrun) == (9, 1, ())
    assert rows(catalog, of) == before and len(files(catalog, of)) == 1
    table = catalog.table(of)
    assert table is not None and len(table.metadata.snapshots) == 2, "compacted once"


class Died(BaseException):
    """The process was killed: nothing may catch it."""


@pytest.mark.slow
def test_upkeep_may_die_at_every_request_that_changes_something_and_be_run_again(
    settings: Settings, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a request, which is as good as after the one before it: nothing but requests lasts."""
    of, few = contract(), Retention(timedelta(days=30), 2)
    monkeypatch.setattr("service_core.upkeep.MANIFESTS", 2)
    catalog = IcebergCatalog(settings)
    left = -1

    def count(model: Any, **_: Any) -> None:
        nonlocal left
        left -= model.name in {"PutObject", "UpdateTable"}
        if left == 0:
            raise Died(model.name)

    clients = [catalog._tables.opened().glue, catalog._tables.opened().io._s3]
    rounds = 0
    try:
        for client in clients:
            client.meta.events.register("before-call", count, unique_id="dying")
        while True:
            publish(catalog, judged, of, range(rounds * 10, rounds * 10 + 9))
            before = rows(catalog, of)
            rounds, left = rounds + 1, rounds + 1
            try:
                tend(IcebergCatalog(settings), of, few)
                died = False
            except Died:
                died = True
            left = -1
            assert rows(IcebergCatalog(settings), of) == before
            done = tend(IcebergCatalog(settings), of, few)
            assert rows(IcebergCatalog(settings), of) == before
            assert (done.after.data_files, done.after.snapshots) == (1, 2)
            if not died:
                break
    finally:
        for client in clients:
            client.meta.events.unregister("before-call", unique_id="dying")
    assert rounds > 8, "a note, manifests, manifest lists, metadata and commits"


def test_a_file_that_reads_shorter_than_its_manifest_says_is_left_alone(
    catalog: IcebergCatalog, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = contract()
    publish(catalog, judged, of, range(9))
    there = files(catalog, of)
    monkeypatch.setattr("resources.table_upkeep.read_batches", lambda io, uri: iter(()))
    with pytest.raises(RowsLostError, match="hold 9 rows by their manifests, and 0 were read"):
        tend(catalog, of)
    assert files(catalog, of) == there


def test_the_asset_says_what_it_did_to_each_table(
    make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    lake = make_lake(orders_contract)
    for n in range(3):
        lake.land(f"orders_{n}.csv", orders([n]))
        (result,) = lake.run_all()
        assert result.success
    settings = lake.settings.model_copy(update={"snapshots": 2})
    job = build_definitions([lake.contract], settings).resolve_job_def("table_upkeep")

    def run(**config: Any) -> dict[str, Any]:
        result = job.execute_in_process(
            instance=lake.session.instance,
            run_config={"ops": {"maintenance__tables": {"config": config}}},
        )
        assert result.success
        (event,) = result.get_asset_materialization_events()
        return {
            k: getattr(v, "records", v.value) for k, v in event.materialization.metadata.items()
        }

    shown = run(dry_run=True)
    assert (shown["dry_run"], shown["snapshots_expired"]) == (True, 1)
    done = run()
    assert (done["snapshots_expired"], done["files_compacted"], done["left_to_others"]) == (1, 0, 0)
    (one,) = (record.data for record in done["tables"])
    assert (one["snapshots_before"], one["snapshots_after"], one["rows"]) == (3, 2, 3)
    kept = {record.data["what"]: record.data["count"] for record in done["kept"]}
    assert kept[Kept.FEW_OPEN.sentence] == 3 and kept[Kept.RETENTION.sentence] == 2
    assert run()["snapshots_expired"] == 0
    assert lake.published_ids() == [f"O{n:09d}" for n in range(3)]
