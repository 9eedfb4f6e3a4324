"""The status that the state machine keeps of a batch's curation, where it cannot keep it itself.

An execution that was stopped, or timed out as a whole, runs no further state: its status would say
RUNNING for ever. One that is redriven goes on behind the state that says so.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from resources.ledger_items import timestamp
from resources.remote_run import error_code
from service_core import ledger_table as keys


def move_status(
    dynamodb: Any,
    table: str,
    *,
    batch_id: str,
    execution: str,
    was: str,
    status: str,
    cause: str,
    at: datetime,
) -> bool:
    """Write how an execution stands, where that is still what stood before.

    Args:
        dynamodb: A boto3 DynamoDB client.
        table: The ledger table.
        batch_id: The batch.
        execution: The execution's ARN.
        was: The status that is expected to stand.
        status: `RUNNING`, `ABORTED` or `TIMED_OUT`.
        cause: Why, as a sentence.
        at: When.

    Returns:
        False where the status is another execution's by now, or another than expected.
    """
    try:
        dynamodb.update_item(
            TableName=table,
            Key={keys.PK: {"S": keys.batch_pk(batch_id)}, keys.SK: {"S": keys.CURATION}},
            UpdateExpression=("SET #status = :status, cause = :cause, updated_at = :now"),
            ConditionExpression="execution_arn = :execution AND #status = :was",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={
                ":status": {"S": status},
                ":was": {"S": was},
                ":execution": {"S": execution},
                ":cause": {"S": cause},
                ":now": {"S": timestamp(at)},
            },
        )
    except ClientError as error:
        if error_code(error) == "ConditionalCheckFailedException":
            return False
        raise
    return True
