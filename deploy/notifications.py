"""Creates the way in by notifications: a queue, its dead-letter queue, and the raw bucket's orders
to tell of what is created in it, straight or by way of EventBridge.

Harmless to repeat. What others have had the bucket tell them stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from service_core.layout import Zone
from service_core.settings import NotificationRoute, Settings

#: How the bucket's notifications and the rule's target name what is ours.
ID = "lakegate-arrivals"
#: For how long a message is hidden that is in hand; a sensor's tick takes at most half of it.
VISIBILITY_SECONDS = 120
#: After so many receptions without a deletion a message goes to the dead-letter queue. Whoever
#: lets one wait writes it anew, so that only failures count.
MAX_RECEPTIONS = 5
#: The longest that SQS keeps messages.
_RETENTION_SECONDS = 14 * 24 * 3_600


class NotificationSetupError(Exception):
    """The notifications cannot be set up."""


def ensure_notifications(settings: Settings, client: Callable[[str], Any]) -> None:
    """Create everything that is not there yet, and nothing where notifications are off.

    Raises:
        NotificationSetupError: the bucket cannot be told to; the message says why.
    """
    if settings.notifications is NotificationRoute.OFF:
        return
    sqs, events = client("sqs"), client("events")
    dead_url, dead_arn = _queue(sqs, settings.dead_letter_queue)
    sqs.set_queue_attributes(
        QueueUrl=dead_url, Attributes={"MessageRetentionPeriod": str(_RETENTION_SECONDS)}
    )
    url, arn = _queue(sqs, settings.notifications_queue)
    _, partition, _, region, account, _ = arn.split(":", 5)
    bucket_arn = f"arn:{partition}:s3:::{settings.bucket(Zone.RAW)}"
    rule_arn = f"arn:{partition}:events:{region}:{account}:rule/{settings.notifications_queue}"
    straight = settings.notifications is NotificationRoute.SQS
    sqs.set_queue_attributes(
        QueueUrl=url,
        Attributes={
            "VisibilityTimeout": str(VISIBILITY_SECONDS),
            "MessageRetentionPeriod": str(_RETENTION_SECONDS),
            "RedrivePolicy": json.dumps(
                {"deadLetterTargetArn": dead_arn, "maxReceiveCount": MAX_RECEPTIONS}
            ),
            "Policy": json.dumps(
                _policy(arn, "s3.amazonaws.com", bucket_arn, account)
                if straight
                else _policy(arn, "events.amazonaws.com", rule_arn, account)
            ),
        },
    )
    if straight:
        _tell_the_bucket(settings, client("s3"), queue_arn=arn)
        _without_rule(settings, events)
    else:
        _rule(settings, events, arn)
        _tell_the_bucket(settings, client("s3"), queue_arn=None)


def _queue(sqs: Any, name: str) -> tuple[str, str]:
    """A queue's URL and ARN."""
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, attributes["Attributes"]["QueueArn"]


def _policy(queue_arn: str, service: str, source_arn: str, account: str) -> dict[str, Any]:
    """Only that bucket, or that rule, of this account may send."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": ID,
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn,
                "Condition": {
                    "ArnEquals": {"aws:SourceArn": source_arn},
                    "StringEquals": {"aws:SourceAccount": account},
                },
            }
        ],
    }


def _tell_the_bucket(settings: Settings, s3: Any, *, queue_arn: str | None) -> None:
    """Have the bucket tell the queue, or EventBridge where `queue_arn` is None."""
    bucket = settings.bucket(Zone.RAW)
    standing = s3.get_bucket_notification_configuration(Bucket=bucket)
    standing.pop("ResponseMetadata", None)
    wanted = dict(standing)
    queues = [q for q in standing.get("QueueConfigurations", ()) if q.get("Id") != ID]
    if queue_arn is None:
        wanted["EventBridgeConfiguration"] = {}
    else:
        ours = {"Id": ID, "QueueArn": queue_arn, "Events": ["s3:ObjectCreated:*"]}
        # EventBridge stays on: others may listen there, and it costs nothing where nobody does.
        queues = [*queues, ours]
    wanted.pop("QueueConfigurations", None)
    if queues:
        wanted["QueueConfigurations"] = queues
    if wanted == standing:
        return
    try:
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)
    except s3.exceptions.ClientError as error:
        raise NotificationSetupError(
            f"The bucket {bucket} cannot be told to send notifications: {error}. If it sends those "
            "of created objects elsewhere already, set LAKEGATE_NOTIFICATIONS=eventbridge, which "
            "can be heard by many."
        ) from error


def _rule(settings: Settings, events: Any, queue_arn: str) -> None:
    pattern = {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": [settings.bucket(Zone.RAW)]}},
    }
    name = settings.notifications_queue
    # S3 sends to the default bus alone.
    events.put_rule(Name=name, EventPattern=json.dumps(pattern), State="ENABLED")
    answer = events.put_targets(Rule=name, Targets=[{"Id": ID, "Arn": queue_arn}])
    if answer.get("FailedEntryCount"):
        raise NotificationSetupError(
            f"The rule {name} does not take the queue for its target: {answer['FailedEntries']}."
        )


def _without_rule(settings: Settings, events: Any) -> None:
    """A rule that is left from the other route would tell everything twice."""
    name = settings.notifications_queue
    with suppress(events.exceptions.ResourceNotFoundException):
        events.remove_targets(Rule=name, Ids=[ID])
        events.delete_rule(Name=name)
