"""Dagster Pipes over S3 for work that may outlive the step which asked for it.

The prefix of the messages comes from the identity of the work, not from the Dagster run: whoever
looks after the work next, in another try or another run, reads all that it has said from the first
message on, and reports it as its own. Reading changes nothing on S3; `clear` does, once the work
has ended.

Dagster's own reader (`PipesS3MessageReader` of dagster-aws 0.29) litters the bucket's root, reads
in a thread that it waits for up to two minutes, and stops at the first `closed`, so that a second
try of the same work goes unheard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from dagster import (
    AssetCheckKey,
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    MaterializeResult,
    PipesMessageHandler,
)
from dagster._core.pipes.client import PipesMessageReader
from dagster._core.pipes.context import build_external_execution_context_data
from dagster_pipes import (
    DAGSTER_PIPES_CONTEXT_CLI_ARGUMENT,
    DAGSTER_PIPES_MESSAGES_CLI_ARGUMENT,
    PIPES_PROTOCOL_VERSION_FIELD,
    PipesDefaultContextLoader,
    encode_param,
)

from resources.remote_run import Reported

#: DeleteObjects takes no more in one request.
_DELETED_AT_ONCE = 1_000

_Version = tuple[str, datetime]


class PipesMessages:
    """What work under one prefix says, reported to one Dagster step.

    Nothing runs in the background: `read` is called by whoever waits for the work, as often as
    it likes, and once more when the work has ended.

    Args:
        context: The step that is told.
        s3: A boto3 S3 client.
        bucket: The bucket of the messages.
        prefix: Their prefix, which nothing else writes to; `layout.pipes_prefix` gives it.
        extras: What the work finds in `PipesContext.extras`.
    """

    def __init__(
        self,
        context: AssetExecutionContext,
        s3: Any,
        *,
        bucket: str,
        prefix: str,
        extras: Mapping[str, Any] | None = None,
    ) -> None:
        self._context = context
        self._s3 = s3
        self._bucket = bucket
        self._prefix = prefix.rstrip("/")
        self._extras = dict(extras or {})
        self._handlers = [self._new_handler()]
        self._read: dict[int, _Version] = {}
        self.opened = False
        """Whether the work has begun to report."""
        self.closed = False
        """Whether it has said its last word."""
        self.exception: str | None = None
        """What it raised, as `Type: message`, where it closed with an exception."""

    @property
    def context_parameter(self) -> str:
        """The value of `--dagster-pipes-context`: which assets and which run are worked for."""
        # Of an asset's own context Dagster 1.13.27 reads deprecated properties here.
        data = build_external_execution_context_data(
            self._context.op_execution_context, self._extras
        )
        return encode_param({PipesDefaultContextLoader.DIRECT_KEY: data})

    @property
    def messages_parameter(self) -> str:
        """The value of `--dagster-pipes-messages`: where `PipesS3MessageWriter` writes."""
        return encode_param({"bucket": self._bucket, "key_prefix": self._prefix})

    @property
    def arguments(self) -> dict[str, str]:
        """Both, as arguments of a job that uses `PipesCliArgsParamsLoader`."""
        return {
            DAGSTER_PIPES_CONTEXT_CLI_ARGUMENT: self.context_parameter,
            DAGSTER_PIPES_MESSAGES_CLI_ARGUMENT: self.messages_parameter,
        }

    @property
    def reported(self) -> Reported:
        """What has been reported so far; of a thing reported twice, the last."""
        materializations: dict[AssetKey, Mapping[str, Any]] = {}
        checks: dict[AssetCheckKey, AssetCheckResult] = {}
        for handler in self._handlers:
            for result in handler.get_reported_results():
                if isinstance(result, MaterializeResult):
                    assert result.asset_key is not None
                    materializations[result.asset_key] = result.metadata or {}
                else:
                    assert result.asset_key is not None and result.check_name is not None
                    checks[AssetCheckKey(result.asset_key, result.check_name)] = result
        return Reported(materializations, tuple(checks.values()))

    def read(self) -> int:
        """Report what is new; returns how many messages that were.

        A message that Dagster does not understand is a warning in the run's log, never an error.
        """
        found = self._chunks()
        first = found.get(1)
        if first is None:
            return 0
        if self._read and self._read[1] != first:
            # The work was tried again, by a state machine's retry say, and began to speak anew.
            self._read.clear()
            self._handlers.append(self._new_handler())
            self.closed, self.exception = False, None
        messages = 0
        while (found_version := found.get(len(self._read) + 1)) is not None:
            if found_version[1] < first[1]:
                # What an earlier try left of its own, longer, sequence.
                break
            index = len(self._read) + 1
            body, version = self._chunk(index)
            self._read[index] = version
            for line in body.splitlines():
                messages += self._hand_on(line)
        return messages

    def clear(self) -> None:
        """Remove every message, read or not. Only for work that is not in flight."""
        keys = [
            found["Key"]
            for page in self._pages()
            for found in page.get("Contents", ())
        ]  # fmt: skip
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            self._s3.delete_objects(
                Bucket=self._bucket,
                Delete={
                    "Objects": [{"Key": key} for key in keys[start : start + _DELETED_AT_ONCE]],
                    "Quiet": True,
                },
            )

    def _pages(self) -> Any:
        return self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._prefix}/"
        )

    def _chunks(self) -> dict[int, _Version]:
        """Each chunk of messages by its number, and which writing of it that is."""
        chunks = {}
        for page in self._pages():
            for found in page.get("Contents", ()):
                number = found["Key"].removeprefix(f"{self._prefix}/").removesuffix(".json")
                if number.isdecimal():
                    chunks[int(number)] = _version(found)
        return chunks

    def _chunk(self, index: int) -> tuple[str, _Version]:
        answer = self._s3.get_object(Bucket=self._bucket, Key=f"{self._prefix}/{index}.json")
        body = answer["Body"].read().decode("utf-8", errors="replace")
        return body, _version(answer)

    def _hand_on(self, line: str) -> int:
        if not line.strip():
            return 0
        try:
            message = json.loads(line)
            if PIPES_PROTOCOL_VERSION_FIELD not in message:
                raise ValueError("it is no message of the Dagster Pipes protocol")
            self._note(message)
            self._handlers[-1].handle_message(message)
        except Exception as problem:  # noqa: BLE001 - another process's words, whatever they are
            self._context.log.warning(
                f"A message under s3://{self._bucket}/{self._prefix}/ cannot be reported "
                f"({type(problem).__name__}: {problem}) and is passed over: {line[:500]}"
            )
            return 0
        return 1

    def _note(self, message: Mapping[str, Any]) -> None:
        if message["method"] == "opened":
            self.opened = True
        elif message["method"] == "closed":
            self.closed = True
            raised = (message.get("params") or {}).get("exception")
            if raised:
                said = str(raised.get("message") or "").strip()
                name = str(raised.get("name") or "Exception")
                self.exception = said if said.startswith(name) else f"{name}: {said}"

    def _new_handler(self) -> PipesMessageHandler:
        return PipesMessageHandler(self._context, _NoReader())


def _version(answer: Mapping[str, Any]) -> _Version:
    # Some stores list milliseconds and answer a GET in whole seconds.
    return answer["ETag"], answer["LastModified"].replace(microsecond=0)


class _NoReader(PipesMessageReader):
    """What `PipesMessageHandler` asks for, and never uses where messages are handed to it."""

    #: The base class's own warns of being in preview.
    expected_writer_count = 1

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[dict[str, Any]]:
        yield {}

    def no_messages_debug_text(self) -> str:
        return ""
