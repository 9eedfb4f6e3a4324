"""From a landed file to the table by each engine, through the real sensor and job.

Spark really runs: in this process, as a Glue job run, and inside an execution of the state machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_project.flights import cut_days
from dagster_project.session import Session
from service_core.contract import load_contract
from service_core.contract.model import Contract, Engine
from service_core.ledger import State
from tests.pipeline.conftest import GOLDEN, ROOT, Lake, orders

pytestmark = pytest.mark.slow

BODY = orders(range(1, 30)) + orders([30], amount="ten").split(b"\n", 1)[1]


@pytest.fixture
def by_engine(make_lake: Callable[..., Lake]) -> Callable[[Contract, Engine | None], Lake]:
    def make(contract: Contract, engine: Engine | None) -> Lake:
        lake = make_lake(contract)
        session = Session([contract], lake.settings, lake.session.instance, engine=engine)
        return Lake(session, contract, lake.s3)

    return make


def curated(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """What the run shows of its curation."""
    return {
        name: value.value
        for event in result.get_asset_materialization_events()
        if event.materialization.asset_key.path[0] == "curated"
        for name, value in event.materialization.metadata.items()
    }


@pytest.mark.soak
def test_a_landed_file_is_published_alike_by_spark(
    by_engine: Callable[..., Lake], orders_contract: Contract
) -> None:
    engine = Engine.SPARK
    lake = by_engine(orders_contract, engine)
    lake.land("orders_1.csv", BODY)
    (result,) = lake.run_all()
    assert result.success
    verdict = lake.verdict_of(result)
    assert verdict.engine == engine
    assert (verdict.rows_read, verdict.rows_accepted, verdict.rows_quarantined) == (30, 29, 1)
    assert len(lake.published_ids()) == 29
    shown = curated(result)
    assert shown["engine_chosen_because"] == f"The run's configuration names {engine}."
    (source,) = (f.source_object.id for f in verdict.files)
    assert lake.ledger().entries([source])[source].state is State.PUBLISHED
    reported = {e.check_name for e in result.get_asset_check_evaluations()}
    assert reported == {check.name for check in verdict.checks}


@pytest.mark.soak
def test_shipments_go_through_the_state_machine_as_their_contract_says(
    make_lake: Callable[..., Lake],
) -> None:
    lake = make_lake(load_contract(ROOT / "contracts" / "shipments.yaml"))
    expected = json.loads((GOLDEN / "shipments" / "expected.json").read_text())
    for name in expected:
        lake.land(name, (GOLDEN / "shipments" / name).read_bytes())
    (result,) = lake.run_all()
    assert result.success
    verdict = lake.verdict_of(result)
    assert verdict.engine == Engine.STEP_FUNCTIONS
    for file in verdict.files:
        meant = expected[file.source_object.key.rpartition("/")[2]]
        assert file.status == meant["status"]
        assert file.rows_accepted == meant["rows_published"]
        assert [(f.code, f.line) for f in file.findings] == [
            (reason["code"], reason["line"]) for reason in meant["reasons"]
        ]
    assert len(lake.published()) == verdict.rows_accepted
    states = [record.data["state"] for record in curated(result)["states"].records]
    assert "CurateOnGlue" in states


@pytest.mark.soak
def test_flights_above_their_contracts_threshold_go_to_glue_by_themselves(
    make_lake: Callable[..., Lake], tmp_path: Path
) -> None:
    flights = load_contract(ROOT / "contracts" / "flights.yaml")
    lake = make_lake(flights, engine_threshold_bytes=1024)
    days = cut_days(tmp_path, month=2)[:2]
    for day in days:
        lake.land(day.path.name, day.path.read_bytes(), partition=days[0].day.isoformat())
    (result,) = lake.run_all()
    assert result.success
    assert len(lake.published()) == sum(day.rows for day in days)
    shown = curated(result)
    assert shown["engine_chosen_because"].endswith("above the contract's threshold of 1 KiB.")
    assert shown["engine"] == Engine.GLUE and shown["engine_seconds"] > 0
    estimates = {record.data["engine"]: record.data for record in shown["estimates"].records}
    assert estimates["glue"]["cost"] > estimates["in_process"]["cost"] > 0
