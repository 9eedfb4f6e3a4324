"""What goes over the wire in one go is what botocore would have sent and read item by item."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3

from resources.dynamodb import Table
from service_core.settings import Settings


def test_items_of_every_kind_are_read_as_an_ordinary_client_reads_them(
    settings: Settings, aws: Callable[[str], Any]
) -> None:
    table = Table(aws("dynamodb"), settings.ledger_table)
    items = [
        {"pk": f"K{n}", "sk": "S", "text": 'ü"\n\\', "count": n, "yes": True, "bytes": b"\x00\xff"}
        for n in range(3)
    ]
    keys = [(item["pk"], item["sk"]) for item in items]
    table.settle(items, lambda item: (item["pk"], item["sk"]), lambda i, _: [i], writes_each=1)
    ordinary = boto3.session.Session().client("dynamodb", endpoint_url=settings.endpoint_url)
    read = table.read([*keys, ("K9", "S")])
    assert read == Table(ordinary, settings.ledger_table).read(keys)
    assert list(read.values()) == items


def test_a_transaction_carries_the_token_that_makes_its_repetition_harmless(
    settings: Settings, aws: Callable[[str], Any]
) -> None:
    client, sent = aws("dynamodb"), []
    client.meta.events.register(
        "before-send.dynamodb", lambda request, **_: sent.append(json.loads(request.body))
    )
    put = {"TableName": settings.ledger_table, "Item": {"pk": {"S": "K"}, "sk": {"S": "S"}}}
    asked = {"TransactItems": [{"Put": put}]}
    client.transact_write_items(**asked)
    client.transact_write_items(**asked)
    assert asked == {"TransactItems": [{"Put": put}]}
    assert [one["TransactItems"] for one in sent] == [asked["TransactItems"]] * 2
    assert len({one["ClientRequestToken"] for one in sent}) == 2


def test_a_refused_transaction_says_why(settings: Settings, aws: Callable[[str], Any]) -> None:
    client = aws("dynamodb")
    put = {
        "TableName": settings.ledger_table,
        "Item": {"pk": {"S": "K"}, "sk": {"S": "S"}},
        "ConditionExpression": "attribute_exists(pk)",
    }
    try:
        client.transact_write_items(TransactItems=[{"Put": put}])
    except client.exceptions.TransactionCanceledException as error:
        assert error.response["CancellationReasons"][0]["Code"] == "ConditionalCheckFailed"
    else:
        raise AssertionError("the condition does not hold")
