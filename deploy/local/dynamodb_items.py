"""A DynamoDB item is measured once and answered as it is kept; a condition is parsed once.

Stock moto measures the whole item again for each attribute that it puts into it, asks for each of
an attribute value's ten possible types, under all spellings of its name, before it answers with the
one that is there, and parses a condition three times for each write. A batch of ledger moves spent
more than half of its time on that (receiving 2,000 objects and moving them three times, on two
cores: 22 s, with this less than 10).
"""

from __future__ import annotations

from typing import Any

from moto.core.serialize import JSONSerializer
from moto.dynamodb.comparisons import ConditionExpressionParser
from moto.dynamodb.exceptions import ItemSizeTooLarge
from moto.dynamodb.models.dynamo_type import DynamoType, Item, LimitedSizeDict

#: Types whose stored form is already that of the answer.
_PLAIN = frozenset({"S", "N", "BOOL"})
#: moto's own bound, between what the documentation says and what has been measured.
_ITEM_BYTES = 405_000
_REMEMBERED = 1_000


def apply() -> None:
    """Replace moto's making of an item and its serialising of a plain attribute value, and
    remember what it made of a condition."""
    stock_structure = JSONSerializer._serialize_type_structure
    stock_parse = ConditionExpressionParser.parse
    parsed: dict[str, tuple[Any, list[str], list[str]]] = {}

    def make(
        self: Item, hash_key: DynamoType, range_key: DynamoType | None, attrs: dict[str, Any]
    ) -> None:
        self.hash_key = hash_key
        self.range_key = range_key
        self.attrs = LimitedSizeDict()
        for name, value in attrs.items():
            dict.__setitem__(self.attrs, name, DynamoType(value))
        if self.size() > _ITEM_BYTES:
            raise ItemSizeTooLarge

    def serialize_structure(
        self: JSONSerializer, serialized: Any, value: Any, shape: Any, key: str
    ) -> None:
        if shape.name == "AttributeValue" and isinstance(value, dict) and len(value) == 1:
            (kind,) = value
            if kind in _PLAIN and key:
                self._default_serialize(serialized, value, shape, key)
                return
        stock_structure(self, serialized, value, shape, key)

    def parse(self: ConditionExpressionParser) -> Any:
        written = repr(
            (
                self.condition_expression,
                self.expression_attribute_names,
                self.expression_attribute_values,
            )
        )
        if written not in parsed:
            if len(parsed) >= _REMEMBERED:
                parsed.clear()
            condition = stock_parse(self)
            parsed[written] = (
                condition,
                list(self.expr_attr_names_found),
                list(self.expr_attr_values_found),
            )
        condition, names, values = parsed[written]
        # The caller goes on to extend what it finds here.
        self.expr_attr_names_found, self.expr_attr_values_found = list(names), list(values)
        return condition

    ConditionExpressionParser.parse = parse
    Item.__init__ = make
    JSONSerializer._serialize_type_structure = serialize_structure
