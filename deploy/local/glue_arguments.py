"""What Glue makes of a job run's arguments: some it acts on itself, the rest the script gets.

Glue hands a script `--name value` pairs in `sys.argv`, and adds the names of the job and of the
run. The arguments that steer the launch itself never reach the script.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Acted on here as on Glue.
_PYTHON_FILES = "--extra-py-files"
_MODULES = "--additional-python-modules"
_CONF = "--conf"
#: Steer Glue's launch, and mean nothing to a process on this machine.
_LAUNCH_ONLY = frozenset(
    {
        "--auto-scale-within-microbatch",
        "--class",
        "--customer-driver-env-vars",
        "--customer-executor-env-vars",
        "--datalake-formats",
        "--disable-proxy-v2",
        "--executor-cores",
        "--extra-files",
        "--extra-jars",
        "--job-language",
        "--python-modules-installer-option",
        "--scriptLocation",
        "--spark-event-logs-path",
        "--user-jars-first",
        "--use-postgres-driver",
        "--write-shuffle-files-to-s3",
        "--write-shuffle-spills-to-s3",
    }
)
_LAUNCH_PREFIXES = ("--enable-", "--continuous-log-")
#: What of these changes what a script sees, so that its absence is worth a line in the log.
_MISSED = frozenset(
    {
        "--class",
        "--customer-driver-env-vars",
        "--customer-executor-env-vars",
        "--datalake-formats",
        "--extra-files",
        "--extra-jars",
    }
)
_NEXT_CONF = re.compile(r"\s+--conf\s+")


@dataclass(frozen=True)
class Launch:
    """A job run's arguments, sorted by who acts on them.

    Attributes:
        script: What the script finds in `sys.argv` after its own name.
        python_files: S3 URIs that go on the Python path before everything else.
        modules: Requirements that Glue would install.
        spark_conf: Spark settings.
        missed: Arguments that Glue acts on and this machine does not.
    """

    script: tuple[str, ...]
    python_files: tuple[str, ...]
    modules: tuple[str, ...]
    spark_conf: Mapping[str, str]
    missed: tuple[str, ...]


def sort_arguments(
    arguments: Mapping[str, str], *, job_name: str, job_id: str, run_id: str
) -> Launch:
    """Sort merged arguments as Glue does.

    Args:
        arguments: The job's defaults under the run's own.
        job_name: The value of `--JOB_NAME`.
        job_id: The value of `--JOB_ID`.
        run_id: The value of `--JOB_RUN_ID`.
    """
    own = {"--JOB_ID": job_id, "--JOB_RUN_ID": run_id, "--JOB_NAME": job_name}
    for name, value in arguments.items():
        if name not in own and not _steers_launch(name):
            own[name] = value
    return Launch(
        script=tuple(part for pair in own.items() for part in pair),
        python_files=_listed(arguments.get(_PYTHON_FILES)),
        modules=_listed(arguments.get(_MODULES)),
        spark_conf=_settings(arguments.get(_CONF)),
        missed=tuple(sorted(_MISSED & arguments.keys())),
    )


def _steers_launch(name: str) -> bool:
    return (
        name in _LAUNCH_ONLY
        or name in {_PYTHON_FILES, _MODULES, _CONF}
        or name.startswith(_LAUNCH_PREFIXES)
    )


def _listed(value: str | None) -> tuple[str, ...]:
    # A comma inside brackets is part of a requirement: pandera[polars,pandas]
    parts = re.split(r",(?![^\[]*\])", value or "")
    return tuple(part.strip() for part in parts if part.strip())


def _settings(value: str | None) -> dict[str, str]:
    """`a=1 --conf b=2`, the one way to hand Glue several settings."""
    pairs = _NEXT_CONF.split((value or "").strip().removeprefix("--conf").strip())
    return {
        name.strip(): text.strip()
        for name, equals, text in (pair.partition("=") for pair in pairs)
        if equals
    }
