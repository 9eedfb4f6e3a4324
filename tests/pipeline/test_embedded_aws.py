"""The embedded AWS is true where stock moto is not, and never outlives whoever started it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException

from deploy.bootstrap import bootstrap
from deploy.local import EmbeddedAws, EmbeddedAwsError
from resources.aws import clients
from service_core.layout import Zone
from service_core.settings import Settings

_PARENT = """
import sys, time
from deploy.local import EmbeddedAws
aws = EmbeddedAws().start()
print(aws.pid, flush=True)
time.sleep(60)
"""


def _is_gone(pid: int, within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        # A zombie waits only for whoever inherited it.
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_it_answers_on_loopback_only(embedded_aws: EmbeddedAws) -> None:
    parts = urlsplit(embedded_aws.endpoint)
    assert parts.hostname == "127.0.0.1"
    listening = [
        line.split()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].split(":")[1], 16) == parts.port
    ]
    assert listening == [f"0100007F:{parts.port:04X}"]
    with socket.socket() as elsewhere:
        elsewhere.settimeout(1)
        assert elsewhere.connect_ex(("127.0.0.2", parts.port or 0)) != 0


def test_it_ends_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True, cwd=_root()
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert _is_gone(pid)


def test_it_ends_when_it_is_told_to() -> None:
    with EmbeddedAws() as aws:
        pid = aws.pid
        assert pid is not None
    assert _is_gone(pid)
    with pytest.raises(EmbeddedAwsError, match="not running"):
        _ = aws.endpoint


def test_it_ends_on_an_interrupt_with_exit_code_0() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.local"], stdout=subprocess.PIPE, text=True, cwd=_root()
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith('{"endpoint": "http://127.0.0.1:')
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0


def test_a_port_that_is_taken_is_told_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedAwsError, match=f"Port {port} of 127.0.0.1 cannot be had"):
            EmbeddedAws(port=port, log=tmp_path / "aws.log").start()


def test_bootstrap_may_be_repeated_and_raced(settings: Settings) -> None:
    fresh = settings.model_copy(update={"name_prefix": f"{settings.name_prefix}b"})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: bootstrap(fresh, clients(fresh)), range(4)))
    made = clients(fresh)
    made("s3").put_object(Bucket=fresh.bucket(Zone.RAW), Key="kept", Body=b"1")
    made("dynamodb").put_item(
        TableName=fresh.ledger_table, Item={"pk": {"S": "kept"}, "sk": {"S": "kept"}}
    )
    bootstrap(fresh, made)
    buckets = {b["Name"] for b in made("s3").list_buckets()["Buckets"]}
    assert {fresh.bucket(zone) for zone in Zone} <= buckets
    versioning = made("s3").get_bucket_versioning(Bucket=fresh.bucket(Zone.RAW))
    assert versioning["Status"] == "Enabled"
    assert made("s3").get_object(Bucket=fresh.bucket(Zone.RAW), Key="kept")["Body"].read() == b"1"
    table = made("dynamodb").describe_table(TableName=fresh.ledger_table)["Table"]
    assert table["ItemCount"] == 1
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert made("events").describe_event_bus(Name=fresh.event_bus)["Name"] == fresh.event_bus
    pages = made("sns").get_paginator("list_topics").paginate()
    topics = [topic["TopicArn"] for page in pages for topic in page["Topics"]]
    assert sum(arn.endswith(f":{fresh.alerts_topic}") for arn in topics) == 1
    assert made("glue").get_database(Name=fresh.database)["Database"]["Name"] == fresh.database


def test_bootstrap_places_buckets_in_the_region_asked_for(settings: Settings) -> None:
    north = settings.model_copy(
        update={"name_prefix": f"{settings.name_prefix}n", "region": "eu-north-1"}
    )
    bootstrap(north, clients(north))
    bootstrap(north, clients(north))
    place = clients(north)("s3").get_bucket_location(Bucket=north.bucket(Zone.RAW))
    assert place["LocationConstraint"] == "eu-north-1"


def test_a_stale_update_of_a_glue_table_is_refused(
    settings: Settings, aws: Callable[[str], Any]
) -> None:
    glue = aws("glue")
    place = {"DatabaseName": settings.database}
    glue.create_table(**place, TableInput={"Name": "t", "Parameters": {"n": "1"}})
    version = glue.get_table(**place, Name="t")["Table"]["VersionId"]
    changed = {"Name": "t", "Parameters": {"n": "2"}}
    glue.update_table(**place, TableInput=changed, VersionId=version, SkipArchive=True)
    with pytest.raises(ClientError) as refused:
        glue.update_table(**place, TableInput={"Name": "t"}, VersionId=version)
    assert refused.value.response["Error"]["Code"] == "ConcurrentModificationException"
    assert glue.get_table(**place, Name="t")["Table"]["Parameters"] == {"n": "2"}
    assert len(glue.get_table_versions(**place, TableName="t")["TableVersions"]) == 1


def test_of_several_creators_of_a_glue_table_one_wins(
    settings: Settings, aws: Callable[[str], Any]
) -> None:
    glue = aws("glue")

    def create(number: int) -> bool:
        try:
            glue.create_table(
                DatabaseName=settings.database,
                TableInput={"Name": "t", "Description": str(number)},
            )
        except glue.exceptions.AlreadyExistsException:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [number for number, made in enumerate(pool.map(create, range(8))) if made]
    assert len(won) == 1
    table = glue.get_table(DatabaseName=settings.database, Name="t")["Table"]
    assert table["Description"] == str(won[0])


@pytest.mark.slow
def test_four_writers_commit_twenty_times_and_lose_nothing(settings: Settings) -> None:
    """Stock moto, which ignores the version, lost 28 of 40 rows in such a race."""

    def catalog() -> Any:
        return load_catalog(
            "glue",
            type="glue",
            **{
                "glue.endpoint": settings.endpoint_url,
                "glue.region": settings.region,
                "s3.endpoint": settings.endpoint_url,
                "s3.region": settings.region,
                "s3.access-key-id": "embedded",
                "s3.secret-access-key": "embedded",
                "s3.force-virtual-addressing": "false",
            },
        )

    name = f"{settings.database}.race"
    catalog().create_table(
        name,
        schema=pa.schema([("n", pa.int64())]),
        location=f"s3://{settings.bucket(Zone.CURATED)}/race",
        properties={"commit.retry.num-retries": "0"},
    )

    def write(writer: int) -> int:
        mine, conflicts = catalog(), 0
        for number in range(5):
            rows = pa.table({"n": pa.array([writer * 5 + number], pa.int64())})
            while True:
                try:
                    mine.load_table(name).append(rows)
                    break
                except CommitFailedException:
                    conflicts += 1
                    time.sleep(random.uniform(0, 0.2))
        return conflicts

    with ThreadPoolExecutor(4) as pool:
        conflicts = sum(pool.map(write, range(4)))
    table = catalog().load_table(name)
    assert sorted(table.scan().to_arrow()["n"].to_pylist()) == list(range(20))
    assert len(table.metadata.snapshots) == 20
    assert conflicts > 0


def test_a_cancelled_transaction_leaves_nothing_behind(
    settings: Settings, aws: Callable[[str], Any]
) -> None:
    dynamodb, table = aws("dynamodb"), settings.ledger_table

    def item(pk: str, n: int) -> dict[str, Any]:
        return {"pk": {"S": pk}, "sk": {"S": "x"}, "n": {"N": str(n)}}

    dynamodb.put_item(TableName=table, Item=item("there", 1))
    new = {"ConditionExpression": "attribute_not_exists(pk)"}
    with pytest.raises(dynamodb.exceptions.TransactionCanceledException) as cancelled:
        dynamodb.transact_write_items(
            TransactItems=[
                {"Put": {"TableName": table, "Item": item("fresh", 1)}},
                {"Put": {"TableName": table, "Item": item("there", 2), **new}},
            ]
        )
    reasons = [r["Code"] for r in cancelled.value.response["CancellationReasons"]]
    assert reasons == ["None", "ConditionalCheckFailed"]
    assert dynamodb.scan(TableName=table)["Items"] == [item("there", 1)]


def test_of_several_conditional_writers_of_one_key_one_wins(
    settings: Settings, aws: Callable[[str], Any]
) -> None:
    s3, bucket = aws("s3"), settings.bucket(Zone.DQ_RESULTS)

    def write(number: int) -> bool:
        try:
            s3.put_object(Bucket=bucket, Key="one", Body=str(number).encode(), IfNoneMatch="*")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailed"
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [number for number, made in enumerate(pool.map(write, range(8))) if made]
    assert len(won) == 1
    assert s3.get_object(Bucket=bucket, Key="one")["Body"].read() == str(won[0]).encode()


def test_no_version_is_lost_where_many_write_one_key(
    settings: Settings, aws: Callable[[str], Any]
) -> None:
    s3, bucket = aws("s3"), settings.bucket(Zone.RAW)
    with ThreadPoolExecutor(8) as pool:
        put = [
            answer["VersionId"]
            for answer in pool.map(
                lambda n: s3.put_object(Bucket=bucket, Key="k", Body=str(n).encode()), range(40)
            )
        ]
    listed = s3.list_object_versions(Bucket=bucket, Prefix="k")["Versions"]
    assert {v["VersionId"] for v in listed} == set(put)
    assert [v["IsLatest"] for v in listed] == [True] + [False] * 39


def test_its_environment_points_every_client_to_it(embedded_aws: EmbeddedAws) -> None:
    variables = embedded_aws.environment()
    assert variables["AWS_ENDPOINT_URL"] == embedded_aws.endpoint
    assert variables["AWS_EC2_METADATA_DISABLED"] == "true"
    settings = Settings.from_environment({**os.environ, **variables})
    assert settings.endpoint_url == embedded_aws.endpoint


def _root() -> Path:
    return Path(__file__).resolve().parents[2]
