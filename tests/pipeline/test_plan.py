"""A plan says what would happen: the same batches, the same engine, the same refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dagster_project.cli import main
from service_core.contract.model import Contract
from tests.pipeline.conftest import ROOT, Lake, orders

CONTRACT = str(ROOT / "contracts" / "orders.yaml")


def planned(*arguments: str, code: int = 0) -> Any:
    done = CliRunner().invoke(main, ["plan", *arguments, "--contract", CONTRACT, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else done.stderr


def test_a_plan_of_a_prefix_is_what_then_happens(
    make_lake: Callable[..., Lake], orders_contract: Contract
) -> None:
    lake = make_lake(orders_contract)
    for number in range(3):
        lake.land(f"orders_{number}.csv", orders([number]))
    lake.land("orders_2.csv", orders([7, 8]))
    lake.land("stray.csv", orders([9]))
    plan = planned(f"orders/{lake.key('').split('/')[1]}/")
    assert [one["reason"] for one in plan["refused"]] == ["NAME_PATTERN"]
    (batch,) = plan["batches"]
    assert (batch["partition"], batch["files"], batch["engine"]) == (lake.today(), 4, "in_process")
    assert "not above the contract's threshold" in batch["because"]
    assert 0 < batch["seconds"] == plan["seconds"] and 0 < batch["cost"] == plan["cost"]
    verdicts = [lake.verdict_of(result) for result in lake.run_all()]
    refused = [f for v in verdicts for f in v.files if f.findings]
    assert [f.source_object.key for f in refused] == [plan["refused"][0]["key"]]


def test_local_files_are_planned_as_if_they_had_landed(tmp_path: Path) -> None:
    for number in range(5_200):
        (tmp_path / f"orders_{number}.csv").write_bytes(orders([number]))
    plan = planned(str(tmp_path), "--partition", "2026-11-20")
    assert [(b["partition"], b["files"]) for b in plan["batches"]] == [
        ("2026-11-20", 5_000),
        ("2026-11-20", 200),
    ]
    glue = planned(str(tmp_path), "--engine", "glue")
    assert {b["engine"] for b in glue["batches"]} == {"glue"}
    assert glue["seconds"] > plan["seconds"] and glue["cost"] > plan["cost"]


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        ("customers/dt=2026-11-21/", "not under orders/"),
        ("s3://elsewhere/orders/x.csv", "not in the raw bucket"),
        ("orders/dt=2020-01-01/", "Nothing lies under"),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_sentence(
    make_lake: Callable[..., Lake], orders_contract: Contract, thing: str, said: str
) -> None:
    make_lake(orders_contract)
    assert said in planned(thing, code=2)


def test_a_person_reads_a_table_and_a_sum(tmp_path: Path) -> None:
    (tmp_path / "orders_1.csv").write_bytes(orders([1]))
    done = CliRunner().invoke(main, ["plan", str(tmp_path), "--contract", CONTRACT])
    assert done.exit_code == 0
    assert "in_process" in done.output and "orders: 1 file in 1 batch, about" in done.output
