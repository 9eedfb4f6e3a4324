"""One attempt at a job's script: fetched, started as a process, watched to its end.

The process has the arguments, the Python path and the Spark that it would have on Glue, and of the
server's environment nothing that it would not. It cannot outlive the server (`guardian.py`).
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from botocore.exceptions import ClientError
from packaging.requirements import InvalidRequirement, Requirement

from deploy.local import loopback
from deploy.local.glue_arguments import Launch
from deploy.local.guarded import start_guarded
from deploy.local.job_error import failure
from deploy.local.job_log import ERROR, OUTPUT, JobLog
from deploy.local.spark_home import write_spark_configuration

#: From SIGTERM to SIGKILL.
_GRACE_SECONDS = 2.0
_LOG_SECONDS = 5.0
#: A script on Glue does not see how this machine is set up.
_KEPT_OUT = ("AWS_", "DAGSTER_", "JAVA_HOME", "LAKEGATE_", "MOTO_", "PYSPARK_", "PYTEST_", "SPARK_")
#: What Spark says when its Java, and its s3:// paths, are not there.
_JAVA_FAILED, _S3_FAILED = "JAVA_GATEWAY_EXITED", "S3AFileSystem not found"


class LaunchError(Exception):
    """The script cannot be started; the message is the job run's."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: `error` is None where it succeeded."""

    error: str | None
    timed_out: bool = False


class JobProcess:
    """A script being fetched, running, or ended. `stop` may be called from any thread, any time."""

    def __init__(self, script: str, launch: Launch, *, run_id: str, region: str) -> None:
        self._script, self._launch, self._region = script, launch, region
        self._output = JobLog(OUTPUT, run_id, region)
        self._errors = JobLog(ERROR, run_id, region)
        self._missing: tuple[str, ...] = ()
        self._guardian: subprocess.Popen[bytes] | None = None
        self._status = -1
        self._followers: tuple[threading.Thread, ...] = ()
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Fetch the script and what it imports, and start it.

        Raises:
            LaunchError: something cannot be fetched.
        """
        directory = Path(tempfile.mkdtemp(prefix="glue-run-"))
        try:
            command, environment = self._prepare(directory)
            self._launch_guardian(command, environment, directory)
        except BaseException:
            # From here on the guardian would do it.
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def wait(self, seconds: float) -> Ended:
        """Wait for the end of the process; end it when the time is over."""
        deadline = time.monotonic() + seconds
        returncode, timed_out = self._returncode(deadline), False
        if returncode is None:
            timed_out = True
            self.stop()
            returncode = self._returncode(None)
        assert self._guardian is not None
        self._guardian.wait()
        os.close(self._status)
        for follower in self._followers:
            follower.join(_LOG_SECONDS)
        for pipe in (self._guardian.stdout, self._guardian.stderr):
            assert pipe is not None
            pipe.close()
        self.stop()
        return Ended(None if returncode == 0 else self._error(returncode), timed_out)

    def stop(self) -> None:
        """End the process and everything that it started."""
        with self._lock:
            self._stopped = True
            if self._guardian is not None and self._guardian.stdin is not None:
                with suppress(BrokenPipeError):
                    self._guardian.stdin.close()

    def _prepare(self, directory: Path) -> tuple[list[str], dict[str, str]]:
        script = directory / (self._script.rpartition("/")[2] or "script.py")
        script.write_bytes(self._fetch(self._script))
        on_path: list[str] = []
        for number, uri in enumerate(self._launch.python_files):
            # A module keeps its name, and two of one name may come from two places.
            place = directory / "python" / str(number) / uri.rpartition("/")[2]
            place.parent.mkdir(parents=True)
            place.write_bytes(self._fetch(uri))
            on_path.append(str(place if place.suffix in {".zip", ".egg", ".whl"} else place.parent))
        spark, self._missing = write_spark_configuration(
            directory, endpoint=loopback.s3_endpoint(), asked=self._launch.spark_conf
        )
        self._errors.write(self._remarks())
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(_KEPT_OUT)
        }
        inherited = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
        python_path = [*on_path, *map(os.path.abspath, inherited)]
        environment |= {
            **loopback.environment(self._region),
            **spark,
            "PYTHONPATH": os.pathsep.join(python_path),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(directory),
            "TZ": "UTC",
        }
        return [sys.executable, str(script), *self._launch.script], environment

    def _launch_guardian(
        self, command: list[str], environment: dict[str, str], directory: Path
    ) -> None:
        status, status_end = os.pipe()
        with self._lock:
            self._status = status
            self._guardian = start_guarded(
                command,
                directory=directory,
                remove=True,
                grace_seconds=_GRACE_SECONDS,
                status=status_end,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            stopped = self._stopped
        os.close(status_end)
        assert self._guardian.stdout is not None and self._guardian.stderr is not None
        self._followers = (
            self._output.follow(self._guardian.stdout.fileno()),
            self._errors.follow(self._guardian.stderr.fileno()),
        )
        if stopped:
            self.stop()

    def _returncode(self, deadline: float | None) -> int | None:
        """The process's, None when the deadline comes first."""
        said = b""
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._status], [], [], left)[0]:
                return None
            data = os.read(self._status, 4096)
            said += data
            for line in said.splitlines(keepends=True):
                if line.endswith(b"\n") and "returncode" in (message := json.loads(line)):
                    return int(message["returncode"])
            if not data:
                # The guardian itself was killed, and its command with it.
                return -9

    def _fetch(self, uri: str) -> bytes:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        try:
            answer = loopback.client("s3", self._region).get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            raise LaunchError(
                f"Error downloading from S3 for bucket: {bucket}, key: {key}: "
                f"{error.response['Error']['Message']}"
            ) from error
        return bytes(answer["Body"].read())

    def _remarks(self) -> list[str]:
        """What differs from Glue, for whoever reads the log."""
        remarks = [f"{name} has no effect on this machine." for name in self._launch.missed]
        for wanted in self._launch.modules:
            fault = _fault_with(wanted)
            if fault:
                remarks.append(f"--additional-python-modules: {fault}")
        return [f"[embedded glue] {remark}" for remark in remarks]

    def _error(self, returncode: int) -> str:
        errors, output = list(self._errors.tail), list(self._output.tail)
        everything = "\n".join([*errors, *output])
        for symptom in (_JAVA_FAILED, _S3_FAILED):
            for sentence in self._missing:
                about = "Java" if symptom is _JAVA_FAILED else "s3://"
                if symptom in everything and about in sentence:
                    return sentence
        said = [line for line in errors if not line.startswith("[embedded glue]")]
        return failure(said, output, returncode)


def _fault_with(wanted: str) -> str | None:
    """Why a requirement is not met by what is installed; None where it is."""
    try:
        requirement = Requirement(wanted)
    except InvalidRequirement:
        return f"{wanted} is not installed for a run on this machine."
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{wanted} is not installed on this machine; install it with pip."
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{wanted} is wanted, and {version} is installed on this machine."
    return None
