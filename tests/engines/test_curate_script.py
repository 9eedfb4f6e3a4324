"""The Spark job's script, run as a process of its own as Glue runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dagster_pipes import encode_param

from resources.ledger import DynamoLedger
from service_core.contract import load_contract
from service_core.contract.checks import check_names
from service_core.contract.model import Contract
from service_core.curation.conclusion import standing_verdict
from service_core.curation.request import CurationRequest, write_request
from service_core.layout import Zone, manifest_key
from service_core.s3_store import S3ObjectStore
from service_core.settings import Settings
from service_core.validation.stored import write_record
from tests.canonical_batches import Delivery, deliver, landed, run_of

ROOT = Path(__file__).resolve().parents[2]
#: What Glue adds of its own.
OF_GLUE = ["--JOB_NAME", "lakegate-dev-curate", "--JOB_RUN_ID", "jr_1", "--enable-metrics", "true"]

pytestmark = pytest.mark.slow


def order(number: int, **changes: str) -> dict[str, str | None]:
    """A line of the shipped orders data set."""
    known = {
        "order_id": f"O{number:09d}",
        "customer_id": "C000001",
        "amount": "10.50",
        "currency": "EUR",
        "event_ts": "2026-11-01T10:00:00Z",
        "status": "paid",
        "country": "DE",
        "quantity": "2",
        "note": None,
    }
    return {**known, **changes}


@pytest.fixture
def contract() -> Contract:
    return load_contract(ROOT / "contracts" / "orders.yaml")


@pytest.fixture
def batch(
    contract: Contract, object_store: S3ObjectStore, ledger: DynamoLedger, tmp_path: Path
) -> Delivery:
    """A validated batch of ten orders, one of them at fault."""
    rows = [order(1, amount="much"), *(order(n) for n in range(2, 11))]
    batch = deliver(contract, {landed("orders_1.csv"): rows}, object_store, ledger, tmp_path)
    write_record(object_store, batch.record)
    manifest = batch.manifest
    place = (manifest.dataset, manifest.partition, manifest.batch_id)
    body = manifest.model_dump_json().encode()
    object_store.write(Zone.MANIFESTS, manifest_key(*place), body)
    return batch


@pytest.fixture
def request_uri(batch: Delivery, object_store: S3ObjectStore, tmp_path: Path) -> str:
    return write_request(object_store, request_of(batch, object_store, tmp_path))


def request_of(batch: Delivery, store: S3ObjectStore, scratch: Path) -> CurationRequest:
    manifest = batch.manifest
    place = (manifest.dataset, manifest.partition, manifest.batch_id)
    return CurationRequest.of(
        batch.contract,
        manifest,
        store,
        run_of(scratch),
        manifest_uri=store.uri(Zone.MANIFESTS, manifest_key(*place)),
        published=None,
        engine="glue",
    )


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it from elsewhere, with nothing of Spark's in its environment."""
    environ = {n: v for n, v in os.environ.items() if not n.startswith(("PYSPARK_", "SPARK_"))}
    return subprocess.run(
        [sys.executable, ROOT / "glue_scripts" / "curate.py", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.soak
def test_the_script_leaves_a_verdict_and_says_so_without_dagster(
    batch: Delivery, request_uri: str, object_store: S3ObjectStore
) -> None:
    done = run_script("--request", request_uri, *OF_GLUE)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    verdict = standing_verdict(batch.contract, batch.manifest, object_store)
    assert verdict is not None
    assert (verdict.engine, verdict.rows_accepted, verdict.rows_quarantined) == ("glue", 9, 1)
    assert said == {
        "batch_id": batch.manifest.batch_id,
        "passed": True,
        "rows_read": 10,
        "rows_accepted": 9,
        "rows_quarantined": 1,
        "engine": "glue",
        "verdict": object_store.uri(
            Zone.DQ_RESULTS,
            f"orders/{batch.manifest.partition}/{batch.manifest.batch_id}.json",
        ),
    }


def test_dagster_is_told_of_the_materialisation_and_of_every_check(
    batch: Delivery, request_uri: str, object_store: S3ObjectStore, aws: Any
) -> None:
    bucket = object_store.bucket(Zone.DQ_RESULTS)
    context = {
        "asset_keys": ["curated/orders", "quarantined_rows/orders"],
        "code_version_by_asset_key": {},
        "provenance_by_asset_key": {},
        "partition_key": None,
        "partition_key_range": None,
        "partition_time_window": None,
        "run_id": "run-1",
        "job_name": "orders_ingest",
        "retry_number": 0,
        "extras": {},
    }
    done = run_script(
        "--dagster-pipes-context", encode_param({"data": context}),
        "--dagster-pipes-messages", encode_param({"bucket": bucket, "key_prefix": "_pipes/x"}),
        "--request", request_uri, *OF_GLUE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    s3 = aws("s3")
    messages = [
        json.loads(line)
        for key in object_store.keys(Zone.DQ_RESULTS, "_pipes/x/")
        for line in s3.get_object(Bucket=bucket, Key=key)["Body"].read().splitlines()
    ]
    told = [m["params"] for m in messages if m["method"] == "report_asset_materialization"]
    assert [one["asset_key"] for one in told] == ["curated/orders"]
    assert told[0]["metadata"]["rows_quarantined"]["raw_value"] == 1
    checks = {
        m["params"]["check_name"]: m["params"]
        for m in messages
        if m["method"] == "report_asset_check"
    }
    assert list(checks) == [check.name for check in check_names(batch.contract)]
    failed = {name for name, check in checks.items() if not check["passed"]}
    assert "amount_type" in failed
    assert {checks[name]["severity"] for name in failed} == {"WARN"}, "nothing blocks"
    assert messages[-1]["method"] == "closed"
    assert not (messages[-1]["params"] or {}).get("exception")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"contract_hash": "0" * 16}, "reload the code location"),
        ({"contract": "name: ["}, "cannot be loaded"),
        ({"batch_id": "b" * 32}, "is the manifest of batch"),
        ({"manifest_uri": "s3://elsewhere/x.json"}, "manifests zone"),
    ],
)
def test_a_request_that_cannot_be_carried_out_fails_with_one_sentence(
    batch: Delivery,
    object_store: S3ObjectStore,
    tmp_path: Path,
    change: dict[str, str],
    cause: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: none of these comes as far as a Spark."""
    from glue_scripts.curate import main

    asked = request_of(batch, object_store, tmp_path).model_copy(update=change)
    uri = object_store.write(Zone.CURATED, "requests/1.json", asked.model_dump_json().encode())
    assert main(["--request", uri, *OF_GLUE]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert cause in last
    assert standing_verdict(batch.contract, batch.manifest, object_store) is None


@pytest.mark.parametrize("uri", ["s3://nowhere/at-all.json", "request.json"])
def test_a_request_that_is_not_there_is_one_sentence_and_no_traceback(
    uri: str, settings: Settings
) -> None:
    done = run_script("--request", uri)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert uri in done.stderr.splitlines()[-1]


def test_the_published_side_is_asked_for_only_where_keys_are_unique(
    batch: Delivery, object_store: S3ObjectStore, tmp_path: Path
) -> None:
    keyless = tuple(replace(c, primary_key=None, unique=False) for c in batch.contract.columns)
    without = replace(batch, contract=replace(batch.contract, columns=keyless))
    assert request_of(without, object_store, tmp_path).published is None
