"""No way of starting publication gets past a failed verdict.

Dagster's own blocking checks stop what is downstream in the same run and nothing else; each test
here starts publication in another way and finds the table empty.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets import keys
from assets.zones import dataset_assets
from resources.catalog import CatalogResource
from resources.telemetry import EventsResource
from service_core.contract.model import Contract, Expectation, Metric, SetRule, SetScope
from service_core.gate import GateClosedError
from service_core.naming import BATCH_TAG, ingest_job
from service_core.publication import publish_batch
from service_core.run import Run
from tests.pipeline.conftest import Lake, orders

TOO_FEW = SetRule(
    name="row_count_at_least_100",
    metric=Metric.ROW_COUNT,
    columns=(),
    expectation=Expectation(minimum=100),
    scopes=frozenset({SetScope.BATCH}),
)


@pytest.fixture
def blocked(make_lake: Callable[..., Lake], orders_contract: Contract) -> Lake:
    """A lake with one batch whose verdict has failed."""
    lake = make_lake(orders_contract, set_rules=(TOO_FEW,))
    lake.land("orders_1.csv", orders(range(1, 4)))
    return lake


def failed_run(lake: Lake) -> dg.ExecuteInProcessResult:
    (result,) = lake.run_all()
    assert not lake.verdict_of(result).passed
    return result


def materialize(lake: Lake, *wanted: dg.AssetKey, tags: dict[str, str] | None = None,
                partition: str | None = None) -> dg.ExecuteInProcessResult:  # fmt: skip
    return dg.materialize(
        dataset_assets(lake.contract),
        selection=list(wanted),
        instance=lake.session.instance,
        partition_key=partition or lake.today(),
        resources=dict(lake.session.definitions.resources),
        tags=tags or {},
        raise_on_error=False,
    )


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [e for e in result.all_events if e.is_step_failure]
    return str(event.step_failure_data.error_display_string)


def test_the_same_run_ends_at_the_blocking_check(blocked: Lake) -> None:
    result = failed_run(blocked)
    assert not result.success
    assert "orders_published" not in {e.step_key for e in result.all_events if e.is_step_start}
    assert blocked.published() == []


def test_a_later_run_of_the_same_batch_is_refused(blocked: Lake) -> None:
    tags = failed_run(blocked).dagster_run.tags
    later = materialize(blocked, keys.published("orders"), tags=dict(tags))
    assert not later.success
    assert "row_count_at_least_100" in failure_of(later)
    assert blocked.published() == []


def test_a_backfill_of_the_partition_is_refused(blocked: Lake) -> None:
    failed_run(blocked)
    alone = materialize(blocked, keys.published("orders"))
    whole = materialize(
        blocked, *(getattr(keys, zone)("orders")
                   for zone in ("raw", "validated", "curated", "published")),
    )  # fmt: skip
    assert not alone.success and not whole.success
    assert blocked.published() == []


def test_an_op_retry_is_not_even_made(blocked: Lake) -> None:
    tags = failed_run(blocked).dagster_run.tags
    later = materialize(blocked, keys.published("orders"), tags=dict(tags))
    assert not [e for e in later.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]
    assert blocked.published() == []


def test_a_data_error_is_told_to_no_run_retry(blocked: Lake) -> None:
    job = blocked.session.definitions.resolve_job_def(ingest_job("orders"))
    assert job.tags["dagster/retry_on_asset_or_op_failure"] == "false"


def test_a_re_execution_is_refused(blocked: Lake) -> None:
    first = failed_run(blocked).dagster_run
    again = materialize(
        blocked,
        keys.published("orders"),
        tags={
            **{k: v for k, v in first.tags.items() if k.startswith("lakegate/")},
            "dagster/root_run_id": first.run_id,
            "dagster/parent_run_id": first.run_id,
        },
    )
    assert not again.success
    assert blocked.published() == []


def test_an_automation_condition_launches_a_run_that_is_refused(blocked: Lake) -> None:
    failed_run(blocked)
    eager = [
        asset.map_asset_specs(
            lambda spec: (
                spec.replace_attributes(automation_condition=dg.AutomationCondition.missing())
                if spec.key == keys.published("orders")
                else spec
            )
        )
        for asset in dataset_assets(blocked.contract)
    ]
    wanted = dg.evaluate_automation_conditions(
        defs=dg.Definitions(assets=eager, resources=blocked.session.definitions.resources),
        instance=blocked.session.instance,
    ).get_requested_partitions(keys.published("orders"))
    assert blocked.today() in wanted
    launched = materialize(blocked, keys.published("orders"), partition=blocked.today())
    assert not launched.success
    assert blocked.published() == []


def test_a_person_calling_the_library_is_refused(blocked: Lake, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    run = failed_run(blocked).dagster_run
    hand = Run(id="by-hand", attempt="1", clock=lambda: datetime.now(UTC), scratch=tmp_path)
    with pytest.raises(GateClosedError, match="row_count_at_least_100"):
        publish_batch(
            blocked.contract,
            partition=blocked.today(),
            batch_id=run.tags[BATCH_TAG],
            store=blocked.store(),
            ledger=blocked.ledger(),
            catalog=CatalogResource.of(blocked.settings).catalog(),
            events=EventsResource.of(blocked.settings).events(),
            run=hand,
        )
    assert blocked.published() == []


def test_a_verdict_under_another_version_of_the_contract_opens_nothing(
    make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    lake = make_lake(orders_contract)
    lake.land("orders_1.csv", orders([1]))
    (request,) = lake.session.tick("orders").requests
    assert lake.session.execute("orders", request).success
    changed: Any = make_lake(orders_contract, hash="0123456789abcdef")
    later = materialize(changed, keys.published("orders"), tags=dict(request.tags))
    assert not later.success
    assert "no verdict" in failure_of(later).lower()
