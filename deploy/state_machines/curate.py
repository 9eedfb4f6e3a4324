"""The state machine that curates a batch: the same definition locally and in the cloud.

`curate.asl.json` names nothing of one account: every name in it is a `${...}` that is filled in
here from the settings, and from the places that own the key layout and the event names.

The role that it acts by has to trust states.amazonaws.com, and to be allowed, of the things that it
names: glue:StartJobRun, GetJobRun, GetJobRuns and BatchStopJobRun, dynamodb:UpdateItem, and
events:PutEvents.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from service_core import ledger_table as keys
from service_core.events import SOURCE, EventName
from service_core.settings import Settings

DEFINITION = Path(__file__).with_name("curate.asl.json")

_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
#: What waiting for workers and starting up may take beyond a job's Timeout, which counts execution
#: alone: the task gives up after the job run has, because it would leave that running.
_START_SECONDS = 1800
#: What waiting for a place among the job's concurrent runs may take, and all other states.
_QUEUE_SECONDS = 3600

_DELETION_SECONDS = 60.0


class StateMachineError(Exception):
    """The state machine cannot be had."""


def curate_definition(settings: Settings) -> dict[str, Any]:
    """The definition in the Amazon States Language (JSONPath), with every name filled in."""
    task_seconds = settings.glue_timeout_minutes * 60 + _START_SECONDS
    names: dict[str, str | int] = {
        "LedgerTable": settings.ledger_table,
        "PartitionKey": keys.PK,
        "SortKey": keys.SK,
        # The template of States.Format, which puts the batch id in.
        "CurationKey": keys.batch_pk("{}"),
        "CurationSort": keys.CURATION,
        "TaskSeconds": task_seconds,
        "MachineSeconds": task_seconds + _QUEUE_SECONDS,
        "GlueJob": settings.glue_job,
        "EventBus": settings.event_bus,
        "EventSource": SOURCE,
        "CurationSucceeded": EventName.CURATION_SUCCEEDED.value,
        "CurationFailed": EventName.CURATION_FAILED.value,
    }
    filled: dict[str, Any] = _filled(json.loads(DEFINITION.read_text("utf-8")), names)
    return filled


def ensure_state_machine(
    settings: Settings,
    stepfunctions: Any,
    sts: Any,
    *,
    definition: Mapping[str, Any] | None = None,
) -> str:
    """Create the state machine, or update the one that stands where it differs.

    An execution that runs goes on by the definition that it was started with.

    Args:
        settings: Its name and role.
        stepfunctions: A boto3 Step Functions client.
        sts: A boto3 STS client, which knows the account.
        definition: None for `curate_definition`.

    Returns:
        The state machine's ARN.

    Raises:
        StateMachineError: Step Functions refuses it, or is still deleting one of that name.
    """
    try:
        return _ensured(settings, stepfunctions, sts, definition or curate_definition(settings))
    except ClientError as error:
        raise StateMachineError(
            f"The state machine {settings.state_machine} cannot be created or changed: "
            f"{error.response['Error'].get('Message') or error}. Look at the permissions of "
            "whoever bootstraps, and at the role that LAKEGATE_STATE_MACHINE_ROLE names: "
            f"{settings.state_machine_role or 'by default one named as the state machine is'}."
        ) from error


def _ensured(
    settings: Settings, stepfunctions: Any, sts: Any, definition: Mapping[str, Any]
) -> str:
    caller = str(sts.get_caller_identity()["Arn"]).split(":")
    partition, account = caller[1], caller[4]
    arn = (
        f"arn:{partition}:states:{settings.region}:{account}:stateMachine:{settings.state_machine}"
    )
    role = settings.state_machine_role or (
        f"arn:{partition}:iam::{account}:role/{settings.state_machine}"
    )
    wanted = json.dumps(definition, sort_keys=True)
    deadline = time.monotonic() + _DELETION_SECONDS
    while True:
        standing = _standing(stepfunctions, arn)
        if standing is None:
            try:
                stepfunctions.create_state_machine(
                    name=settings.state_machine, definition=wanted, roleArn=role, type="STANDARD"
                )
                return arn
            except (
                # Another process has created it since, with a definition of its own release.
                stepfunctions.exceptions.StateMachineAlreadyExists,
                stepfunctions.exceptions.StateMachineDeleting,
            ):
                pass
        elif standing["status"] == "ACTIVE":
            same = json.loads(standing["definition"]) == json.loads(wanted)
            if not same or standing["roleArn"] != role:
                stepfunctions.update_state_machine(
                    stateMachineArn=arn, definition=wanted, roleArn=role
                )
            return arn
        if time.monotonic() > deadline:
            raise StateMachineError(
                f"The state machine {settings.state_machine} is still being deleted after "
                f"{_DELETION_SECONDS:g} s. It ends when its last execution does: wait, and run the "
                "bootstrap again."
            )
        time.sleep(1.0)


def _standing(stepfunctions: Any, arn: str) -> dict[str, Any] | None:
    try:
        standing: dict[str, Any] = stepfunctions.describe_state_machine(stateMachineArn=arn)
    except stepfunctions.exceptions.StateMachineDoesNotExist:
        return None
    return standing


def _filled(part: Any, names: Mapping[str, str | int]) -> Any:
    """A part of the definition with its placeholders filled in, those in keys too. What is nothing
    but a placeholder may become a number."""
    if isinstance(part, dict):
        return {_filled(key, names): _filled(value, names) for key, value in part.items()}
    if isinstance(part, list):
        return [_filled(value, names) for value in part]
    if isinstance(part, str):
        if whole := _PLACEHOLDER.fullmatch(part):
            return names[whole[1]]
        return _PLACEHOLDER.sub(lambda found: str(names[found[1]]), part)
    return part
