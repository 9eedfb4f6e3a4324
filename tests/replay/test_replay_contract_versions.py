"""A replay under a named version of the contract is judged and published by that alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from service_core.arrival import read_manifest
from service_core.contract import load_contract
from service_core.contract.kept import ContractNotKeptError, contract_of
from service_core.contract.model import Contract
from service_core.layout import kept_contracts_prefix
from service_core.manifest import Manifest, Origin
from service_core.naming import MANIFEST_TAG
from service_core.replay.audit import Outcome
from tests.pipeline.conftest import ROOT, Lake, order, orders
from tests.replay.conftest import ReplayLake

TAINTED = orders(range(1, 10)) + order(10, quantity=2000).encode() + b"\n"


@pytest.fixture
def newer(tmp_path: Path) -> Contract:
    """The orders contract's next version: more pieces allowed, and one more rule."""
    text = (ROOT / "contracts" / "orders.yaml").read_text()
    text = text.replace("version: 1.0.0", "version: 1.1.0")
    text = text.replace("          maximum: 1000\n", "          maximum: 5000\n")
    rule = """
      - name: has_fewer_than_a_million_rows
        metric: rowCount
        mustBeLessThan: 1000000
        dimension: completeness
      - name: revenue
"""
    path = tmp_path / "orders.yaml"
    path.write_text(text.replace("\n      - name: revenue\n", rule))
    return load_contract(path)


def test_every_contract_that_made_a_batch_is_kept_as_it_was(
    replays: ReplayLake, make_lake: Callable[..., Lake], newer: Contract
) -> None:
    replays.lake.land("orders_1.csv", orders([1]))
    replays.lake.run_all()
    assert replays.names("_contracts/orders/") == ["1.0.0-4be9d5c0280dcd02.yaml"]
    later = ReplayLake(make_lake(newer))
    later.lake.land("orders_2.csv", orders([2]))
    later.lake.run_all()
    (_, kept) = sorted(later.names(kept_contracts_prefix("orders")))
    body = later.lake.s3.get_object(Bucket=later.manifests, Key=f"_contracts/orders/{kept}")
    assert body["Body"].read() == newer.path.read_bytes()


def test_a_replay_under_a_named_version_is_judged_and_published_by_it(
    replays: ReplayLake, make_lake: Callable[..., Lake], newer: Contract
) -> None:
    replays.lake.land("orders_1.csv", TAINTED)
    replays.lake.run_all()
    assert len(replays.rows()) == 9
    later = ReplayLake(make_lake(newer))
    later.replay("forward", selector={"state": "published"})
    assert len(later.rows()) == 10

    later.ask("back", selector={"state": "published"}, options={"contractVersion": "1.0.0"})
    (result,) = later.run_all()
    assert result.success
    assert later.completed("back").outcomes == {Outcome.PARTIAL: 1}
    assert len(later.rows()) == 9
    assert {r["_contract_version"] for r in later.lake.published()} == {"1.0.0"}
    verdict = later.lake.verdict_of(result)
    assert (verdict.contract_version, verdict.replay_id) == ("1.0.0", "back")
    (absent,) = [
        e for e in result.get_asset_check_evaluations()
        if e.check_name == "has_fewer_than_a_million_rows"
    ]  # fmt: skip
    assert absent.passed and absent.severity is dg.AssetCheckSeverity.WARN
    assert "not part of version 1.0.0" in str(absent.description)


def test_what_is_published_wholly_under_the_named_version_is_passed_over(
    replays: ReplayLake, make_lake: Callable[..., Lake], newer: Contract
) -> None:
    replays.lake.land("orders_1.csv", orders([1]))
    replays.lake.run_all()
    later = ReplayLake(make_lake(newer))
    done = later.replay("r", selector={"state": "published"}, options={"contractVersion": "1.0.0"})
    assert done.detail["passed_over"] == {"published": 1}


def test_one_version_with_two_meanings_has_to_be_named_by_its_hash(
    replays: ReplayLake, make_lake: Callable[..., Lake], newer: Contract, tmp_path: Path
) -> None:
    replays.lake.land("orders_1.csv", orders([1]))
    replays.lake.run_all()
    path = tmp_path / "again" / "orders.yaml"
    path.parent.mkdir()
    path.write_text(newer.path.read_text().replace("version: 1.1.0", "version: 1.0.0"))
    same_version = load_contract(path)
    later = ReplayLake(make_lake(same_version))
    later.lake.land("orders_2.csv", orders([2]))
    later.lake.run_all()
    selector = {"keyPrefix": "orders/"}
    later.ask("which", selector=selector, options={"contractVersion": "1.0.0", "force": True})
    later.tick()
    (problem,) = later.paper("_replays/requests/which.rejected.json")["problems"]
    assert "2 contracts of orders" in problem and f"1.0.0-{same_version.hash}" in problem
    options = {"contractVersion": "1.0.0-4be9d5c0280dcd02", "force": True}
    done = later.replay("that-one", selector=selector, options=options)
    assert done.outcomes == {Outcome.PUBLISHED: 2}


def test_only_a_replay_may_name_another_contract_than_the_one_in_force(
    replays: ReplayLake, make_lake: Callable[..., Lake], newer: Contract, tmp_path: Path
) -> None:
    replays.lake.land("orders_1.csv", orders([1]))
    replays.lake.run_all()
    later = ReplayLake(make_lake(newer))
    later.ask(
        "r", selector={"state": "published"}, options={"contractVersion": "1.0.0", "force": True}
    )
    (request,) = later.tick().requests
    asked = read_manifest(later.lake.store(), request.tags[MANIFEST_TAG])
    store = later.lake.store()
    assert contract_of(asked, newer, store, tmp_path).hash == replays.lake.contract.hash
    for changes in (
        {"origin": Origin.SENSOR},
        {"replay_id": None},
        {"contract_hash": "0" * 16},
    ):
        forged = Manifest.model_validate({**asked.model_dump(), **changes})
        with pytest.raises(ContractNotKeptError):
            contract_of(forged, newer, store, tmp_path)
    unnamed = Manifest.model_validate({**asked.model_dump(), "named_contract": False})
    assert contract_of(unnamed, newer, store, tmp_path) is newer


def test_a_contract_that_changes_under_a_replay_is_the_one_that_judges(
    replays: ReplayLake, make_lake: Callable[..., Lake], newer: Contract
) -> None:
    """Its batches become others, and the replay comes to its end even so."""
    replays.lake.land("orders_1.csv", TAINTED)
    replays.lake.run_all()
    replays.ask("r", selector={"reasonCodes": ["RANGE"]})
    (request,) = replays.tick().requests
    later = ReplayLake(make_lake(newer))
    assert later.execute(request).success
    later.run_all()
    assert later.completed("r").outcomes == {Outcome.PUBLISHED: 1}
    assert len(later.rows()) == 10
    assert later.lake.ledger().pending_batches("orders") == ()
