"""A DynamoDB transaction costs what it touches, not what the table holds.

Stock moto deep-copies every table named in TransactWriteItems, once for each of the transaction's
items, to be able to roll back: on a ledger of 10,000 objects one transaction of 100 items would
copy two million. Only the items that the transaction names can change, so only they are kept.
"""

from __future__ import annotations

import copy
from typing import Any

from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table


class _Undo:
    """Stands in for the copy of a table that moto's roll-back would put in the table's place."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._before: dict[tuple[DynamoType, DynamoType | None], Any] = {}

    def remember(self, item: dict[str, Any]) -> None:
        """Keep what one key of the transaction holds now."""
        hash_key = DynamoType(item[self.table.hash_key_attr])
        range_key = (
            DynamoType(item[self.table.range_key_attr]) if self.table.range_key_attr else None
        )
        held = self.table.items.get(hash_key)
        if range_key is not None and held is not None:
            held = held.get(range_key)
        self._before[hash_key, range_key] = copy.deepcopy(held)

    def roll_back(self) -> None:
        """Put everything remembered back."""
        for (hash_key, range_key), held in self._before.items():
            if range_key is None:
                if held is None:
                    self.table.items.pop(hash_key, None)
                else:
                    self.table.items[hash_key] = held
            elif held is None:
                if hash_key in self.table.items:
                    self.table.items[hash_key].pop(range_key, None)
            else:
                self.table.items[hash_key][range_key] = held


def apply() -> None:
    """Wrap moto's TransactWriteItems and Query."""
    stock_transact = DynamoDBBackend.transact_write_items
    stock_query = Table.query

    def transact_write_items(self: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
        undo: dict[str, _Undo] = {}
        for entry in transact_items:
            (action,) = list(entry.values())[:1]
            name = action.get("TableName")
            table = self.tables.get(name)
            if table is None:
                continue
            if name not in undo:
                undo[name] = _Undo(table)
                # What stock moto takes for a copy, and would put back, is the table itself.
                table.__deepcopy__ = lambda memo, table=table: table
            keys = action.get("Key") or action.get("Item") or {}
            if all(attribute in keys for attribute in table.table_key_attrs):
                undo[name].remember(keys)
        try:
            stock_transact(self, transact_items)
        except BaseException:
            for kept in undo.values():
                kept.roll_back()
            raise
        finally:
            for kept in undo.values():
                del kept.table.__deepcopy__

    def query(self: Table, hash_key: Any, *args: Any, **kwargs: Any) -> Any:
        # Stock moto sorts the whole table before it looks at the hash key.
        index_name = kwargs.get("index_name", args[6] if len(args) > 6 else None)
        if index_name is not None or hash_key is None or not self.range_key_attr:
            return stock_query(self, hash_key, *args, **kwargs)
        self.all_items = lambda: list(self.items.get(hash_key, {}).values())
        try:
            return stock_query(self, hash_key, *args, **kwargs)
        finally:
            del self.all_items

    DynamoDBBackend.transact_write_items = transact_write_items
    Table.query = query
