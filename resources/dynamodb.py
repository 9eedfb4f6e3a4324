"""Many conditional writes to a DynamoDB table in few requests, and no lost update among them.

Whoever changes an item reads it first and writes it back on the condition that its `revision` is
still the one that was read. A hundred writes go in one transaction; where another writer was
quicker, what it left is read and the decision taken again.
"""

from __future__ import annotations

import random
import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from service_core.ledger_table import PK, SK

Item = dict[str, Any]
Key = tuple[str, str]
_T = TypeVar("_T")

REVISION = "revision"

#: Limits of BatchGetItem and TransactWriteItems.
_READ_ITEMS = 100
WRITE_ITEMS = 100
_THREADS = 8
_ATTEMPTS = 30
_FIRST_WAIT_SECONDS = 0.02
_LONGEST_WAIT_SECONDS = 3.0

# What another writer, or too many, can make of a transaction that is sound in itself.
_PASSING = frozenset(
    {
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
        "TransactionConflictException",
        "TransactionInProgressException",
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
    }
)


class ContentionError(Exception):
    """The table could not be written because others kept writing the same items."""


class Table:
    """A table with `pk` and `sk`, its items as plain Python values.

    Args:
        client: A boto3 DynamoDB client, shared between threads.
        name: The table's name.
    """

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def read(self, keys: Iterable[Key]) -> dict[Key, Item]:
        """The items that are there, read consistently."""
        wanted = list(dict.fromkeys(keys))
        found: dict[Key, Item] = {}
        for part in in_parallel(self._read_chunk, _chunks(wanted, _READ_ITEMS)):
            found.update(part)
        return found

    def present(self, keys: Iterable[Key]) -> frozenset[Key]:
        """The keys of which there is an item, read consistently and without the rest of it."""
        chunks = _chunks(list(dict.fromkeys(keys)), _READ_ITEMS)
        read = in_parallel(lambda chunk: self._read_chunk(chunk, f"{PK}, {SK}"), chunks)
        return frozenset(key for part in read for key in part)

    def settle(
        self,
        subjects: Sequence[_T],
        key: Callable[[_T], Key],
        decide: Callable[[_T, Item | None], list[Item]],
        *,
        writes_each: int,
        seen: Mapping[Key, Item | None] | None = None,
    ) -> None:
        """Bring each subject's item to where `decide` wants it.

        Args:
            subjects: What is to be settled; no two may have the same key.
            key: The key of the item that a subject is about.
            decide: Given the item as it stands (or None), the items to write: none where it
                stands well; otherwise the subject's own, and further new ones. Called again where
                another writer was quicker, so it must depend on nothing else.
            writes_each: The most items that `decide` ever gives.
            seen: Items as they stood a moment ago. They are not read first; what is decided from
                one of them counts only where the write proves that it still stands.

        Raises:
            ContentionError: other writers stayed quicker through every attempt.
        """
        group = WRITE_ITEMS // writes_each

        def settle_chunk(chunk: Sequence[_T]) -> None:
            self._settle_chunk(chunk, group, key, decide, seen or {})

        for _ in in_parallel(settle_chunk, _chunks(subjects, _READ_ITEMS)):
            pass

    def put(self, item: Item) -> None:
        """Write one item, whatever is there."""
        self._client.put_item(TableName=self.name, Item=_stored(item))

    def delete(self, key: Key) -> None:
        """Delete one item, if it is there."""
        self._client.delete_item(TableName=self.name, Key=_key(key))

    def query(self, pk: str, *, begins_with: str = "", index: tuple[str, str, str] | None = None
              ) -> Iterator[Item]:  # fmt: skip
        """The items of one partition key by ascending sort key.

        Args:
            pk: The partition key's value.
            begins_with: What the sort key begins with.
            index: Name, partition key and sort key of a secondary index. An index lags behind.
        """
        pk_name, sk_name = (index[1], index[2]) if index else (PK, SK)
        asked: dict[str, Any] = {
            "TableName": self.name,
            "KeyConditionExpression": "#pk = :pk",
            "ExpressionAttributeNames": {"#pk": pk_name},
            "ExpressionAttributeValues": {":pk": {"S": pk}},
        }
        if begins_with:
            asked["KeyConditionExpression"] += " AND begins_with(#sk, :sk)"
            asked["ExpressionAttributeNames"]["#sk"] = sk_name
            asked["ExpressionAttributeValues"][":sk"] = {"S": begins_with}
        asked.update({"IndexName": index[0]} if index else {"ConsistentRead": True})
        for page in self._client.get_paginator("query").paginate(**asked):
            for item in page["Items"]:
                yield _plain(item)

    def _read_chunk(self, keys: Sequence[Key], attributes: str = "") -> dict[Key, Item]:
        found: dict[Key, Item] = {}
        if not keys:
            return found
        left: list[Mapping[str, Any]] = [_key(key) for key in keys]
        only = {"ProjectionExpression": attributes} if attributes else {}
        for attempt in range(_ATTEMPTS):
            answer = self._client.batch_get_item(
                RequestItems={self.name: {"Keys": left, "ConsistentRead": True, **only}}
            )
            for stored in answer["Responses"].get(self.name, ()):
                item = _plain(stored)
                found[item[PK], item[SK]] = item
            left = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            if not left:
                return found
            _wait(attempt)
        raise ContentionError(
            f"{len(left)} items of table {self.name} could not be read in {_ATTEMPTS} attempts: "
            "DynamoDB leaves them unprocessed. Look at the table's throttled requests."
        )

    def _settle_chunk(
        self,
        subjects: Sequence[_T],
        group: int,
        key: Callable[[_T], Key],
        decide: Callable[[_T, Item | None], list[Item]],
        seen: Mapping[Key, Item | None],
    ) -> None:
        """Read subjects together and write so many of them at a time; those of which another
        writer was quicker, again."""
        left = subjects
        for attempt in range(_ATTEMPTS):
            wanted = [key(subject) for subject in left]
            standing = self._read_chunk([one for one in wanted if one not in seen])
            unsettled: list[_T] = []
            for part in _chunks(left, group):
                items: list[Item] = []
                unproven: list[_T] = []
                for subject in part:
                    its = key(subject)
                    decided = decide(subject, seen[its] if its in seen else standing.get(its))
                    if its not in seen or any(_proves(item, its) for item in decided):
                        items += decided
                    else:
                        unproven.append(subject)
                written = not items or self._transact([_put(self.name, item) for item in items])
                unsettled += unproven if written else part
            if not unsettled:
                return
            left = unsettled
            if seen:
                # What had been seen is out of date; nobody needs to be waited for.
                seen = {}
            else:
                _wait(attempt)
        raise ContentionError(
            f"{len(left)} items of table {self.name} could not be written in {_ATTEMPTS} "
            "attempts because others kept writing them. Try the step again."
        )

    def _transact(self, puts: list[dict[str, Any]]) -> bool:
        """Write all or nothing; False where another writer, or too many of them, prevented it."""
        try:
            self._client.transact_write_items(TransactItems=puts)
        except self._client.exceptions.TransactionCanceledException as error:
            codes = {r.get("Code") for r in error.response.get("CancellationReasons", ())}
            if codes - {None, "None"} <= _PASSING | {"ConditionalCheckFailed"}:
                return False
            raise
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in _PASSING:
                return False
            raise
        return True


def in_parallel(work: Callable[[_T], Any], parts: Sequence[_T]) -> Iterator[Any]:
    """The work's results in order, by a few threads where there are several parts."""
    if len(parts) < 2:
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(min(_THREADS, len(parts))) as pool:
        yield from pool.map(work, parts)


def _chunks(values: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _wait(attempt: int) -> None:
    longest = min(_FIRST_WAIT_SECONDS * 2**attempt, _LONGEST_WAIT_SECONDS)
    time.sleep(random.uniform(0, longest))


def _proves(item: Item, key: Key) -> bool:
    """Whether writing an item succeeds only where the item it was decided from still stands."""
    return REVISION in item and (item[PK], item[SK]) == key


def _put(table: str, item: Item) -> dict[str, Any]:
    """A put on the condition that the revision before it still stands; or, of an item without a
    revision, which nobody else writes or all write alike, a put without any."""
    put: dict[str, Any] = {"TableName": table, "Item": _stored(item)}
    revision = item.get(REVISION)
    if revision == 1:
        put["ConditionExpression"] = f"attribute_not_exists({PK})"
    elif revision is not None:
        put["ConditionExpression"] = f"{REVISION} = :before"
        put["ExpressionAttributeValues"] = {":before": {"N": str(revision - 1)}}
    return {"Put": put}


def _key(key: Key) -> dict[str, Any]:
    return {PK: {"S": key[0]}, SK: {"S": key[1]}}


def _stored(item: Item) -> dict[str, Any]:
    return {name: _typed(value) for name, value in item.items() if value is not None}


def as_stored(item: Item) -> Item:
    """An item as it would be read back."""
    return _plain(_stored(item))


def _typed(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, bytes):
        return {"B": value}
    return {"S": str(value)}


def _plain(stored: Mapping[str, Mapping[str, Any]]) -> Item:
    return {
        name: value if kind == "S" else _untyped(kind, value)
        for name, typed in stored.items()
        for kind, value in typed.items()
    }


def _untyped(kind: str, value: Any) -> Any:
    if kind == "N":
        return int(value)
    if kind == "B" and isinstance(value, str):
        return b64decode(value)
    return value
