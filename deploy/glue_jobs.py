"""The Glue job that curates: its script and archive in the artifacts bucket, its settings on Glue.

A script or an archive is put under a name that holds a hash of its content and is never written
again, so a job run in flight keeps what it was started with, and what has not changed is not
uploaded. The job asks for the very versions of its libraries that this process runs with: one
kernel, on every engine.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from deploy.distributions import DECIDING, JUDGING, REPORTING
from deploy.packaging import build_glue_archive
from service_core.settings import Settings

#: Glue 5.1 is Spark 3.5.6 on Python 3.11.
GLUE_VERSION = "5.1"
PYTHON_VERSION = "3"

#: What Glue installs before the script runs: it has boto3 and Spark, and of these none or another
#: version.
MODULES = tuple(sorted({*DECIDING, *JUDGING, *REPORTING}))

_SCRIPT = Path(__file__).resolve().parents[1] / "glue_scripts" / "curate.py"
_PREFIX = "glue/"
_CHANGE_SECONDS = 30.0


class GlueJobError(Exception):
    """The Glue job cannot be had."""


def ensure_glue_job(
    settings: Settings, glue: Any, s3: Any, *, script: Path = _SCRIPT
) -> Mapping[str, Any]:
    """Upload what the job runs, and create the job, or update the one that stands and differs.

    Job runs that are in flight go on with what they were started with.

    Args:
        settings: Names and size of the job; its artifacts bucket must be there.
        glue: A boto3 Glue client.
        s3: A boto3 S3 client.
        script: The job's script.

    Returns:
        The definition, as CreateJob takes it.

    Raises:
        GlueJobError: the script is missing, a library is not installed here, or somebody else
            keeps changing the job.
        PackagingError: the archive cannot be built.
    """
    definition = job_definition(
        settings, script_uri=_upload_script(settings, s3, script), archive_uri=_upload_archive(
            settings, s3)
    )  # fmt: skip
    name = definition["Name"]
    wanted = {key: value for key, value in definition.items() if key != "Name"}
    deadline = time.monotonic() + _CHANGE_SECONDS
    while True:
        standing = _standing(glue, name)
        if standing is not None and _holds(standing, wanted):
            return definition
        try:
            if standing is None:
                glue.create_job(**definition)
            else:
                glue.update_job(JobName=name, JobUpdate=wanted)
            return definition
        except ClientError as error:
            # Another process has created or is changing it, and perhaps to just this.
            if error.response["Error"]["Code"] not in _MEANWHILE or time.monotonic() > deadline:
                raise GlueJobError(
                    f"The Glue job {name} cannot be created or changed: "
                    f"{error.response['Error'].get('Message') or error}. Look at the permissions "
                    "of whoever bootstraps, and at the role that LAKEGATE_GLUE_ROLE names."
                ) from error
        time.sleep(0.5)


def job_definition(settings: Settings, *, script_uri: str, archive_uri: str) -> dict[str, Any]:
    """The job, as CreateJob takes it.

    Raises:
        GlueJobError: a library that it needs is not installed here, so its version is not known.
    """
    return {
        "Name": settings.glue_job,
        "Description": "Curates one batch of a data set: lakegate starts it with a request.",
        "Role": settings.glue_role or f"{settings.glue_job}-job",
        "Command": {
            "Name": "glueetl",
            "ScriptLocation": script_uri,
            "PythonVersion": PYTHON_VERSION,
        },
        "GlueVersion": GLUE_VERSION,
        "WorkerType": settings.glue_worker_type,
        "NumberOfWorkers": settings.glue_workers,
        "ExecutionClass": "STANDARD",
        "Timeout": settings.glue_timeout_minutes,
        # Whoever starts a run decides whether to try again: only they know whether it would help.
        "MaxRetries": 0,
        "ExecutionProperty": {"MaxConcurrentRuns": settings.glue_concurrent_runs},
        "DefaultArguments": {
            "--job-language": "python",
            "--extra-py-files": archive_uri,
            "--additional-python-modules": ",".join(pinned_modules()),
        },
    }


def pinned_modules() -> list[str]:
    """The libraries of the job with the versions that are installed here, such as `polars==2.1.0`.

    Raises:
        GlueJobError: one is not installed.
    """
    pinned = []
    for module in MODULES:
        name = module.partition("[")[0]
        try:
            pinned.append(f"{module}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            raise GlueJobError(
                f"The library {name} is not installed here, so the Glue job cannot be given the "
                f"same version of it. Install it: pip install {name}"
            ) from None
    return pinned


#: What Glue answers where somebody else was quicker.
_MEANWHILE = frozenset(
    {
        "AlreadyExistsException",
        "IdempotentParameterMismatchException",
        "ConcurrentModificationException",
        "EntityNotFoundException",
    }
)


def _upload_script(settings: Settings, s3: Any, script: Path) -> str:
    try:
        body = script.read_bytes()
    except OSError as problem:
        raise GlueJobError(
            f"The script of the Glue job, {script}, cannot be read: {problem.strerror}. It comes "
            "with the project; is the installation whole?"
        ) from problem
    name = f"{script.stem}-{hashlib.sha256(body).hexdigest()[:12]}{script.suffix}"
    return _put_once(settings, s3, name, body)


def _upload_archive(settings: Settings, s3: Any) -> str:
    with tempfile.TemporaryDirectory(prefix="lakegate-archive-") as folder:
        package = build_glue_archive(Path(folder))
        return _put_once(settings, s3, package.name, package.path.read_bytes())


def _put_once(settings: Settings, s3: Any, name: str, body: bytes) -> str:
    """Put an object unless it is there; its name says what it holds."""
    bucket, key = settings.artifacts_bucket, f"{_PREFIX}{name}"
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"404", "NoSuchKey"}:
            raise
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    return f"s3://{bucket}/{key}"


def _standing(glue: Any, name: str) -> dict[str, Any] | None:
    try:
        job: dict[str, Any] = glue.get_job(JobName=name)["Job"]
    except glue.exceptions.EntityNotFoundException:
        return None
    return job


def _holds(standing: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a job is as wanted. An ARN of a role is as good as its name, and Glue adds to a
    command what was left open."""
    for key, value in wanted.items():
        stands = standing.get(key)
        if key == "Role":
            same = str(stands).rpartition("/")[2] == str(value).rpartition("/")[2]
        elif key == "Command":
            same = isinstance(stands, Mapping) and value.items() <= stands.items()
        else:
            # A service may leave out what is 0.
            same = (stands or None) == (value or None)
        if not same:
            return False
    return True
