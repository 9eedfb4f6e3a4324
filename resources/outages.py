"""Outages: what a failing service, a full disk or too little memory is called in one sentence, and
for how long a step waits for it to pass.

A person who sees a failed step, tick or command reads which service failed, what it was asked for
and what happens next; never a traceback. What is at fault here is never the data, so nothing that
is named here may quarantine anything, and everything is tried again.
"""

from __future__ import annotations

import errno
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: How often a step is tried again in an outage, and the longest wait before the first of those
#: tries and before any; each is twice as long as the one before. With the clients' own tries, a
#: step waits out about a quarter of an hour.
OUTAGE_RETRIES = 8
_FIRST_WAIT_SECONDS = 4.0
_LONGEST_WAIT_SECONDS = 240.0

_NAMES = {"EventBridge": "the event bus (EventBridge)", "Glue": "the catalog (AWS Glue)"}
_READING_ON = "docs/operations.md, 'When AWS throttles or fails', says more."

#: What happens next where Dagster sees to it.
TRIED_AGAIN = f"Nothing is lost, and it is tried again by itself. {_READING_ON}"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: Engines that write scratch files put the system's words into errors of their own.
_NO_ROOM_SAID = re.compile(r"No space left on device|Disk quota exceeded|File too large", re.I)
_NO_MEMORY_SAID = re.compile(r"out of memory|cannot allocate memory|memory allocation", re.I)
#: Arrow has no type for what S3 answers: `AWS Error SLOW_DOWN (HTTP status 503) during ...`.
_ARROW_S3 = re.compile(r"AWS Error (?P<code>[^:]+?) during (?P<operation>\w+) operation")
_PASSING_CODES = re.compile(
    r"Throttl|SlowDown|LimitExceeded|ThroughputExceeded|Timeout|TooManyRequests|InProgress"
    r"|ConcurrentModification|TransactionConflict|InternalE|InternalServ|ServiceUnavailable"
)


class ServiceFailedError(Exception):
    """A service, or the machine, did not do what was asked of it; the message is a sentence."""


def sentence_of(error: BaseException, then: str = TRIED_AGAIN) -> str | None:
    """What failed, in a sentence; None where the error is neither a service's nor the machine's.

    Args:
        then: What happens next, in a sentence.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )

    if isinstance(error, ServiceFailedError):
        return str(error)
    if isinstance(error, Boto3Error):
        # boto3's transfers put the client's error into words of their own.
        inner = error.__cause__ or error.__context__
        return None if inner is None else sentence_of(inner, then)
    if isinstance(error, ClientError):
        return _of_an_answer(error, then)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return (
            f"AWS was not asked: {_text(error)} Give this machine a role, a profile or keys, as "
            "boto3 knows them."
        )
    if isinstance(error, BotoCoreError):
        if (call := getattr(error, "lakegate_call", None)) is None:
            # Only objects are read after the call that asked for them has come back.
            return f"S3 broke off in the middle of an object: {_text(error)} {then}"
        return f"{_named(call[0])} did not answer {call[1]}: {_text(error)} {then}"
    said = str(error)
    if isinstance(error, OSError) and (answer := _ARROW_S3.search(said)):
        return f"S3 failed {answer['operation']}: {answer['code'].strip()}. {then}"
    if (isinstance(error, OSError) and error.errno in _NO_ROOM) or _NO_ROOM_SAID.search(said):
        return (
            f"There is no room for the files in hand: {_text(error)} Make room on the file system "
            f"of LAKEGATE_SCRATCH, or point it elsewhere. {then}"
        )
    if isinstance(error, MemoryError) or _is_memory(error, said):
        return (
            f"There is not enough memory for this step ({_text(error)}) Give its process more, let "
            "fewer runs at a time (concurrency.runs in dagster.yaml), or have smaller batches "
            f"(maxBatchBytes in the contract). {then}"
        )
    return None


@contextmanager
def in_a_sentence(then: str = TRIED_AGAIN) -> Iterator[None]:
    """Say in a sentence what fails of services and of the machine.

    Args:
        then: What happens next, in a sentence.

    Raises:
        ServiceFailedError: it did; caused by the error itself.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ServiceFailedError) or (said := sentence_of(error, then)) is None:
            raise
        raise ServiceFailedError(said) from error


def outage_wait(attempt: int) -> float:
    """Seconds before the n-th repetition (from 1) of a step: twice as many each time, and jittered,
    so that many runs do not come back at once."""
    longest = min(_FIRST_WAIT_SECONDS * 2 ** (attempt - 1), _LONGEST_WAIT_SECONDS)
    return random.uniform(longest / 2, longest)


def name_the_service(client: Any) -> None:
    """Have the errors of a boto3 client know the service and the call, which botocore's do not, and
    take half an answer for none.

    Where the connection ends in the middle of a JSON answer, botocore may give what it made of the
    half for the whole: a table without items, for instance (1.44.5, seen with DynamoDB).
    """

    def answered(model: Any, parsed: dict[str, Any], http_response: Any, **_: Any) -> None:
        parsed.setdefault("ResponseMetadata", {})["Service"] = service
        if model.has_streaming_output or model.http.get("method") == "HEAD":
            return
        said = http_response.headers.get("content-length")
        if said is not None and len(http_response.content) < int(said):
            broken = ConnectionClosedError(endpoint_url=http_response.url)
            broken.lakegate_call = (service, model.name)
            raise broken

    def unanswered(exception: Any, event_name: str, **_: Any) -> None:
        # after-call-error.s3.PutObject
        exception.lakegate_call = (service, event_name.split(".")[-1])

    from botocore.exceptions import ConnectionClosedError

    service = str(client.meta.service_model.service_id)
    client.meta.events.register("after-call", answered)
    client.meta.events.register("after-call-error", unanswered)


def _of_an_answer(error: Any, then: str) -> str:
    about = error.response.get("ResponseMetadata", {})
    told = error.response.get("Error", {})
    code, status = str(told.get("Code", "")), int(about.get("HTTPStatusCode", 0))
    service = _named(str(about.get("Service", "AWS")))
    tries = int(about.get("RetryAttempts", 0)) + 1
    message = str(told.get("Message") or "").strip().rstrip(".")
    answer = f"{code}{f' ({message})' if message else ''}"
    if status >= 500 or status == 429 or _PASSING_CODES.search(code):
        often = f"{tries} times " if tries > 1 else ""
        return f"{service} failed {error.operation_name} {often}with {answer}. {then}"
    return (
        f"{service} refused {error.operation_name} with {answer}. Does the environment name the "
        "right account, region and prefix, has `lakegate bootstrap` run there, and does the role "
        f"have the right to it? {_READING_ON}"
    )


def _named(service: str) -> str:
    return _NAMES.get(service, service)


def _is_memory(error: BaseException, said: str) -> bool:
    # DuckDB's and Polars' own types, which are not to be loaded only to be compared with.
    module = type(error).__module__.split(".")[0].lstrip("_")
    return module in {"duckdb", "polars", "pyarrow"} and bool(_NO_MEMORY_SAID.search(said))


def _text(error: BaseException) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return said if said.endswith((".", "!", "?")) else f"{said}."
