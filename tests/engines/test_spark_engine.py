"""Whole batches on Spark: what is asked of curation in process holds there too, however its rows
are cut into tasks."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resources.ledger import DynamoLedger
from service_core.canonical import accepted_schema
from service_core.contract.model import Contract, DriftPolicies, DriftPolicy
from service_core.curation.conclusion import record_in_ledger
from service_core.curation.workbench import Batch
from service_core.layout import Zone, batch_prefix, quarantined_rows_prefix
from service_core.ports import PublishedFiles
from service_core.s3_store import S3ObjectStore, split_uri
from service_core.spark import judge_on_spark
from service_core.spark.crew import TaskFailedError
from service_core.spark.reach import Reach
from service_core.spark.session import local_session
from service_core.spark.spans import Sizes
from service_core.verdict import Verdict
from tests.canonical_batches import (
    NOON,
    PARTITION,
    Delivery,
    PublishedTable,
    landed,
    orders,
    row,
    run_of,
)
from tests.unit import test_curation as in_process
from tests.unit.test_curation import *  # noqa: F403  (its tests, with the desk below)

pytestmark = pytest.mark.slow

A, B = landed("a.csv"), landed("b.csv")

#: So that two rows are enough for two tasks, and every pass is a Spark job.
_SMALL = Sizes(span=2_500, least=1, tiny=1, here=-1)
_SHUFFLED = replace(_SMALL, hashed_keys=1)
#: Tests about keys, which are compared in two ways.
_OF_KEYS = ("_key", "duplicate", "uniqueness")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "desk" in metafunc.fixturenames:
        of_keys = any(word in metafunc.function.__name__ for word in _OF_KEYS)
        cuts = {"cut small": _SMALL, **({"keys shuffled": _SHUFFLED} if of_keys else {})}
        metafunc.parametrize("desk", cuts.values(), ids=cuts.keys(), indirect=True)


class SparkDesk(in_process.Desk):
    """Judges batches on Spark."""

    def __init__(self, spark: Any, sizes: Sizes, *more: Any) -> None:
        super().__init__(*more)
        self.spark, self.sizes = spark, sizes

    def deliver(self, contract: Contract, delivered: Any, **more: Any) -> Delivery:
        return super().deliver(contract, delivered, **{"row_group_rows": 1, **more})

    def curate(
        self,
        batch: Delivery,
        catalog: PublishedTable | None = None,
        *,
        attempt: str = "attempt-1",
        now: Any = NOON,
        force: bool = False,
    ) -> Verdict:
        run = run_of(self.scratch, attempt, now=now)
        verdict = judge_on_spark(
            self.spark,
            Batch(batch.contract, batch.manifest, batch.record),
            self.store,
            run,
            published=self._published(batch.contract, catalog),
            engine="spark",
            reach=Reach.of(self.store, os.environ),
            force=force,
            sizes=self.sizes,
        )
        record_in_ledger(verdict, batch.record, self.store, self.ledger, run)
        return verdict

    def _published(self, contract: Contract, table: PublishedTable | None) -> PublishedFiles | None:
        """Published rows as files, one for each."""
        if table is None or table.snapshot is None or not contract.unique_keys:
            return None
        uris = []
        for number, known in enumerate(table.rows):
            path = self.scratch / f"published-{number}.parquet"
            pq.write_table(pa.Table.from_pylist([known], accepted_schema(contract)), path)
            key = f"{contract.dataset}/published-{number}.parquet"
            uris.append(self.store.upload(path, Zone.CURATED, key))
        return PublishedFiles(table.snapshot, tuple(uris))


@pytest.fixture(scope="module")
def spark(embedded_aws: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return local_session(tmp_path_factory.mktemp("spark"))


@pytest.fixture
def desk(
    request: pytest.FixtureRequest,
    spark: Any,
    object_store: S3ObjectStore,
    ledger: DynamoLedger,
    tmp_path: Path,
) -> SparkDesk:
    return SparkDesk(spark, request.param, object_store, ledger, tmp_path)


def left_behind(desk: SparkDesk, verdict: Verdict) -> set[str]:
    """Keys under the batch's prefixes that its verdict does not name."""
    place = (verdict.dataset, verdict.partition, verdict.batch_id)
    rows = quarantined_rows_prefix(*place, "x").removesuffix("x/")
    there = {*desk.store.keys(Zone.CURATED, batch_prefix(*place))}
    there |= {*desk.store.keys(Zone.QUARANTINE, rows)}
    return there - {split_uri(f.uri)[1] for f in (*verdict.staged, *verdict.quarantined_rows)}


def test_text_that_would_lose_something_is_kept_as_it_arrived(desk: SparkDesk) -> None:
    """As users of `resolveChoice` expect: a value that its type cannot hold is not rounded away."""
    lossy = [row(1), row(2, amount="12.345"), row(3, quantity="9223372036854775808")]
    aside = orders(drift=DriftPolicies(type=DriftPolicy.KEEP_ASIDE))
    verdict = desk.judge(aside, {A: lossy})
    assert [(r["amount"], r["quantity"], r["_extra"]) for r in desk.accepted(verdict)] == [
        (Decimal("12.50"), 3, None),
        (None, 3, '{"amount": "12.345"}'),
        (Decimal("12.50"), None, '{"quantity": "9223372036854775808"}'),
    ]
    diverting = orders(hash="f" * 16, drift=DriftPolicies(type=DriftPolicy.QUARANTINE_ROWS))
    verdict = desk.judge(diverting, {B: lossy})
    assert [(r["amount"], r["quantity"]) for r in desk.diverted(verdict)] == [
        ("12.345", "3"),
        ("12.50", "9223372036854775808"),
    ]


def test_nothing_is_left_that_the_verdict_does_not_name(desk: SparkDesk) -> None:
    """Files that were written anew and what passes hand to each other are gone at the end."""
    bad = row(9, quantity="0")
    verdict = desk.judge(orders(), {A: [row(1), bad, row(2)], B: [row(2), row(1), row(3)]})
    assert [r["order_id"] for r in desk.accepted(verdict)] == ["O1", "O2", "O3"]
    assert left_behind(desk, verdict) == set()


def test_two_jobs_at_one_attempt_do_not_touch_each_others_files(desk: SparkDesk) -> None:
    """A start whose answer was lost may be a start all the same."""
    batch = desk.deliver(orders(), {A: [row(n) for n in range(8)], B: [row(1), row(20)]})
    verdicts: list[Verdict] = []

    def work() -> None:
        verdicts.append(desk.curate(batch, force=True))

    jobs = [threading.Thread(target=work) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    one, two = verdicts
    assert {f.uri for f in one.staged}.isdisjoint(f.uri for f in two.staged)
    for verdict in verdicts:
        desk.assert_consistent(batch.contract, verdict)
        assert len(desk.accepted(verdict)) == 9


@pytest.mark.soak
def test_a_huge_row_group_that_says_one_thing_over_and_over_is_no_trouble(
    desk: SparkDesk,
) -> None:
    """All rows go to one task and all keys to one value: neither is collected in memory whole."""
    desk.sizes = Sizes(hashed_keys=1)
    rows = [row(1, quantity=str(n % 7)) for n in range(500_000)]
    verdict = desk.curate(desk.deliver(orders(), {A: rows}, row_group_rows=len(rows)))
    typed = len(rows) - -(-len(rows) // 7)
    assert (verdict.rows_accepted, verdict.rows_quarantined) == (1, len(rows) - 1)
    assert in_process.check(verdict, "order_id_unique").rows_failed == typed - 1
    assert in_process.check(verdict, "rows_conserved").passed
    assert [f.rows for f in verdict.staged] == [1]
    assert len(verdict.quarantined_rows) == 1


def test_a_task_that_fails_says_why_in_one_sentence(desk: SparkDesk) -> None:
    batch = desk.deliver(orders(), {A: [row(1)]})
    (part,) = batch.record.parts
    desk.store.remove(Zone.VALIDATED, [split_uri(part.uri)[1]])
    with pytest.raises(
        TaskFailedError, match=r"Spark could not judge rows: FileNotFoundError: "
    ) as e:
        desk.curate(batch)
    assert "\n" not in str(e.value)
    assert split_uri(part.uri)[1] in str(e.value)


def test_published_files_from_before_a_column_hold_no_key_of_it(desk: SparkDesk) -> None:
    """A column that the contract gains is absent from older files, and null in their rows."""
    path = desk.scratch / "older.parquet"
    older = orders(columns=tuple(c for c in orders().columns if c.name != "order_id"))
    rows = [{"_source_key": "orders/old.csv", "_source_object_id": "x", "_source_row": 1}]
    pq.write_table(pa.Table.from_pylist(rows, accepted_schema(older)), path)
    uri = desk.store.upload(path, Zone.CURATED, "orders/older.parquet")
    batch = desk.deliver(orders(), {A: [row(1)]})
    run = run_of(desk.scratch, "attempt-1", now=NOON)
    verdict = judge_on_spark(
        desk.spark,
        Batch(batch.contract, batch.manifest, batch.record),
        desk.store,
        run,
        published=PublishedFiles(5, (uri,)),
        engine="spark",
        reach=Reach.of(desk.store, os.environ),
        sizes=desk.sizes,
    )
    assert (verdict.rows_accepted, verdict.judged_against) == (1, 5)
    assert verdict.partition == PARTITION
