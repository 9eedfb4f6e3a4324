"""Ledger and catalog survive their server: what it has answered for is on disk.

After each request that changed something, and before its answer, what it left behind is written to
a SQLite file: the items, the tables, the databases as they now are. So nothing has to be played
again at the start, and the file grows with what is kept and not with what was done. A commit of
SQLite without a sync survives the end of the process, however sudden, and not that of the machine.

DynamoDB's tables with their items are kept, and Glue's databases and tables as they last were.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import DynamoDBBackend, dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType, Item, LimitedSizeDict
from moto.dynamodb.models.table import Table
from moto.glue.models import GlueBackend, glue_backends
from werkzeug.test import Client

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS dynamodb_requests (
    number INTEGER PRIMARY KEY, region TEXT NOT NULL, table_name TEXT NOT NULL,
    operation TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS dynamodb_items (
    region TEXT NOT NULL, table_name TEXT NOT NULL, key TEXT NOT NULL, item TEXT NOT NULL,
    PRIMARY KEY (region, table_name, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS glue_databases (
    region TEXT NOT NULL, name TEXT NOT NULL, input TEXT NOT NULL,
    PRIMARY KEY (region, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS glue_tables (
    region TEXT NOT NULL, database_name TEXT NOT NULL, name TEXT NOT NULL, input TEXT NOT NULL,
    PRIMARY KEY (region, database_name, name)) WITHOUT ROWID;
"""

#: Marks what JSON has no word for.
_BYTES = "$bytes"

_REGION = re.compile(r"Credential=[^/]*/[0-9]{8}/([a-z0-9-]+)/")
#: What makes a table what it is: done again at the start, in this order.
_DEFINING = frozenset(
    {
        "CreateTable",
        "UpdateTable",
        "UpdateTimeToLive",
        "UpdateContinuousBackups",
        "TagResource",
        "UntagResource",
    }
)
#: What may change items without naming them.
_STATEMENTS = frozenset({"ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"})

#: A table's name and the key attributes of an item, which may come with others.
_Touched = tuple[str, Mapping[str, Any]]


class KeptStateError(Exception):
    """The file cannot be used; why, in a sentence."""


class KeptState:
    """The file.

    Args:
        path: Made where it is not there.

    Raises:
        KeptStateError: it is of another kind, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            (version,) = self._file.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise KeptStateError(
                    f"{path} was written by another version of lakegate (its format is {version}, "
                    f"this one's is {_VERSION}). Use that version, or another folder."
                )
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.executescript(f"{_SCHEMA} PRAGMA user_version = {_VERSION};")
        except sqlite3.Error as error:
            raise KeptStateError(
                f"The state of the embedded AWS in {path} cannot be read: {error}. Use another "
                "folder, or put a copy of the file in its place."
            ) from error

    def after(self, service: str, environ: Mapping[str, Any]) -> None:
        """Write what a request has left behind. Where that cannot be done the server ends: what it
        would answer for from then on would be gone with it."""
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        operation = target.rpartition(".")[2]
        note = _NOTED.get((service, operation))
        if note is None:
            return
        found = _REGION.search(environ.get("HTTP_AUTHORIZATION", ""))
        region = found.group(1) if found else "us-east-1"
        body = environ["wsgi.input"].getvalue()
        try:
            with self._lock:
                self._file.execute("BEGIN")
                note(self._file, region, operation, json.loads(body))
                self._file.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  the process ends here
            sys.stderr.write(
                f"What {operation} has done cannot be kept in {self._path}: {error!r}. The "
                "embedded AWS ends here, with all that it has answered for on disk.\n"
            )
            sys.stderr.flush()
            os._exit(1)

    def restore(self, application: Any) -> None:
        """Put everything back into a server that has nothing yet.

        Args:
            application: The server's WSGI application.

        Raises:
            KeptStateError: something in the file is not what this server makes of it.
        """
        client = Client(application)
        try:
            for region, operation, body in self._file.execute(
                "SELECT region, operation, body FROM dynamodb_requests ORDER BY number"
            ):
                answer = client.post("/", data=body, headers=_headers(region, operation))
                if answer.status_code != 200:
                    raise KeptStateError(
                        f"{operation} of {self._path} is not possible any more: "
                        f"{answer.get_data(as_text=True)}"
                    )
            for region, name, item in self._file.execute(
                "SELECT region, table_name, item FROM dynamodb_items"
            ):
                _put_back(_dynamodb(region).tables[name], json.loads(item, object_hook=_parsed))
            for region, name, given in self._file.execute(
                "SELECT region, name, input FROM glue_databases"
            ):
                _glue(region).create_database(name, json.loads(given))
            for region, database, name, given in self._file.execute(
                "SELECT region, database_name, name, input FROM glue_tables"
            ):
                _glue(region).create_table(database, name, json.loads(given))
        except (sqlite3.Error, KeyError, ValueError) as error:
            raise KeptStateError(
                f"The state of the embedded AWS in {self._path} cannot be read: {error!r}. Use "
                "another folder, or put a copy of the file in its place."
            ) from error


def _headers(region: str, operation: str) -> dict[str, str]:
    scope = f"embedded/20260101/{region}/dynamodb/aws4_request"
    return {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": f"DynamoDB_20120810.{operation}",
    }


def _dynamodb(region: str) -> DynamoDBBackend:
    return dynamodb_backends[DEFAULT_ACCOUNT_ID][region]


def _glue(region: str) -> GlueBackend:
    return glue_backends[DEFAULT_ACCOUNT_ID][region]


def _note_definition(
    file: sqlite3.Connection, region: str, operation: str, body: dict[str, Any]
) -> None:
    file.execute(
        "INSERT INTO dynamodb_requests (region, table_name, operation, body) VALUES (?, ?, ?, ?)",
        (region, _plain_name(_table_of(body)), operation, json.dumps(body)),
    )


def _note_deletion(
    file: sqlite3.Connection, region: str, operation: str, body: dict[str, Any]
) -> None:
    gone = (region, _plain_name(_table_of(body)))
    file.execute("DELETE FROM dynamodb_requests WHERE region = ? AND table_name = ?", gone)
    file.execute("DELETE FROM dynamodb_items WHERE region = ? AND table_name = ?", gone)


def _note_items(file: sqlite3.Connection, region: str, operation: str, body: Any) -> None:
    tables = _dynamodb(region).tables
    for given, attributes in _touched(operation, body):
        name = _plain_name(given)
        table = tables[name]
        hash_key = DynamoType(attributes[table.hash_key_attr])
        range_key = DynamoType(attributes[table.range_key_attr]) if table.range_key_attr else None
        row = (region, name, _key(hash_key, range_key))
        item = table.get_item(hash_key, range_key)
        if item is None:
            file.execute(
                "DELETE FROM dynamodb_items WHERE region = ? AND table_name = ? AND key = ?", row
            )
        else:
            file.execute(
                "INSERT OR REPLACE INTO dynamodb_items VALUES (?, ?, ?, ?)", (*row, _text(item))
            )


def _note_all_items(file: sqlite3.Connection, region: str, operation: str, body: Any) -> None:
    file.execute("DELETE FROM dynamodb_items WHERE region = ?", (region,))
    for name, table in _dynamodb(region).tables.items():
        file.executemany(
            "INSERT INTO dynamodb_items VALUES (?, ?, ?, ?)",
            (
                (region, name, _key(item.hash_key, item.range_key), _text(item))
                for item in table.all_items()
            ),
        )


def _note_database(
    file: sqlite3.Connection, region: str, operation: str, body: dict[str, Any]
) -> None:
    name = str(body.get("Name") or body["DatabaseInput"]["Name"])
    database = _glue(region).databases.get(name)
    if database is None:
        file.execute("DELETE FROM glue_databases WHERE region = ? AND name = ?", (region, name))
        file.execute(
            "DELETE FROM glue_tables WHERE region = ? AND database_name = ?", (region, name)
        )
    else:
        file.execute(
            "INSERT OR REPLACE INTO glue_databases VALUES (?, ?, ?)",
            (region, name, json.dumps(database.input)),
        )


def _note_tables(
    file: sqlite3.Connection, region: str, operation: str, body: dict[str, Any]
) -> None:
    database = str(body["DatabaseName"])
    tables = _glue(region).databases[database].tables
    for name in body.get("TablesToDelete") or [body.get("Name") or body["TableInput"]["Name"]]:
        table = tables.get(name)
        row = (region, database, str(name))
        if table is None:
            file.execute(
                "DELETE FROM glue_tables WHERE region = ? AND database_name = ? AND name = ?", row
            )
        else:
            given = table.versions[str(table._current_version)]
            file.execute(
                "INSERT OR REPLACE INTO glue_tables VALUES (?, ?, ?, ?)", (*row, json.dumps(given))
            )


_Note = Callable[[sqlite3.Connection, str, str, Any], None]
_NOTED: dict[tuple[str, str], _Note] = {
    **{("dynamodb", operation): _note_definition for operation in _DEFINING},
    ("dynamodb", "DeleteTable"): _note_deletion,
    **{("dynamodb", operation): _note_all_items for operation in _STATEMENTS},
    ("dynamodb", "PutItem"): _note_items,
    ("dynamodb", "UpdateItem"): _note_items,
    ("dynamodb", "DeleteItem"): _note_items,
    ("dynamodb", "BatchWriteItem"): _note_items,
    ("dynamodb", "TransactWriteItems"): _note_items,
    ("glue", "CreateDatabase"): _note_database,
    ("glue", "UpdateDatabase"): _note_database,
    ("glue", "DeleteDatabase"): _note_database,
    ("glue", "CreateTable"): _note_tables,
    ("glue", "UpdateTable"): _note_tables,
    ("glue", "DeleteTable"): _note_tables,
    ("glue", "BatchDeleteTable"): _note_tables,
}


def _touched(operation: str, body: dict[str, Any]) -> Iterator[_Touched]:
    """What a request names, with an item's key attributes among others."""
    if operation == "BatchWriteItem":
        for table, requests in body["RequestItems"].items():
            for request in requests:
                yield table, _attributes(next(iter(request.values())))
    elif operation == "TransactWriteItems":
        for entry in body["TransactItems"]:
            for action in entry.values():
                yield _table_of(action), _attributes(action)
    else:
        yield _table_of(body), _attributes(body)


def _attributes(action: Mapping[str, Any]) -> Mapping[str, Any]:
    return action.get("Key") or action["Item"]


def _table_of(body: Mapping[str, Any]) -> str:
    return str(body.get("TableName") or body["ResourceArn"])


def _plain_name(given: str) -> str:
    """A table's name, where its ARN may stand for it."""
    return given.rpartition("/")[2]


def _key(hash_key: DynamoType, range_key: DynamoType | None) -> str:
    parts = [hash_key] if range_key is None else [hash_key, range_key]
    # A number has many spellings.
    return json.dumps(
        [
            [part.type, str(Decimal(part.value).normalize()) if part.is_number() else part.value]
            for part in parts
        ]
    )


def _text(item: Any) -> str:
    return json.dumps(item.to_json()["Attributes"], default=_binary)


def _put_back(table: Table, attributes: dict[str, Any]) -> None:
    """Set an item in its place. It was measured and checked when it came: doing so again would be
    two thirds of a start (100,000 items: 16 s)."""
    item = Item.__new__(Item)
    item.attrs = LimitedSizeDict()
    for name, value in attributes.items():
        dict.__setitem__(item.attrs, name, DynamoType(value))
    item.hash_key = item.attrs[table.hash_key_attr]
    item.range_key = item.attrs[table.range_key_attr] if table.range_key_attr else None
    if item.range_key is None:
        table.items[item.hash_key] = item
    else:
        table.items[item.hash_key][item.range_key] = item


def _binary(value: bytes) -> dict[str, str]:
    return {_BYTES: base64.b64encode(value).decode()}


def _parsed(found: dict[str, Any]) -> Any:
    # Under any other name of that kind there would be an attribute's value, and so a mapping.
    if found.keys() == {_BYTES} and isinstance(found[_BYTES], str):
        return base64.b64decode(found[_BYTES])
    return found
