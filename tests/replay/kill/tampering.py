"""Ways to spoil a lake, each with what the oracle must say of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3

from tests.replay.kill.sight import DATABASE, DATASET, PREFIX

Spoil = Callable[["Spoiler"], None]


class Spoiler:
    """Reaches into a lake, past everything that guards it."""

    def __init__(self, endpoint: str) -> None:
        self._reach = {
            "endpoint_url": endpoint,
            "region_name": "us-east-1",
            "aws_access_key_id": "spoiler",
            "aws_secret_access_key": "spoiler",
        }
        self._endpoint = endpoint
        self.s3 = boto3.client("s3", **self._reach)
        self.dynamodb = boto3.client("dynamodb", **self._reach)

    def table(self) -> Any:
        from pyiceberg.catalog.glue import GlueCatalog

        catalog = GlueCatalog(
            "spoiler",
            **{
                "glue.endpoint": self._endpoint,
                "glue.region": "us-east-1",
                "glue.access-key-id": "spoiler",
                "glue.secret-access-key": "spoiler",
                "s3.endpoint": self._endpoint,
                "s3.region": "us-east-1",
                "s3.access-key-id": "spoiler",
                "s3.secret-access-key": "spoiler",
            },
        )
        return catalog.load_table((DATABASE, DATASET))

    def key(self, zone: str, prefix: str, ending: str) -> tuple[str, str]:
        """Bucket and key of the first object of that kind."""
        bucket = f"{PREFIX}-{zone}"
        listed = self.s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
        return bucket, next(o["Key"] for o in listed if o["Key"].endswith(ending))

    def change_state(self, letter: str, **attributes: str) -> None:
        """Write into the ledger's entry of a file."""
        items = self.dynamodb.scan(TableName=f"{PREFIX}-ledger")["Items"]
        for item in items:
            key = item.get("key", {}).get("S", "")
            if item["sk"]["S"] == "STATE" and key.endswith(f"orders_{letter}.csv"):
                kinds = {name: next(iter(item.get(name, {"S": ""}))) for name in attributes}
                item |= {name: {kinds[name]: value} for name, value in attributes.items()}
                self.dynamodb.put_item(TableName=f"{PREFIX}-ledger", Item=item)


def _row_twice(lake: Spoiler) -> None:
    table = lake.table()
    table.append(table.scan().to_arrow().slice(0, 1))


def _row_gone(lake: Spoiler) -> None:
    lake.table().delete("order_id = 'O000000000'")


def _file_gone(lake: Spoiler) -> None:
    bucket, key = lake.key("curated", f"{DATASET}/", ".parquet")
    lake.s3.delete_object(Bucket=bucket, Key=key)


def _pending(lake: Spoiler) -> None:
    item = {"pk": {"S": f"PENDING#{DATASET}"}, "sk": {"S": "0" * 32}}
    lake.dynamodb.put_item(TableName=f"{PREFIX}-ledger", Item=item)


def _copy_changed(lake: Spoiler) -> None:
    bucket, key = lake.key("quarantine", f"{DATASET}/files/", "content")
    lake.s3.put_object(Bucket=bucket, Key=key, Body=b"something else")


def _diverted_gone(lake: Spoiler) -> None:
    bucket, key = lake.key("quarantine", f"{DATASET}/rows/", ".parquet")
    lake.s3.delete_object(Bucket=bucket, Key=key)


def _refused_and_published(lake: Spoiler) -> None:
    lake.change_state("a", state="quarantined", reason="NAME_PATTERN")


def _verdict_failed(lake: Spoiler) -> None:
    bucket, key = lake.key("dq-results", f"{DATASET}/", ".json")
    verdict = json.load(lake.s3.get_object(Bucket=bucket, Key=key)["Body"])
    body = json.dumps({**verdict, "passed": False}).encode()
    lake.s3.put_object(Bucket=bucket, Key=key, Body=body)


def _replay_open(lake: Spoiler) -> None:
    lake.s3.put_object(Bucket=f"{PREFIX}-manifests", Key="_replays/open/r-1", Body=b"")


#: What is done, and words of the complaint.
TAMPERING: dict[str, tuple[Spoil, str]] = {
    "a row published twice": (_row_twice, "is published 2 times"),
    "a row taken out": (_row_gone, "is not published"),
    "a data file deleted": (_file_gone, "is in the snapshot and not there"),
    "a batch left pending": (_pending, "is pending"),
    "an object left between": (
        lambda lake: lake.change_state("a", state="curated"),
        "is no end state",
    ),
    "counts that do not add up": (
        lambda lake: lake.change_state("b", rows_quarantined="1"),
        "they do not add up",
    ),
    "an object published and refused": (_refused_and_published, "is quarantined and has"),
    "an object of another batch": (
        lambda lake: lake.change_state("c", batch_id="0" * 32),
        "its rows are of",
    ),
    "a quarantined copy changed": (_copy_changed, "is not what landed"),
    "diverted rows deleted": (_diverted_gone, "is named by a verdict and not there"),
    "a failed verdict's rows": (_verdict_failed, "whose verdict did not pass"),
    "a replay left open": (_replay_open, "is open"),
}
