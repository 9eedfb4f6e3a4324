"""What a lake should hold, worked out without the code under test, and what it does hold.

The files are read by the csv module, the ledger by a scan of its table, the published rows by
PyIceberg from the metadata file that the Glue catalog names; everything past the proxy.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pyiceberg.table import StaticTable

#: Columns that a file of orders cannot do without.
_NEEDED = {"order_id", "amount", "currency", "event_ts"}
_END_STATES = {"published", "quarantined", "superseded", "rolled_back"}

Row = tuple[str, str]


@dataclass
class Expected:
    """What landed, in the order in which it landed.

    Attributes:
        bodies: By key, every version's content.
        undone: Keys whose last version's rows have been rolled back.
    """

    bodies: dict[str, list[bytes]] = field(default_factory=dict)
    undone: set[str] = field(default_factory=set)

    def landed(self, key: str, body: bytes) -> None:
        self.bodies.setdefault(key, []).append(body)

    def rows(self) -> Counter[Row]:
        """Order id and key of every row that a reader should see."""
        return Counter(
            (row["order_id"], key)
            for key, versions in self.bodies.items()
            if key not in self.undone
            for row in _good_rows(versions[-1])
        )

    def versions(self) -> int:
        return sum(len(versions) for versions in self.bodies.values())

    def states(self) -> Counter[str]:
        """How many source objects should have ended how."""
        ends: Counter[str] = Counter()
        for key, versions in self.bodies.items():
            ends["superseded"] += len(versions) - 1
            if _refused(versions[-1]):
                ends["quarantined"] += 1
            else:
                ends["rolled_back" if key in self.undone else "published"] += 1
        return +ends

    def diverted(self) -> int:
        """Rows of published objects that are in quarantine one by one."""
        return sum(
            len(list(_rows(versions[-1]))) - len(list(_good_rows(versions[-1])))
            for key, versions in self.bodies.items()
            if key not in self.undone and not _refused(versions[-1])
        )


def faults_found(aws: Any, settings: Any, dataset: str, expected: Expected) -> list[str]:
    """Everything that is not as it should be, in sentences; empty where all is well.

    Args:
        aws: `aws("s3")` is a client past the proxy.
    """
    found = []
    seen = Counter(_published(aws, settings, dataset))
    wanted = expected.rows()
    if lost := wanted - seen:
        found.append(f"{sum(lost.values())} rows lost, such as {min(lost)}")
    if doubled := seen - wanted:
        found.append(f"{sum(doubled.values())} rows too many, such as {min(doubled)}")
    items = list(_scan(aws("dynamodb"), settings.ledger_table))
    objects = [i for i in items if i["sk"]["S"] == "STATE"]
    states = Counter(i["state"]["S"] for i in objects)
    if len(objects) != expected.versions():
        found.append(f"{len(objects)} source objects are known, {expected.versions()} landed")
    if open_ := {s: n for s, n in states.items() if s not in _END_STATES}:
        found.append(f"objects in no end state: {open_}")
    if states != expected.states():
        found.append(f"objects ended as {dict(states)}, expected {dict(expected.states())}")
    diverted = sum(
        int(i.get("rows_quarantined", {}).get("N", 0))
        for i in objects
        if i["state"]["S"] == "published"
    )
    if diverted != expected.diverted():
        found.append(f"{diverted} rows diverted, expected {expected.diverted()}")
    if pending := [i["sk"]["S"] for i in items if i["pk"]["S"].startswith("PENDING#")]:
        found.append(f"batches still wait for runs: {pending}")
    raw = aws("s3").list_object_versions(Bucket=settings.bucket("raw"))
    if len(raw.get("Versions", ())) != expected.versions() or raw.get("DeleteMarkers"):
        found.append("the raw bucket is not as the producer left it")
    return found


def states_found(aws: Any, settings: Any) -> list[str]:
    """The state of every source object."""
    items = _scan(aws("dynamodb"), settings.ledger_table)
    return [item["state"]["S"] for item in items if item["sk"]["S"] == "STATE"]


def snapshots_found(aws: Any, settings: Any, dataset: str) -> list[str]:
    """The batch of every snapshot of the table, oldest first."""
    table = _table(aws, settings, dataset)
    if table is None:
        return []
    return [str((s.summary or {})["lakegate.batch-id"]) for s in table.metadata.snapshots]


def _table(aws: Any, settings: Any, dataset: str) -> StaticTable | None:
    glue = aws("glue")
    try:
        table = glue.get_table(DatabaseName=settings.database, Name=dataset)["Table"]
    except glue.exceptions.EntityNotFoundException:
        return None
    properties = {
        "s3.endpoint": glue.meta.endpoint_url,
        "s3.region": settings.region,
        "s3.access-key-id": "embedded",
        "s3.secret-access-key": "embedded",
    }
    return StaticTable.from_metadata(table["Parameters"]["metadata_location"], properties)


def _published(aws: Any, settings: Any, dataset: str) -> Iterable[Row]:
    if (table := _table(aws, settings, dataset)) is None:
        return
    rows = table.scan(selected_fields=("order_id", "_source_key")).to_arrow()
    yield from zip(rows["order_id"].to_pylist(), rows["_source_key"].to_pylist(), strict=True)


def _scan(dynamodb: Any, table: str) -> Iterable[dict[str, Any]]:
    for page in dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        yield from page["Items"]


def _rows(body: bytes) -> Iterable[dict[str, str]]:
    return csv.DictReader(io.StringIO(body.decode()))


def _refused(body: bytes) -> bool:
    header = next(csv.reader(io.StringIO(body.decode())), [])
    return not set(header) >= _NEEDED


def _good_rows(body: bytes) -> Iterable[dict[str, str]]:
    if _refused(body):
        return
    for row in _rows(body):
        try:
            float(row["amount"])
        except ValueError:
            continue
        yield row
