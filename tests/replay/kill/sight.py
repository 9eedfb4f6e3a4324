"""What is in a lake, read without a line of the code under test: boto3 for the buckets and the
ledger, PyIceberg for the table's manifests, PyArrow for the rows, `csv` for the landed files.

Names of buckets, keys and attributes are written out here once more, on purpose.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, field

import boto3
import pyarrow.parquet as pq

from tests.replay.kill.control import told
from tests.replay.kill.forking import Json

PREFIX = "lakegate-dev"
DATABASE = "lakegate_dev"
DATASET = "orders"
#: The content of what is left lying about.
STRAY = b"stray"

_FILE = re.compile(r"orders_([a-z])\.csv\Z")


@dataclass(slots=True)
class Source:
    """One version of a landed file: `name` is its letter and number, such as `a.1`."""

    name: str
    key: str
    version_id: str
    body: bytes
    rows: list[Json]


@dataclass(slots=True)
class DataFile:
    """A file that the table's current snapshot names.

    Attributes:
        records: How many rows the manifest says it has.
        rows: What is in it; None where it is not there.
    """

    path: str
    records: int
    rows: list[Json] | None


@dataclass(slots=True)
class Lake:
    """All that there is to see.

    Attributes:
        states: The ledger's item of each source object, by its id.
        pending: Batches that wait for a run.
        heads: By key, the object that the ledger calls its newest.
        undone: Ids of the batches marked as rolled back.
        files: The current snapshot's; None where there is no table.
        deletes: Delete files of the current snapshot.
        commits: The summary of each snapshot, oldest first.
        missing: Metadata that is named and not there.
        records: File quarantine: by object id, its papers by name.
        diverted: Row quarantine: by URI, the rows.
        strays: What a scenario has left lying about and nothing names.
        verdicts: By batch id.
        replays: By replay id and name, the papers; open marks under `open`.
        events: What the bus has taken: name and detail.
    """

    sources: list[Source] = field(default_factory=list)
    states: dict[str, Json] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    heads: dict[str, str] = field(default_factory=dict)
    undone: set[str] = field(default_factory=set)
    files: list[DataFile] = field(default_factory=list)
    deletes: int = 0
    commits: list[dict[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    records: dict[str, dict[str, bytes]] = field(default_factory=dict)
    diverted: dict[str, list[Json]] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    verdicts: dict[str, Json] = field(default_factory=dict)
    replays: dict[str, dict[str, bytes]] = field(default_factory=dict)
    events: list[tuple[str, Json]] = field(default_factory=list)


def look(endpoint: str) -> Lake:
    """Everything in the lake behind an endpoint."""
    eye = _Eye(endpoint)
    lake = Lake()
    lake.sources = eye.sources()
    eye.ledger(lake)
    eye.table(lake)
    for key, body in eye.objects("quarantine", f"{DATASET}/files/"):
        _, _, _, object_id, paper = key.split("/")
        lake.records.setdefault(object_id, {})[paper] = body
    for key, body in eye.objects("quarantine", f"{DATASET}/rows/"):
        if body == STRAY:
            lake.strays.append(key)
        elif key.endswith(".parquet"):
            uri = f"s3://{PREFIX}-quarantine/{key}"
            lake.diverted[uri] = pq.read_table(io.BytesIO(body)).to_pylist()
    lake.strays += [key for key, body in eye.objects("curated", f"{DATASET}/") if body == STRAY]
    for key, body in eye.objects("dq-results", f"{DATASET}/"):
        lake.verdicts[key.rsplit("/", 1)[1].removesuffix(".json")] = json.loads(body)
    for key, body in eye.objects("manifests", "_replays/"):
        _, replay_id, paper = key.split("/", 2)
        lake.replays.setdefault(replay_id, {})[paper] = body
    lake.events = eye.events()
    return lake


class _Eye:
    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._reach = {
            "endpoint_url": endpoint,
            "region_name": "us-east-1",
            "aws_access_key_id": "oracle",
            "aws_secret_access_key": "oracle",
        }
        self._s3 = boto3.client("s3", **self._reach)

    def sources(self) -> list[Source]:
        bucket = f"{PREFIX}-raw"
        listed = self._s3.list_object_versions(Bucket=bucket)
        counts: dict[str, int] = {}
        found = []
        for version in reversed(listed.get("Versions", [])):
            key, version_id = version["Key"], version["VersionId"]
            counts[key] = counts.get(key, 0) + 1
            letter = _FILE.search(key)
            assert letter is not None, key
            body = self._s3.get_object(Bucket=bucket, Key=key, VersionId=version_id)["Body"].read()
            rows = list(csv.DictReader(io.StringIO(body.decode())))
            found.append(Source(f"{letter[1]}.{counts[key]}", key, version_id, body, rows))
        return found

    def ledger(self, lake: Lake) -> None:
        pages = boto3.client("dynamodb", **self._reach).get_paginator("scan")
        for page in pages.paginate(TableName=f"{PREFIX}-ledger", ConsistentRead=True):
            for typed in page["Items"]:
                item = {name: next(iter(value.values())) for name, value in typed.items()}
                kind = item["pk"].partition("#")[0]
                if kind == "OBJ" and item["sk"] == "STATE":
                    lake.states[item["object_id"]] = item
                elif kind == "PENDING":
                    lake.pending.append(item["sk"])
                elif kind == "KEY":
                    lake.heads[item["key"]] = item["object_id"]
                elif kind == "BATCH" and item["sk"] == "ROLLED_BACK":
                    lake.undone.add(item["pk"].partition("#")[2])

    def table(self, lake: Lake) -> None:
        from pyiceberg.table import StaticTable

        glue = boto3.client("glue", **self._reach)
        try:
            found = glue.get_table(DatabaseName=DATABASE, Name=DATASET)["Table"]
        except glue.exceptions.EntityNotFoundException:
            return
        location = found["Parameters"]["metadata_location"]
        if (text := self._read(location)) is None:
            lake.missing.append(location)
            return
        snapshots = json.loads(text).get("snapshots", [])
        snapshots.sort(key=lambda snapshot: snapshot["sequence-number"])
        lake.commits = [snapshot["summary"] for snapshot in snapshots]
        lists = [snapshot["manifest-list"] for snapshot in snapshots]
        lake.missing += [uri for uri in lists if self._read(uri) is None]
        if lake.missing:
            return
        table = StaticTable.from_metadata(
            location,
            {
                "s3.endpoint": self._endpoint,
                "s3.region": "us-east-1",
                "s3.access-key-id": "oracle",
                "s3.secret-access-key": "oracle",
            },
        )
        for task in table.scan().plan_files():
            path = task.file.file_path
            body = self._read(path)
            rows = None if body is None else pq.read_table(io.BytesIO(body)).to_pylist()
            lake.files.append(DataFile(path, task.file.record_count, rows))
            lake.deletes += len(task.delete_files)

    def objects(self, zone: str, prefix: str) -> list[tuple[str, bytes]]:
        bucket = f"{PREFIX}-{zone}"
        found = []
        for page in self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix
        ):
            for one in page.get("Contents", []):
                body = self._s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read()
                found.append((one["Key"], body))
        return found

    def events(self) -> list[tuple[str, Json]]:
        report = told(self._endpoint, "report", {})
        return [(e["DetailType"], json.loads(e["Detail"])) for e in report["events"]]

    def _read(self, uri: str) -> bytes | None:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        try:
            return bytes(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        except self._s3.exceptions.NoSuchKey:
            return None
