"""The whole path: from a landed file, through a real tick and a real run, to rows in the table."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from assets import keys
from service_core.contract import load_contract
from service_core.contract.checks import check_names
from service_core.contract.model import Contract
from service_core.layout import Zone
from service_core.ledger import State
from tests.pipeline.conftest import GOLDEN, ROOT, Lake, orders


def golden(dataset: str) -> dict[str, Any]:
    return json.loads((GOLDEN / dataset / "expected.json").read_text())


def test_a_good_file_is_published_with_its_origin(lake: Lake) -> None:
    key = lake.land("orders_1.csv", orders([1, 2]))
    (result,) = lake.run_all()
    assert result.success
    rows = sorted(lake.published(), key=lambda row: row["order_id"])
    assert [r["order_id"] for r in rows] == ["O000000001", "O000000002"]
    assert {r["_source_key"] for r in rows} == {key}
    assert [r["_source_row"] for r in rows] == [1, 2]
    assert {r["_batch_id"] for r in rows} == {result.dagster_run.tags["lakegate/batch_id"]}
    assert {r["_contract_version"] for r in rows} == {lake.contract.version}
    assert all(r["_ingested_at"] is not None and r["_source_object_id"] for r in rows)


def test_a_bad_row_is_diverted_and_the_rest_published(lake: Lake) -> None:
    body = orders(range(1, 10)) + orders([10], amount="ten").split(b"\n", 1)[1]
    lake.land("orders_1.csv", body)
    (result,) = lake.run_all()
    verdict = lake.verdict_of(result)
    assert (verdict.rows_read, verdict.rows_accepted, verdict.rows_quarantined) == (10, 9, 1)
    (finding,) = verdict.files[0].findings
    assert (finding.code.value, finding.column, finding.line, finding.sample) == (
        "TYPE", "amount", 11, "ten",
    )  # fmt: skip
    assert "O000000010" not in lake.published_ids()


def test_a_bad_file_is_quarantined_untouched_with_a_record(lake: Lake) -> None:
    body = b"order_id,amount\nO000000001,1.00\n"
    lake.land("orders_1.csv", body)
    lake.land("orders_2.csv", orders([1]))
    lake.run_all()
    (record_key,) = lake.quarantined_files()
    content = lake.store().read(Zone.QUARANTINE, record_key.replace("record.json", "content"))
    record = json.loads(lake.store().read(Zone.QUARANTINE, record_key))
    assert content == body
    assert "COLUMN_MISSING" in json.dumps(record)
    assert lake.published_ids() == ["O000000001"]


def test_nothing_is_both_published_and_quarantined(lake: Lake) -> None:
    lake.land("orders_1.csv", orders(range(1, 10)) + b"broken\n")
    lake.run_all()
    published = {(r["_source_key"], r["_source_row"]) for r in lake.published()}
    assert len(published) == 9


def test_a_newer_version_of_a_key_replaces_the_rows_of_the_older(lake: Lake) -> None:
    lake.land("orders_1.csv", orders([1, 2]))
    lake.run_all()
    lake.land("orders_1.csv", orders([2, 3]))
    lake.run_all()
    assert lake.published_ids() == ["O000000002", "O000000003"]


def test_the_same_content_under_another_key_is_a_duplicate(lake: Lake) -> None:
    lake.land("orders_1.csv", orders([1]))
    lake.run_all()
    lake.land("orders_2.csv", orders([1]))
    (result,) = lake.run_all()
    (outcome,) = lake.verdict_of(result).files
    assert [f.code.value for f in outcome.findings] == ["DUPLICATE_CONTENT"]
    assert lake.published_ids() == ["O000000001"]


def test_a_key_that_is_already_published_stays_as_it_was(lake: Lake) -> None:
    lake.land("orders_1.csv", orders(range(1, 6)))
    lake.run_all()
    lake.land("orders_2.csv", orders(range(5, 15), amount="99.00"))
    (result,) = lake.run_all()
    (outcome,) = lake.verdict_of(result).files
    assert [(f.code.value, f.count) for f in outcome.findings] == [("DUPLICATE_KEY", 1)]
    amounts = {r["order_id"]: str(r["amount"]) for r in lake.published()}
    assert amounts["O000000005"] == "10.50" and amounts["O000000006"] == "99.00"


def test_materialising_without_a_manifest_means_the_whole_partition(lake: Lake) -> None:
    for n in range(3):
        lake.land(f"orders_{n}.csv", orders([n]))
    result = lake.session.definitions.resolve_job_def("orders_ingest").execute_in_process(
        instance=lake.session.instance, partition_key=lake.today()
    )
    assert result.success
    assert len(lake.published_ids()) == 3
    repeated = lake.session.definitions.resolve_job_def("orders_ingest").execute_in_process(
        instance=lake.session.instance, partition_key=lake.today()
    )
    assert repeated.success
    assert len(lake.published_ids()) == 3


def test_a_backfill_of_an_empty_partition_is_no_failure(lake: Lake) -> None:
    result = lake.session.definitions.resolve_job_def("orders_ingest").execute_in_process(
        instance=lake.session.instance, partition_key=lake.today()
    )
    assert result.success
    assert lake.published() == []


def test_a_backfill_after_micro_batches_replaces_their_rows_and_doubles_none(lake: Lake) -> None:
    for n in range(3):
        lake.land(f"orders_{n}.csv", orders([n]))
        lake.run_all()
    before = lake.published_ids()
    result = lake.session.definitions.resolve_job_def("orders_ingest").execute_in_process(
        instance=lake.session.instance, partition_key=lake.today()
    )
    assert result.success
    assert lake.published_ids() == before


def test_every_declared_check_reports_even_where_no_file_can_be_read(lake: Lake) -> None:
    lake.land("orders_1.csv", b"\x00\xff\xfe nothing")
    (result,) = lake.run_all()
    reported = {e.check_name for e in result.get_asset_check_evaluations()}
    assert reported == {c.name for c in check_names(lake.contract)}
    assert not result.success


def test_a_materialisation_carries_what_a_person_wants_to_see(lake: Lake) -> None:
    lake.land("orders_1.csv", orders(range(1, 10)) + b"broken\n")
    (result,) = lake.run_all()
    shown = {
        m.asset_key.to_user_string(): m.metadata
        for m in (e.materialization for e in result.get_asset_materialization_events())
    }
    assert shown["curated/orders"]["dagster/partition_row_count"].value == 9
    assert shown["published/orders"]["dagster/partition_row_count"].value == 9
    assert shown["curated/orders"]["reasons"].records[0].data["code"] == "ROW_TOO_SHORT"
    assert shown["quarantine/orders/rows"]["preview"].records[0].data["_raw"] == "broken"
    assert shown["raw/orders"]["source_objects"].value == 1
    for metadata in shown.values():
        assert metadata["batch_id"].value == result.dagster_run.tags["lakegate/batch_id"]


@pytest.mark.parametrize("dataset", ["orders", "customers"])
def test_golden_files_end_as_they_are_meant_to(
    make_lake: Callable[..., Lake], dataset: str
) -> None:
    lake = make_lake(load_contract(ROOT / "contracts" / f"{dataset}.yaml"))
    expected = golden(dataset)
    for name, outcome in expected.items():
        day = datetime.now(UTC) - timedelta(days=outcome.get("days_ago", 0))
        lake.land(name, (GOLDEN / dataset / name).read_bytes(), partition=f"{day:%Y-%m-%d}")
    outcomes = {
        file.source_object.key.rsplit("/", 1)[1]: file
        for result in lake.run_all()
        for file in lake.verdict_of(result).files
    }
    for name, wanted in expected.items():
        outcome = outcomes[name]
        found = {
            "status": outcome.status.value,
            "rows_read": outcome.rows_read,
            "rows_published": outcome.rows_accepted,
            "rows_quarantined": outcome.rows_quarantined,
            "reasons": [
                {
                    "code": finding.code.value,
                    "scope": finding.scope.value,
                    "line": finding.line,
                    "column": finding.column,
                    "count": finding.count,
                }
                for finding in outcome.findings
            ],
        }
        assert found == {key: wanted[key] for key in found}, name
        assert {d.kind.value for d in outcome.drift} == set(wanted["drift"]), name
    published = sum(wanted["rows_published"] for wanted in expected.values())
    assert len(lake.published()) == published


def test_personal_columns_are_masked_wherever_a_person_can_see_them(
    make_lake: Callable[..., Lake],
) -> None:
    lake = make_lake(load_contract(ROOT / "contracts" / "customers.yaml"))
    secret = "zz-very-private@example.com"
    good = [
        {"customer_id": f"C{n:06d}", "name": f"Person {n}", "email": f"p{n}@example.com"}
        for n in range(9)
    ]
    bad = {"customer_id": "not-an-id", "name": secret, "email": secret, "phone": secret}
    body = (
        "\n".join(json.dumps(row) for row in [*good, bad]).encode()
        + b'\n{"email": "'
        + (secret.encode() + b"\n")
    )
    lake.land("customers_1.jsonl", body)
    (result,) = lake.run_all()
    verdict = lake.verdict_of(result)
    assert verdict.rows_quarantined >= 2
    assert secret not in verdict.model_dump_json()
    for record in lake.session.instance.all_logs(result.run_id):
        assert secret not in dg.serialize_value(record)


def test_the_ledger_knows_where_every_object_stands(lake: Lake) -> None:
    lake.land("orders_1.csv", orders([1]))
    lake.land("orders_2.csv", b"")
    lake.run_all()
    states = set()
    for page_object in lake.store().list_versions("orders/").objects:
        from service_core.arrival import source_object_of

        found = source_object_of(lake.contract, lake.settings.bucket(Zone.RAW), page_object)
        entry = lake.ledger().entries([found.id])[found.id]
        states.add(entry.state)
        assert lake.ledger().history(found.id)[0].state is State.RECEIVED
    assert states == {State.PUBLISHED, State.QUARANTINED}


def test_asset_keys_of_a_data_set_follow_one_scheme(lake: Lake) -> None:
    graph = lake.session.definitions.resolve_asset_graph()
    assert {keys.raw("orders"), keys.validated("orders"), keys.curated("orders"),
            keys.published("orders"), keys.quarantined_files("orders"),
            keys.quarantined_rows("orders")} <= set(graph.get_all_asset_keys())  # fmt: skip


def test_a_manifest_of_an_older_contract_is_processed_under_the_contract_in_force(
    make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    before = make_lake(orders_contract)
    before.land("orders_1.csv", orders([1]))
    (request,) = before.session.tick("orders").requests
    after = make_lake(orders_contract, version="2.0.0", hash="0123456789abcdef")
    result = after.session.execute("orders", request)
    assert result.success
    (row,) = after.published()
    assert row["_contract_version"] == "2.0.0"
    assert row["_batch_id"] != request.tags["lakegate/batch_id"]
