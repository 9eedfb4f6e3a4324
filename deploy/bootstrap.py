"""Creates what the platform stands on: buckets, ledger table, event bus, topic, Glue database, the
queue of notifications where they are on, and what remote engines run: the Glue job and the state
machine.

Harmless to repeat, and to run in several processes at once: what is there already stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from deploy.glue_jobs import GlueJobError, ensure_glue_job
from deploy.notifications import NotificationSetupError, ensure_notifications
from deploy.packaging import PackagingError
from deploy.state_machines import StateMachineError, ensure_state_machine
from service_core.layout import Zone
from service_core.ledger_table import table_definition
from service_core.settings import Settings

_TABLE_SECONDS = 120.0


class BootstrapError(Exception):
    """Something that the platform stands on cannot be had."""


def bootstrap(settings: Settings, client: Callable[[str], Any]) -> None:
    """Create everything that is not there yet.

    Args:
        settings: The names of everything.
        client: Gives the boto3 client of a service, as `resources.aws.clients` does.

    Raises:
        BootstrapError: a name belongs to another account, the table does not become active, or
            the notifications, the Glue job or the state machine cannot be had.
    """
    _buckets(settings, client("s3"))
    _ledger_table(settings, client("dynamodb"))
    _event_bus(settings, client("events"))
    client("sns").create_topic(Name=settings.alerts_topic)
    _database(settings, client("glue"))
    try:
        ensure_notifications(settings, client)
        ensure_glue_job(settings, client("glue"), client("s3"))
        ensure_state_machine(settings, client("stepfunctions"), client("sts"))
    except (GlueJobError, NotificationSetupError, PackagingError, StateMachineError) as problem:
        raise BootstrapError(str(problem)) from problem


def _buckets(settings: Settings, s3: Any) -> None:
    # The one region that may not be named is the default one.
    placed = (
        {}
        if settings.region == "us-east-1"
        else {"CreateBucketConfiguration": {"LocationConstraint": settings.region}}
    )
    for bucket in (*map(settings.bucket, Zone), settings.artifacts_bucket):
        try:
            s3.create_bucket(Bucket=bucket, **placed)
        except s3.exceptions.BucketAlreadyOwnedByYou:
            pass
        except s3.exceptions.BucketAlreadyExists:
            raise BootstrapError(
                f"The bucket {bucket} belongs to another account. Bucket names are global: set "
                "LAKEGATE_NAME_PREFIX to a name of your own."
            ) from None
    s3.put_bucket_versioning(
        Bucket=settings.bucket(Zone.RAW), VersioningConfiguration={"Status": "Enabled"}
    )


def _ledger_table(settings: Settings, dynamodb: Any) -> None:
    with suppress(dynamodb.exceptions.ResourceInUseException):
        dynamodb.create_table(**table_definition(settings.ledger_table))
    deadline = time.monotonic() + _TABLE_SECONDS
    while True:
        table = dynamodb.describe_table(TableName=settings.ledger_table)["Table"]
        if table["TableStatus"] in {"ACTIVE", "UPDATING"}:
            return
        if time.monotonic() > deadline:
            raise BootstrapError(
                f"The table {settings.ledger_table} is {table['TableStatus']} after "
                f"{_TABLE_SECONDS:g} s, not ACTIVE. Look at it in the DynamoDB console."
            )
        time.sleep(0.5)


def _event_bus(settings: Settings, events: Any) -> None:
    with suppress(events.exceptions.ResourceAlreadyExistsException):
        events.create_event_bus(Name=settings.event_bus)


def _database(settings: Settings, glue: Any) -> None:
    with suppress(glue.exceptions.AlreadyExistsException):
        glue.create_database(DatabaseInput={"Name": settings.database})
