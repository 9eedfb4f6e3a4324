"""A Step Functions state machine and its executions, as the service tells of them.

An execution is found again by its name, which is made of the work that it is for and of nothing
that differs between two who ask for the same. So a second start finds the first, and nothing has
to be remembered anywhere else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from resources.remote_run import RemoteWork, error_code

#: Step Functions' limit. Names with anything but these characters are not logged to CloudWatch.
_NAME_CHARACTERS = 80
_ODD = re.compile(r"[^0-9A-Za-z-]")
_SUFFIX_CHARACTERS = 4
_DIGEST_CHARACTERS = 16

_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution at one moment. DescribeExecution lags behind by moments.

    Attributes:
        arn: Its ARN.
        name: Its name.
        status: `RUNNING`, `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `ABORTED` or `PENDING_REDRIVE`.
        started: When it was started.
        redriven: When it was redriven last; None for never.
        stopped: When it ended; None while it runs.
        input: What it was started with; empty where that is no JSON object.
        redrives: How often it was redriven.
        redrivable: Whether Step Functions would redrive it.
    """

    arn: str
    name: str
    status: str
    started: datetime
    redriven: datetime | None
    stopped: datetime | None
    input: Mapping[str, Any]
    redrives: int
    redrivable: bool

    @property
    def closed(self) -> bool:
        return self.status in {"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}

    @property
    def seconds(self) -> float:
        """From its start to its end, or until now."""
        return max(0.0, ((self.stopped or datetime.now(UTC)) - self.started).total_seconds())

    @property
    def going_for(self) -> float:
        """Seconds since its start or its last redrive, from which its timeout counts."""
        return max(0.0, (datetime.now(UTC) - (self.redriven or self.started)).total_seconds())

    def url(self) -> str:
        """Its page in the AWS console."""
        _, partition, _, region, *_ = self.arn.split(":")
        console = {
            "aws-cn": "console.amazonaws.cn",
            "aws-us-gov": "console.amazonaws-us-gov.com",
        }.get(partition, "console.aws.amazon.com")
        return (
            f"https://{region}.{console}/states/home?region={region}"
            f"#/v2/executions/details/{self.arn}"
        )


class StateMachine:
    """One state machine.

    Args:
        name: Its name.
        stepfunctions: A boto3 Step Functions client.
        sts: A boto3 STS client, which knows the account.
        region: Where it is.
    """

    def __init__(self, name: str, stepfunctions: Any, sts: Any, region: str) -> None:
        self.name = name
        self._sfn = stepfunctions
        self._sts = sts
        self._region = region
        self._scope: str | None = None

    @property
    def arn(self) -> str:
        """Its ARN, in the account of the caller.

        Raises:
            ClientError: there are no credentials, among others.
        """
        return f"{self._arn_scope()}:stateMachine:{self.name}"

    def execution_arn(self, name: str) -> str:
        """The ARN of the execution of that name, whether or not there is one."""
        return f"{self._arn_scope()}:execution:{self.name}:{name}"

    def timeout_seconds(self) -> float | None:
        """After how long Step Functions ends an execution; None for never.

        Raises:
            ClientError: there is no such state machine, among others.
        """
        standing = self._sfn.describe_state_machine(stateMachineArn=self.arn)
        seconds = (_object(standing.get("definition")) or {}).get("TimeoutSeconds")
        return float(seconds) if seconds else None

    def start(self, name: str, asked: Mapping[str, Any]) -> Execution | None:
        """Start an execution, or find the one that runs under this name with this very input.

        Returns:
            None where the name is taken: by an execution that is closed, or that was started with
            another input.
        """
        try:
            answer = self._sfn.start_execution(
                stateMachineArn=self.arn, name=name, input=json.dumps(asked, sort_keys=True)
            )
        except ClientError as error:
            if error_code(error) == "ExecutionAlreadyExists":
                return None
            raise
        return Execution(
            arn=answer["executionArn"],
            name=name,
            status="RUNNING",
            started=_utc(answer["startDate"]),
            redriven=None,
            stopped=None,
            input=asked,
            redrives=0,
            redrivable=False,
        )

    def look(self, arn: str) -> Execution:
        """An execution as it stands."""
        answer = self._sfn.describe_execution(executionArn=arn)
        stopped, redriven = answer.get("stopDate"), answer.get("redriveDate")
        return Execution(
            arn=arn,
            name=answer["name"],
            status=answer["status"],
            started=_utc(answer["startDate"]),
            redriven=_utc(redriven) if redriven else None,
            stopped=_utc(stopped) if stopped else None,
            input=_object(answer.get("input")) or {},
            redrives=int(answer.get("redriveCount") or 0),
            redrivable=answer.get("redriveStatus") == "REDRIVABLE",
        )

    def redrive(self, execution: Execution) -> bool:
        """Let a closed execution go on from the state in which it ended.

        Two who ask for the same redrive at once get one.

        Returns:
            False where Step Functions will not.
        """
        try:
            self._sfn.redrive_execution(
                executionArn=execution.arn,
                clientToken=f"{execution.name}-redrive-{execution.redrives + 1}"[-64:],
            )
        except ClientError as error:
            if error_code(error) == "ExecutionNotRedrivable":
                return False
            raise
        return True

    def stop(self, arn: str, *, error: str, cause: str) -> None:
        """Ask for an execution to be stopped; nothing happens to one that is closed."""
        self._sfn.stop_execution(executionArn=arn, error=error, cause=cause)

    def pages(self, arn: str) -> HistoryPages:
        """The history of an execution, from its beginning."""
        return HistoryPages(self._sfn, arn)

    def _arn_scope(self) -> str:
        if self._scope is None:
            caller = str(self._sts.get_caller_identity()["Arn"]).split(":")
            self._scope = f"arn:{caller[1]}:states:{self._region}:{caller[4]}"
        return self._scope


class HistoryPages:
    """An execution's events, fetched page by page.

    Only the last page is fetched again, which the next events are appended to.
    """

    def __init__(self, stepfunctions: Any, arn: str) -> None:
        self._sfn = stepfunctions
        self._arn = arn
        self._last_page: str | None = None

    def newest(self) -> list[Mapping[str, Any]]:
        """The events of the page that was the last one, and of those that have come since."""
        events: list[Mapping[str, Any]] = []
        while True:
            asked = {"nextToken": self._last_page} if self._last_page else {}
            try:
                answer = self._sfn.get_execution_history(
                    executionArn=self._arn, maxResults=_PAGE, **asked
                )
            except ClientError as error:
                # A page's token expires after a day.
                if error_code(error) != "InvalidToken" or self._last_page is None:
                    raise
                self._last_page = None
                continue
            events += answer["events"]
            if not answer.get("nextToken"):
                return events
            self._last_page = answer["nextToken"]


def execution_name(work: RemoteWork, attempt: int = 1) -> str:
    """The name of the execution that does this work, at most 80 characters long.

    Args:
        work: What is to be done.
        attempt: Above 1 for an execution that stands in for one which is spent.
    """
    room = _NAME_CHARACTERS - _SUFFIX_CHARACTERS
    name = f"{work.dataset}-{work.batch_id}-{work.judgement}"
    readable = _ODD.sub("-", name)
    # No underscore stands before the suffix, so no name can be mistaken for another's next attempt.
    if readable != name or len(readable) > room:
        digest = hashlib.sha256(work.identity.encode()).hexdigest()[:_DIGEST_CHARACTERS]
        readable = f"{readable[: room - len(digest) - 1]}-{digest}"
    return readable if attempt == 1 else f"{readable}_{attempt}"


def _object(text: Any) -> Mapping[str, Any] | None:
    try:
        said = json.loads(text) if text else None
    except (TypeError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
