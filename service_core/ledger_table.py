"""The ledger table's keys: what bootstrap creates and what the ledger writes, in one place.

One table holds the ledger's items of every kind, told apart by their keys, so that an object's
state and the line of its history are written in one transaction.
"""

from __future__ import annotations

import hashlib
from typing import Any

PK = "pk"
SK = "sk"

#: The secondary index by which an operator, or a replay, finds a partition's objects by state.
#: Only the items of source objects carry its keys.
PARTITION_INDEX = "by-partition"
INDEX_PK = "dataset_partition"
INDEX_SK = "state_object"

STATE = "STATE"
CLAIM = "CLAIM"
HEAD = "HEAD"
HISTORY = "H#"
CURATION = "CURATION"
ROLLED_BACK = "ROLLED_BACK"
DESK = "DESK"


def object_pk(object_id: str) -> str:
    """A source object's state (`STATE`) and history (`H#...`)."""
    return f"OBJ#{object_id}"


def history_sk(revision: int, suffix: str = "") -> str:
    """Sorts an object's history in the order in which it happened, whatever the clocks said."""
    return f"{HISTORY}{revision:08d}{suffix}"


def content_pk(dataset: str, content_hash: str) -> str:
    """Which object holds a content hash (`CLAIM`)."""
    return f"CONTENT#{dataset}#{content_hash}"


def key_pk(dataset: str, key: str) -> str:
    """The newest published version of a key (`HEAD`); hashed, as a key may be any 1,024 bytes."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"KEY#{dataset}#{digest}"


def pending_pk(dataset: str) -> str:
    """The data set's batches whose runs have not begun, by batch id."""
    return f"PENDING#{dataset}"


def desk_pk(dataset: str) -> str:
    """Which way in cuts the data set's batches at the moment (`DESK`)."""
    return f"DESK#{dataset}"


def batch_pk(batch_id: str) -> str:
    """A batch that a remote engine curates: how far that is (`CURATION`). The state machine writes
    it for people to look at; no decision is taken from it. And that a batch has been rolled back
    (`ROLLED_BACK`), which keeps it from being published."""
    return f"BATCH#{batch_id}"


def index_pk(dataset: str, partition: str) -> str:
    return f"{dataset}#{partition}"


def index_sk(state: str, object_id: str) -> str:
    return f"{state}#{object_id}"


def table_definition(name: str) -> dict[str, Any]:
    """The arguments of DynamoDB's CreateTable."""
    attributes = (PK, SK, INDEX_PK, INDEX_SK)
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": attribute, "AttributeType": "S"} for attribute in attributes
        ],
        "KeySchema": _schema(PK, SK),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": PARTITION_INDEX,
                "KeySchema": _schema(INDEX_PK, INDEX_SK),
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    }


def _schema(hash_key: str, range_key: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": hash_key, "KeyType": "HASH"},
        {"AttributeName": range_key, "KeyType": "RANGE"},
    ]
