"""What a job run prints is in CloudWatch Logs while it runs, where Glue puts it.

Standard output goes to `/aws-glue/jobs/output`, standard error to `/aws-glue/jobs/error`, each to a
stream named by the run's id.
"""

from __future__ import annotations

import codecs
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

from botocore.exceptions import BotoCoreError, ClientError

from deploy.local import loopback

GROUP = "/aws-glue/jobs"
OUTPUT, ERROR = f"{GROUP}/output", f"{GROUP}/error"

_READ_BYTES = 64 * 1024
#: PutLogEvents takes 10,000 events and 1 MiB, counting 26 bytes for each event.
_EVENTS = 5_000
#: An event takes 256 KB, and a character at most four bytes.
_LINE_CHARACTERS = 60_000
_TAIL_LINES = 400


class JobLog:
    """One stream of a job run.

    Attributes:
        tail: The last lines of it.
    """

    def __init__(self, group: str, stream: str, region: str) -> None:
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._group, self._stream, self._region = group, stream, region
        self._open()

    def write(self, lines: Iterable[str]) -> None:
        """Append lines, each as an event of its own; CloudWatch takes no empty ones."""
        pieces = [
            line[start : start + _LINE_CHARACTERS]
            for line in lines
            for start in range(0, len(line), _LINE_CHARACTERS)
        ]
        self.tail.extend(pieces)
        for start in range(0, len(pieces), _EVENTS):
            self._put(pieces[start : start + _EVENTS])

    def follow(self, descriptor: int) -> threading.Thread:
        """Write what arrives on a pipe, in a thread of its own, until the pipe closes."""
        thread = threading.Thread(target=self._pump, args=(descriptor,), daemon=True)
        thread.start()
        return thread

    def _pump(self, descriptor: int) -> None:
        for lines in _chunks_of_lines(descriptor):
            self.write(lines)

    def _open(self) -> None:
        logs = loopback.client("logs", self._region)
        with suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=self._group)
        with suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_stream(logGroupName=self._group, logStreamName=self._stream)

    def _put(self, lines: list[str]) -> None:
        now = int(time.time() * 1000)
        entries = [{"timestamp": now, "message": line} for line in lines]
        logs = loopback.client("logs", self._region)
        # The run goes on without its log where somebody deletes the group under it.
        with suppress(BotoCoreError, ClientError):
            logs.put_log_events(
                logGroupName=self._group, logStreamName=self._stream, logEvents=entries
            )


def _chunks_of_lines(descriptor: int) -> Iterator[list[str]]:
    """What arrives on a pipe, as whole lines without their ends; as many at a time as are there."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest = ""
    while data := os.read(descriptor, _READ_BYTES):
        *lines, rest = (rest + decoder.decode(data)).split("\n")
        if len(rest) > _LINE_CHARACTERS:
            lines, rest = [*lines, rest], ""
        yield [line.rstrip("\r") for line in lines]
    yield [(rest + decoder.decode(b"", final=True)).rstrip("\r")]
