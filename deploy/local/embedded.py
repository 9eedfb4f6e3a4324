"""The embedded AWS as a child process that never outlives whoever started it.

Killed with the signal that cannot be caught, a parent leaves no orphan behind: the child watches
for its parent and ends with it. This module imports nothing of moto, so starting the server costs
its user only a process.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO

_STOP_SECONDS = 5.0
_LOG_CHARACTERS = 2_000


class EmbeddedAwsError(Exception):
    """The embedded AWS did not start."""


class EmbeddedAws:
    """An AWS of one's own on loopback, for as long as the `with` block lasts.

    Everything in it is kept in memory and gone when it stops, unless it has a folder to keep
    objects, ledger and catalog in.

    Args:
        port: The port to listen on; 0 for any free one.
        region: The region that `environment` names.
        log: Where the server's own complaints go; None for a temporary file.
        ready_within: Seconds that it may take to start.
        glue_minute_seconds: How long a minute of a Glue job's `Timeout` lasts; a test need not
            wait for a real one.
        durable: The folder to keep things in; made where it is not there.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        region: str = "us-east-1",
        log: Path | None = None,
        ready_within: float = 60.0,
        glue_minute_seconds: float = 60.0,
        durable: Path | None = None,
    ) -> None:
        self._port = port
        self._region = region
        self._log_path = log
        self._ready_within = ready_within
        self._glue_minute_seconds = glue_minute_seconds
        self._durable = durable.resolve() if durable else None
        self._own_log: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._endpoint: str | None = None
        self._s3_endpoint = ""

    @property
    def endpoint(self) -> str:
        """Such as `http://127.0.0.1:5000`.

        Raises:
            EmbeddedAwsError: it is not running.
        """
        if self._endpoint is None:
            raise EmbeddedAwsError("The embedded AWS is not running; call start() first.")
        return self._endpoint

    @property
    def pid(self) -> int | None:
        """The server's process id, or None when it is not running."""
        return self._process.pid if self._process else None

    def environment(self) -> dict[str, str]:
        """The environment variables that point any AWS client at this server.

        The credentials are made up; the server looks at none. A variable that says nothing is
        there so that none of the caller's own shows through.
        """
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_S3": self._s3_endpoint,
            "AWS_ACCESS_KEY_ID": "embedded",
            "AWS_SECRET_ACCESS_KEY": "embedded",
            "AWS_SESSION_TOKEN": "",
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> EmbeddedAws:
        """Start the server and wait until it answers.

        Raises:
            EmbeddedAwsError: it ended, or did not answer in time; the message holds its log.
        """
        if self._process is not None:
            return self
        with self._open_log() as log:
            log_path, before = Path(log.name), log.tell()
            if self._log_path is None:
                self._own_log = log_path
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "deploy.local"),
                    *("--port", str(self._port), "--parent-pid", str(os.getpid())),
                    *("--glue-minute-seconds", str(self._glue_minute_seconds)),
                    *(("--durable", str(self._durable)) if self._durable else ()),
                ],
                cwd=Path(__file__).resolve().parents[2],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # A Ctrl-C at the terminal goes to the parent alone, which stops its own users of
                # this server first.
                start_new_session=True,
            )
        line = self._ready_line()
        if line is None:
            ended = self._exit_code()
            self.stop()
            why = (
                f"did not answer within {self._ready_within:g} s"
                if ended is None
                else f"ended with exit code {ended}"
            )
            said = log_path.read_bytes()[before:].decode(errors="replace")
            said = said[-_LOG_CHARACTERS:].strip()
            raise EmbeddedAwsError(
                f"The embedded AWS {why}. Its log, {log_path}, ends: {said or '(empty)'}"
            )
        said = json.loads(line)
        self._endpoint = str(said["endpoint"])
        self._s3_endpoint = str(said.get("s3_endpoint", ""))
        return self

    def stop(self) -> None:
        """Stop the server; does nothing where it is not running."""
        process, self._process = self._process, None
        was_ready, self._endpoint = self._endpoint is not None, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        # A server that never answered leaves its log for whoever reads the error.
        if was_ready and self._own_log is not None:
            self._own_log.unlink(missing_ok=True)
            self._own_log = None

    def __enter__(self) -> EmbeddedAws:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _exit_code(self) -> int | None:
        """None where the process still runs; one that has closed its output may be a moment
        from its end."""
        assert self._process is not None
        try:
            return self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return None

    def _open_log(self) -> IO[bytes]:
        if self._log_path is not None:
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            return self._log_path.open("ab")
        return tempfile.NamedTemporaryFile(prefix="embedded-aws-", suffix=".log", delete=False)

    def _ready_line(self) -> bytes | None:
        assert self._process is not None and self._process.stdout is not None
        deadline = time.monotonic() + self._ready_within
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                if selector.select(min(left, 1.0)):
                    # One short line in one write: it is either all there or the pipe has closed.
                    return self._process.stdout.readline() or None
        return None
