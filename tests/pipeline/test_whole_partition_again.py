"""A partition run again under another contract: what was published, and what is quarantined then.

A batch takes over source objects that another has published. Until it publishes, their rows stay
in the table, so nothing of them may go to quarantine; when it may not publish at all, they go back
to the batch whose rows are there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import dagster as dg
import pytest

from service_core.contract.model import Contract, Expectation
from service_core.layout import Zone
from service_core.ledger import State
from service_core.reasons import Severity
from service_core.source_object import SourceObject
from tests.pipeline.conftest import Lake, orders

#: One row in ten of it has no amount that can be read.
TAINTED = orders(range(1, 10)) + orders([10], amount="ten").split(b"\n", 1)[1]
CLEAN = orders(range(20, 25))


@pytest.fixture
def stricter(orders_contract: Contract) -> Contract:
    """The contract under which a file with any diverted row goes whole."""
    return replace(orders_contract, version="9.0.0", hash="f" * 16, tolerated_share=0.0)


def run_partition(lake: Lake) -> dg.ExecuteInProcessResult:
    return lake.session.definitions.resolve_job_def("orders_ingest").execute_in_process(
        instance=lake.session.instance, partition_key=lake.today(), raise_on_error=False
    )


def objects(lake: Lake) -> dict[str, SourceObject]:
    pages = lake.store().list_versions(lake.contract.landing.prefix)
    return {
        o.key.rsplit("/", 1)[1]: o.filed_under(
            lake.settings.bucket(Zone.RAW), lake.today(), valid=True
        )
        for o in pages.objects
    }


def quarantined_rows(lake: Lake, batch_id: str) -> list[str]:
    keys = lake.store().keys(Zone.QUARANTINE, "orders/rows/")
    return [key for key in keys if f"/{batch_id}/" in key]


def test_a_failed_verdict_leaves_what_is_published_as_it_was(
    lake: Lake, make_lake: Callable[..., Lake], stricter: Contract
) -> None:
    lake.land("orders_1.csv", TAINTED)
    (first,) = lake.run_all()
    before = lake.published()
    again = make_lake(stricter)
    assert not run_partition(again).success
    assert lake.published() == before
    assert lake.quarantined_files() == []
    (source,) = objects(lake).values()
    entry = lake.ledger().entries([source.id])[source.id]
    batch_id = lake.verdict_of(first).batch_id
    assert (entry.state, entry.batch_id, entry.published_batch_id) == (
        State.PUBLISHED, batch_id, batch_id,
    )  # fmt: skip
    assert (entry.rows_read, entry.rows_published, entry.rows_quarantined) == (10, 9, 1)
    assert entry.contract_version == lake.contract.version
    last = lake.ledger().history(source.id)[-1]
    assert last.batch_id != batch_id and "may not be published" in last.note
    assert quarantined_rows(lake, last.batch_id) == []


def test_a_blocked_batch_leaves_every_object_to_the_batch_that_published_it(
    lake: Lake, make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    lake.land("orders_1.csv", TAINTED)
    lake.land("orders_2.csv", CLEAN)
    lake.run_all()
    before = lake.published()
    of_batch = replace(
        next(rule for rule in orders_contract.set_rules if rule.name == "revenue"),
        expectation=Expectation(maximum=0),
        severity=Severity.ERROR,
    )
    impossible = make_lake(orders_contract, version="9.0.0", hash="e" * 16, set_rules=(of_batch,))
    assert not run_partition(impossible).success
    assert lake.published() == before
    assert lake.quarantined_files() == []
    states = lake.ledger().entries(o.id for o in objects(lake).values())
    assert {entry.state for entry in states.values()} == {State.PUBLISHED}


def test_a_passed_verdict_withdraws_and_then_quarantines(
    lake: Lake, make_lake: Callable[..., Lake], stricter: Contract
) -> None:
    lake.land("orders_1.csv", TAINTED)
    lake.land("orders_2.csv", CLEAN)
    lake.run_all()
    again = make_lake(stricter)
    assert run_partition(again).success
    assert lake.published_ids() == [f"O{n:09d}" for n in range(20, 25)]
    named = objects(lake)
    (record,) = lake.quarantined_files()
    assert named["orders_1.csv"].id in record
    entries = lake.ledger().entries(o.id for o in named.values())
    tainted, clean = entries[named["orders_1.csv"].id], entries[named["orders_2.csv"].id]
    assert (tainted.state, tainted.published_batch_id) == (State.QUARANTINED, None)
    assert clean.state is State.PUBLISHED and clean.contract_version == "9.0.0"
    assert tainted.batch_id == clean.batch_id == clean.published_batch_id


def test_a_file_that_validation_refuses_now_waits_for_the_publication_too(
    lake: Lake, make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    lake.land("orders_1.csv", orders(range(500, 900)))
    lake.land("orders_2.csv", CLEAN)
    lake.run_all()
    smaller = replace(orders_contract.landing, max_bytes=len(CLEAN) + 1)
    again = make_lake(orders_contract, version="9.0.0", hash="d" * 16, landing=smaller)
    store = again.store()
    job = again.session.definitions.resolve_job_def("orders_ingest")
    steps = job.execute_in_process(
        instance=again.session.instance,
        partition_key=lake.today(),
        asset_selection=[dg.AssetKey(["raw", "orders"]), dg.AssetKey(["validated", "orders"])],
    )
    assert steps.success
    assert list(store.keys(Zone.QUARANTINE, "orders/files/")) == [], "its rows are still published"
    assert run_partition(again).success
    assert len(lake.quarantined_files()) == 1
    assert lake.published_ids() == [f"O{n:09d}" for n in range(20, 25)]
