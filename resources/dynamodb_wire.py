"""DynamoDB's requests and answers of many items, as the JSON that they are.

What a caller hands to boto3 is that JSON already, but for its spelling. botocore walks it value by
value along the service's model on the way out and on the way in, which for a thousand files took
as long as all else that was done about them. Signing, retries, the token that makes a repeated
transaction harmless, and every error stay botocore's.
"""

from __future__ import annotations

from typing import Any

_BODY = "lakegate_body"
_READS = "BatchGetItem"
_OPERATIONS = frozenset({_READS, "TransactWriteItems"})


def send_as_json(client: Any) -> None:
    """Have a boto3 DynamoDB client encode `transact_write_items` and `batch_get_item`, and decode
    the items of the latter, in one go. A binary value of an item read comes back as its base64."""
    events = client.meta.events
    # Under this name, and last: so it comes after botocore has added a transaction's token, which
    # it would not if it were registered for the operations alone.
    events.register_last("before-parameter-build", _encode)
    events.register("before-call", _hand_over)
    events.register(f"before-parse.dynamodb.{_READS}", _decode)


def _encode(params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
    import msgspec

    if model.name not in _OPERATIONS:
        return
    context[_BODY] = msgspec.json.encode(params)
    for name, value in params.items():
        # What is left would be walked. Only whoever looks for ARNs in it, instead of the table's
        # name, would miss anything.
        params[name] = type(value)()


def _hand_over(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    if (body := context.pop(_BODY, None)) is not None:
        params["body"] = body


def _decode(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    import msgspec

    if response_dict["status_code"] >= 300:
        return
    try:
        answer = msgspec.json.decode(response_dict["body"])
    except msgspec.DecodeError:
        # Half an answer: see `resources.outages.name_the_service`.
        return
    customized_response_dict.update(answer)
    response_dict["body"] = b"{}"
