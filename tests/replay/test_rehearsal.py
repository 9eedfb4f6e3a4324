"""Rehearsals on the real path: publish by one contract, rehearse by another, and leave no trace."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from resources.catalog import CatalogResource
from service_core.contract import load_contract
from service_core.contract.model import (
    Case,
    ColumnType,
    Contract,
    Expectation,
    LogicalType,
    Normalisation,
    PublicationMode,
    Within,
)
from service_core.inventory import whole_partition
from service_core.layout import Zone
from service_core.manifest import Manifest
from service_core.reasons import ReasonCode, Scope, Severity
from service_core.replay.difference import CheckState, Difference, Report, Rows, SampleKind
from service_core.replay.rehearsal import read_report, rehearse, write_report
from service_core.run import Run
from tests.pipeline.conftest import ROOT, Lake, make_lake, order, orders, orders_contract

__all__ = ["make_lake", "orders_contract"]


@pytest.fixture
def lake(make_lake: Callable[..., Lake], orders_contract: Contract) -> Lake:
    """The orders data set, empty."""
    return make_lake(orders_contract)


def another(contract: Contract, **changes: Any) -> Contract:
    """A contract changed into another one."""
    return replace(contract, version="9.0.0", hash="f" * 16, **changes)


def with_rule(contract: Contract, name: str, **changes: Any) -> Contract:
    rules = tuple(replace(r, **changes) if r.name == name else r for r in contract.row_rules)
    assert rules != contract.row_rules, name
    return another(contract, row_rules=rules)


def at_most(contract: Contract, amount: int) -> Contract:
    """The contract under which an amount is at most so much."""
    rules = tuple(
        replace(rule, test=replace(rule.test, maximum=amount))
        if isinstance(rule.test, Within) and rule.columns == ("amount",)
        else rule
        for rule in contract.row_rules
    )
    assert rules != contract.row_rules
    return another(contract, row_rules=rules)


def try_out(
    lake: Lake,
    contract: Contract,
    manifests: Sequence[Manifest] | None = None,
    **more: Any,
) -> Report:
    store = lake.store()
    if manifests is None:
        manifests = [whole_partition(contract, lake.today(), store, at=datetime.now(UTC))]
    with tempfile.TemporaryDirectory() as folder:
        report = rehearse(
            contract,
            manifests,
            store=store,
            ledger=lake.ledger(),
            catalog=CatalogResource.of(lake.settings).catalog(),
            run=Run("rehearsing", "rehearsing-0", lambda: datetime.now(UTC), Path(folder)),
            in_force=lake.contract,
            **more,
        )
        assert list(Path(folder).iterdir()) == [], "scratch is left behind"
    return report


def traces(lake: Lake) -> dict[str, Any]:
    """Everything in every bucket, every item of the ledger, every snapshot of every table."""
    objects = {
        (zone.value, version["Key"], version["VersionId"]): hashlib.md5(
            lake.s3.get_object(
                Bucket=lake.settings.bucket(zone), Key=version["Key"],
                VersionId=version["VersionId"],
            )["Body"].read()
        ).hexdigest()
        for zone in Zone
        for page in lake.s3.get_paginator("list_object_versions").paginate(
            Bucket=lake.settings.bucket(zone)
        )
        for version in page.get("Versions", ())
    }  # fmt: skip
    table = lake.ledger()._table
    items = [
        item
        for page in table._client.get_paginator("scan").paginate(TableName=table.name)
        for item in page["Items"]
    ]
    catalog = CatalogResource.of(lake.settings).catalog()
    return {
        "objects": objects,
        "ledger": sorted(map(repr, items)),
        "snapshot": catalog.current_snapshot(lake.contract),
    }


def only(report: Report) -> Difference:
    (difference,) = report.partitions
    return difference


MIXED = "\n".join(
    [
        orders(range(1, 10)).decode().strip(),
        order(10, amount="ten"),
        *(order(n, amount="500.00") for n in range(11, 14)),
        "",
    ]
).encode()


def test_the_contract_in_force_makes_no_difference(lake: Lake) -> None:
    lake.land("orders_1.csv", MIXED)
    lake.run_all()
    lake.land("orders_2.csv", orders(range(20, 25)))
    lake.run_all()
    report = try_out(lake, lake.contract)
    assert report.total.rows == Rows(published=17, would_be=17, unchanged=17)
    assert not report.differs
    difference = only(report)
    assert difference.codes == difference.checks == difference.drift == difference.samples == ()
    assert not report.loses and not report.blocked


def test_another_contract_of_the_same_meaning_makes_no_difference(lake: Lake) -> None:
    """Other batches, versions and times of judgement are no difference between rows."""
    lake.land("orders_1.csv", MIXED)
    lake.run_all()
    report = try_out(lake, another(lake.contract))
    assert report.total.rows == Rows(published=12, would_be=12, unchanged=12)
    assert not report.differs
    assert report.contract_version == "9.0.0"


def test_a_stricter_contract_removes_rows_and_gains_reasons(lake: Lake) -> None:
    key = lake.land("orders_1.csv", MIXED)
    lake.run_all()
    stricter = replace(at_most(lake.contract, 100), tolerated_share=0.5)
    report = try_out(lake, stricter)
    difference = only(report)
    assert difference.rows == Rows(published=12, would_be=9, unchanged=9, removed=3)
    assert report.loses and not report.blocked
    (code,) = difference.codes
    assert (code.code, code.scope, code.before, code.after) == (ReasonCode.RANGE, Scope.ROW, 0, 3)
    (reason,) = difference.reasons
    assert (reason.file, reason.before, reason.after) == (key, 0, 3)
    checks = {c.name: (c.before, c.after, c.rows_failed) for c in difference.checks}
    assert (CheckState.PASSED, CheckState.FAILED, 3) in checks.values()
    assert [s.kind for s in difference.samples] == [SampleKind.REMOVED] * 3
    sample = difference.samples[0]
    assert (sample.file, sample.row, sample.after) == (key, 11, None)
    assert sample.before is not None
    assert (sample.before["order_id"], sample.before["amount"]) == ("O000000011", "500.00")
    assert not any(name.startswith("_") for name in sample.before)


def test_a_laxer_contract_adds_rows_and_loses_reasons(lake: Lake) -> None:
    lake.land("orders_1.csv", orders(range(1, 10)) + order(10, country="Germany").encode())
    lake.run_all()
    (pattern,) = [r.name for r in lake.contract.row_rules if r.columns == ("country",)
                  and r.code is ReasonCode.PATTERN]  # fmt: skip
    report = try_out(lake, with_rule(lake.contract, pattern, severity=Severity.WARNING))
    difference = only(report)
    assert difference.rows == Rows(published=9, would_be=10, unchanged=9, added=1)
    assert [(c.code, c.before, c.after) for c in difference.codes] == [(ReasonCode.PATTERN, 1, 0)]
    (sample,) = difference.samples
    assert (sample.kind, sample.row, sample.before) == (SampleKind.ADDED, 10, None)
    assert not report.loses


def test_a_row_that_is_computed_otherwise_is_changed_and_says_in_what(lake: Lake) -> None:
    lake.land("orders_1.csv", orders(range(1, 4), quantity=3))
    lake.run_all()
    columns = tuple(
        replace(c, derived="amount * quantity * 2") if c.name == "total" else c
        for c in lake.contract.columns
    )
    difference = only(try_out(lake, another(lake.contract, columns=columns)))
    assert difference.rows == Rows(published=3, would_be=3, changed=3)
    assert difference.changed_columns == {"total": 3}
    sample = difference.samples[0]
    assert sample.before == {"order_id": "O000000001", "total": "31.50"}
    assert sample.after == {"order_id": "O000000001", "total": "63.00"}


@pytest.mark.parametrize("published", [True, False])
def test_a_rehearsal_leaves_no_trace(
    lake: Lake, make_lake: Callable[..., Lake], published: bool
) -> None:
    """Whatever it does: divert rows, take files whole, refuse them, claim contents, fail."""
    lake.land("orders_1.csv", MIXED)
    lake.land("orders_2.csv", orders(range(20, 25)))
    lake.land("orders_3.csv", b"nothing of the kind\n")
    lake.land("orders_4.csv", orders(range(20, 25)))
    if published:
        lake.run_all()
    before = traces(lake)
    assert len(before["objects"]) == (4 if not published else len(before["objects"]))
    try_out(lake, lake.contract)
    try_out(lake, at_most(lake.contract, 100))
    try_out(lake, another(lake.contract, tolerated_share=0.0))
    blocked = try_out(lake, at_most(lake.contract, 0))
    assert blocked.blocked
    assert traces(lake) == before


def test_a_blocked_batch_changes_nothing_and_says_what_blocks_it(lake: Lake) -> None:
    lake.land("orders_1.csv", orders(range(1, 6)))
    lake.run_all()
    rule = next(r for r in lake.contract.set_rules if r.name == "revenue")
    impossible = replace(rule, expectation=Expectation(maximum=0), severity=Severity.ERROR)
    report = try_out(lake, another(lake.contract, set_rules=(impossible,)))
    difference = only(report)
    assert difference.rows == Rows(published=5, would_be=5, unchanged=5)
    assert report.blocked and not report.loses
    (batch,) = difference.batches
    assert (batch.passed, batch.blocked_by) == (False, ("revenue",))
    changes = {c.name: (c.before, c.after) for c in difference.checks}
    assert changes["revenue"] == (CheckState.PASSED, CheckState.BLOCKS)
    assert changes["has_rows"] == (CheckState.PASSED, None)
    assert {c.code for c in difference.codes} == {ReasonCode.BATCH_BLOCKED}


def test_a_partition_with_nothing_published_gains_every_row(lake: Lake) -> None:
    lake.land("orders_1.csv", MIXED)
    report = try_out(lake, lake.contract)
    assert report.total.rows == Rows(published=0, would_be=12, added=12)
    difference = only(report)
    assert [(c.name, c.before, c.after) for c in difference.checks] == [
        ("amount_type", None, CheckState.FAILED)
    ]
    assert len(difference.samples) == 12


def test_batches_of_one_partition_are_rehearsed_as_if_those_before_were_published(
    lake: Lake,
) -> None:
    """Otherwise a key that stands in two of them would be counted twice."""
    lake.land("orders_1.csv", orders(range(1, 6)))
    lake.land("orders_2.csv", orders(range(5, 15), amount="99.00"))
    both = whole_partition(lake.contract, lake.today(), lake.store(), at=datetime.now(UTC))
    apart = [both.model_copy(update={"objects": (o,)}) for o in both.objects]
    report = try_out(lake, lake.contract, apart)
    assert report.total.rows == Rows(would_be=14, added=14)
    assert [b.rows_quarantined for b in only(report).batches] == [0, 1]
    lake.run_all()
    again = try_out(lake, another(lake.contract), apart)
    assert again.total.rows == Rows(published=14, would_be=14, unchanged=14)
    assert not again.differs


def test_an_older_version_of_a_key_would_be_kept_out(lake: Lake) -> None:
    lake.land("orders_1.csv", orders([1, 2]))
    (older,) = whole_partition(
        lake.contract, lake.today(), lake.store(), at=datetime.now(UTC)
    ).objects
    lake.run_all()
    lake.land("orders_1.csv", orders([2, 3]))
    lake.run_all()
    manifest = whole_partition(lake.contract, lake.today(), lake.store(), at=datetime.now(UTC))
    of_older = manifest.model_copy(update={"objects": (older,)})
    report = try_out(lake, another(lake.contract), [of_older])
    assert report.total.rows == Rows()
    assert only(report).batches[0].withheld == 1
    # And where both are in one rehearsal, the newer one's rows are what there would be.
    report = try_out(lake, another(lake.contract), [of_older, manifest])
    assert report.total.rows == Rows(published=2, would_be=2, unchanged=2)


def test_a_newer_version_is_compared_with_the_rows_that_it_replaces(lake: Lake) -> None:
    lake.land("orders_1.csv", orders([1, 2]))
    lake.run_all()
    lake.land("orders_1.csv", orders([2], amount="11.00") + order(3).encode() + b"\n")
    difference = only(try_out(lake, lake.contract))
    assert difference.rows == Rows(published=2, would_be=2, changed=1, added=1, removed=1)
    assert difference.changed_columns == {"amount": 1, "total": 1}


def test_where_versions_stand_beside_each_other_a_newer_one_removes_nothing(
    make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    lake = make_lake(orders_contract, publication=PublicationMode.APPEND)
    lake.land("orders_1.csv", orders([1, 2]))
    lake.run_all()
    lake.land("orders_1.csv", orders([3]))
    assert try_out(lake, lake.contract).total.rows == Rows(would_be=1, added=1)


def test_a_type_that_the_table_cannot_take_is_told_and_changes_nothing(lake: Lake) -> None:
    lake.land("orders_1.csv", orders([1, 2]))
    lake.run_all()
    columns = tuple(
        replace(c, type=ColumnType(LogicalType.STRING)) if c.name == "event_ts" else c
        for c in lake.contract.columns
        if c.name != "order_date"
    )
    rules = tuple(r for r in lake.contract.row_rules if "event_ts" not in r.columns)
    report = try_out(lake, another(lake.contract, columns=columns, row_rules=rules))
    assert report.refusal is not None and "event_ts" in report.refusal
    assert report.blocked
    assert report.total.rows == Rows(published=2, would_be=2, unchanged=2)


def test_a_column_more_is_a_change_of_its_values_alone(lake: Lake) -> None:
    lake.land("orders_1.csv", orders(range(1, 4)))
    lake.run_all()
    total = lake.contract.column("total")
    half = replace(total, name="half", derived="amount * quantity / 2")
    more = another(lake.contract, columns=(*lake.contract.columns, half))
    difference = only(try_out(lake, more))
    assert difference.rows == Rows(published=3, would_be=3, changed=3)
    assert difference.changed_columns == {"half": 3}


def test_personal_values_are_nowhere_in_a_report(make_lake: Callable[..., Lake]) -> None:
    contract = load_contract(ROOT / "contracts" / "customers.yaml")
    lake = make_lake(contract)
    line = (
        '{"customer_id": "C00000%d", "name": "Nobody Known", "email": "nobody@example.com",'
        ' "phone": "+49123456789", "address": {"street": "Nowhere 1", "city": "Town",'
        ' "postal_code": "99999", "country": "DE"}, "created_at": "2026-10-02T08:01:00Z",'
        ' "marketing_opt_in": false%s}\n'
    )
    body = "".join(line % (n, ', "secret": "whispered"') for n in range(1, 4))
    lake.land("customers_1.jsonl", body.encode())
    lake.run_all()
    assert len(lake.published()) == 3
    # What only the contract in force calls personal is masked as well.
    shouting = another(
        contract,
        columns=tuple(
            replace(c, classification=None, normalisation=Normalisation(case=Case.UPPER))
            if c.name in ("name", "street")
            else c
            for c in contract.columns
        ),
    )
    for tried in (contract, shouting):
        report = try_out(lake, tried)
        assert report.total.changed_columns == (
            {} if tried is contract else {"name": 3, "street": 3}
        )
        text = report.model_dump_json()
        for value in ("Nobody", "nobody@", "Nowhere", "99999", "whispered", "+49"):
            assert value.casefold() not in text.casefold(), value
    lake.land("customers_2.jsonl", (line % (9, "")).encode())
    report = try_out(lake, contract)
    assert report.total.rows == Rows(published=3, would_be=4, unchanged=3, added=1)
    (sample,) = only(report).samples
    assert sample.after is not None
    assert (sample.after["customer_id"], sample.after["name"]) == ("C000009", "***")


def test_the_report_is_kept_with_its_replay_and_read_back(lake: Lake) -> None:
    lake.land("orders_1.csv", MIXED)
    report = try_out(lake, lake.contract, replay_id="r-1")
    before = traces(lake)
    assert read_report(lake.store(), "r-1") is None
    uri = write_report(lake.store(), report)
    assert uri.endswith("/_replays/r-1/difference.json")
    assert read_report(lake.store(), "r-1") == report
    after = traces(lake)
    assert {key[:2] for key in after["objects"].keys() - before["objects"].keys()} == {
        ("manifests", "_replays/r-1/difference.json")
    }
    assert after["ledger"] == before["ledger"]


def test_an_elt_data_set_is_compared_as_text(
    make_lake: Callable[..., Lake], tmp_path: Path
) -> None:
    from tests.pipeline.test_elt_path import CONTRACT

    path = tmp_path / "readings.yaml"
    path.write_text(CONTRACT)
    lake = make_lake(load_contract(path))
    lake.land("readings_1.csv", b"sensor,celsius\nS1, 4.50 \nS2,warm\nS3\n")
    lake.run_all()
    assert not try_out(lake, lake.contract).differs
    lake.land("readings_1.csv", b"sensor,celsius\nS1, 4.50 \nS2,cold\nS4,1\n")
    before = traces(lake)
    difference = only(try_out(lake, another(lake.contract)))
    assert difference.rows == Rows(published=2, would_be=3, unchanged=1, added=2, removed=1)
    assert traces(lake) == before
