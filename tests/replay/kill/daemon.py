"""What Dagster's daemon and a person do to a lake, in a process that may be killed at any moment.

All that either of them remembers is on disk in the Dagster home: a real instance with its runs and
event logs, and `memory.json` with what a daemon keeps (cursors, run keys, runs to launch) and a
person knows (which step of the play is done). A process that starts on a home that another has left
goes on as they would: a run whose process died is failed, as run monitoring does, and launched
again as a re-execution, as run retries do; a sensor is ticked with the cursor of its last tick that
came to its end; a command that did not come to its end is given again.
"""

from __future__ import annotations

import importlib
import os
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
from dagster import DagsterRunStatus, ReexecutionOptions, RunsFilter

from dagster_project.cli import main as lakegate
from dagster_project.session import Session
from deploy.bootstrap import bootstrap
from resources.aws import clients
from service_core.contract import load_contracts
from service_core.layout import Zone
from service_core.naming import BACKFILL_TAG, DATASET_TAG
from service_core.settings import Settings
from tests.replay.kill.control import told
from tests.replay.kill.forking import Json, Say
from tests.replay.kill.memory import Memory
from tests.replay.kill.scenarios import DATASET

_TICKS = 30
_RUN_KEY = "dagster/run_key"
_RETRY_NUMBER = "dagster/retry_number"
_UNFINISHED = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
]

#: What is imported only when it is used, which would be once for each case.
_WARM = (
    "boto3.s3.transfer",
    "duckdb",
    "hypothesis",  # by pandera when it judges
    "pandera.polars",
    "polars",
    "pyarrow.parquet",
    "pyiceberg.catalog.glue",
    "pyiceberg.table",
    "resources.catalog",
    "resources.table_publishing",
    "resources.table_rollback",
    "service_core.curation.batch",
    "service_core.validation.batch",
)

_jobs: dict[tuple[str, str], dg.JobDefinition] = {}


def the_job(contracts: str, name: str) -> dg.JobDefinition:
    """A job under these contracts: what Dagster reconstructs to execute or re-execute one."""
    return _jobs[contracts, name]


class Paused(BaseException):
    """As many units of the play are done as were asked for."""


class Daemon:
    """Ticks, launches, fails and retries on one Dagster home.

    Args:
        home: With a `dagster.yaml`.
        settings: The lake's.
        memory: The home's.
        pace: Called after each unit: a tick that asked for runs, or a run.
        all_steps: Whether a run whose process died is executed again from its start, or from where
            it died.
    """

    def __init__(
        self,
        home: Path,
        settings: Settings,
        memory: Memory,
        pace: Callable[[], None],
        *,
        all_steps: bool,
    ) -> None:
        self._settings = settings
        self._pace = pace
        self._all_steps = all_steps
        self._instance = dg.DagsterInstance.from_config(str(home))
        self._session = Session(load_contracts(settings.contracts), settings, self._instance)
        self.memory = memory
        self._s3 = clients(settings)("s3")

    def go_on(self) -> None:
        """Fail and retry what a process that died was executing; launch what was yet to be."""
        for run in self._instance.get_runs(RunsFilter(statuses=_UNFINISHED)):
            self._instance.report_run_failed(run, "Its process died.")
            options = (
                ReexecutionOptions(run.run_id)
                if self._all_steps
                else ReexecutionOptions.from_failure(run.run_id, self._instance)
            )
            self._execute(run.job_name, {**run.tags, _RETRY_NUMBER: "1"}, options)
        self._launch_queued()

    def settle(self, sensors: list[str]) -> None:
        """Tick and launch until nothing more is asked for and no replay is open."""
        for _ in range(_TICKS):
            asked = 0
            for sensor in sensors:
                asked += self._tick(sensor)
            self._launch_queued()
            if not asked and not self._open_replays():
                return
        raise AssertionError(f"After {_TICKS} ticks there is still more to do.")

    def run_partition(self, backfill: str, partition: str) -> None:
        """The run of a backfill for one partition."""
        job = self._job(f"{DATASET}_ingest")
        tags = {
            **job.get_tags_for_partition_key(partition, None),
            BACKFILL_TAG: backfill,
            DATASET_TAG: DATASET,
        }
        self._launch_once(job.name, f"{backfill}/{partition}", tags)

    def run_job(self, name: str) -> None:
        """A scheduled run without partitions."""
        self._launch_once(name, f"{name}/scheduled", {})

    def _launch_once(self, job: str, key: str, tags: Mapping[str, str]) -> None:
        if not self._instance.get_runs(RunsFilter(tags={_RUN_KEY: key}), limit=1):
            self._execute(job, {**tags, _RUN_KEY: key})

    def _tick(self, name: str) -> int:
        memory = self.memory
        self._session._cursors[name] = memory["cursors"].get(name)
        requests = [
            request
            for request in self._session.tick_named(name).requests
            if request.run_key not in memory["keys"]
        ]
        queue = [
            {
                "job": request.job_name or f"{DATASET}_ingest",
                "partition": request.partition_key,
                "tags": {**request.tags, _RUN_KEY: request.run_key},
            }
            for request in requests
        ]
        # As the daemon: the runs are in the queue before the cursor is stored.
        memory.learn(
            queue=[*memory["queue"], *queue],
            keys=[*memory["keys"], *(request.run_key for request in requests)],
            cursors={**memory["cursors"], name: self._session._cursors[name]},
        )
        if requests:
            self._pace()
        return len(requests)

    def _launch_queued(self) -> None:
        while self.memory["queue"]:
            first, *rest = self.memory["queue"]
            tags = first["tags"]
            job = self._job(first["job"])
            if first["partition"]:
                tags = {**tags, **job.get_tags_for_partition_key(first["partition"], None)}
            self._launch_once(first["job"], tags[_RUN_KEY], tags)
            self.memory.learn(queue=rest)
            self._pace()

    def _execute(
        self, name: str, tags: Mapping[str, str], options: ReexecutionOptions | None = None
    ) -> None:
        self._job(name)
        job = dg.build_reconstructable_job(
            __name__, "the_job", reconstructable_args=(str(self._settings.contracts), name)
        )
        with dg.execute_job(job, self._instance, tags=dict(tags), reexecution_options=options):
            pass

    def _job(self, name: str) -> dg.JobDefinition:
        known = str(self._settings.contracts), name
        if known not in _jobs:
            _jobs[known] = self._session.definitions.resolve_job_def(name)
        return _jobs[known]

    def _open_replays(self) -> bool:
        found = self._s3.list_objects_v2(
            Bucket=self._settings.bucket(Zone.MANIFESTS), Prefix="_replays/open/"
        )
        return bool(found.get("Contents"))


def play(request: Json, say: Say) -> None:
    """Do the steps of a play that are not done yet; says `{"ended": ...}` if it lives that long.

    Args:
        request: `endpoint`, `home`, `scratch`, `steps`, `all_steps`; `units`, after how many ticks,
            runs and commands to end before the play does.
    """
    home = Path(request["home"])
    _quiet(home / "output.txt")
    os.chdir(home)  # commands look for a running platform from here
    try:
        _environment(request)
        told(request["endpoint"], "client", {"pid": os.getpid()})
        _steps(request, home)
    except Paused:
        say({"ended": False})
    except Exception as error:  # noqa: BLE001 - the boundary of the process
        said = f"{type(error).__name__}: {error}"
        say({"error": said, "trace": traceback.format_exc()})
    else:
        say({"ended": True})


def _steps(request: Json, home: Path) -> None:
    memory = Memory.of(home)
    units = request.get("units")
    left = iter(range(units - 1)) if units else None

    def pace() -> None:
        if left is not None and next(left, None) is None:
            raise Paused

    for number, step in enumerate(request["steps"]):
        if number < memory["done"]:
            continue
        os.environ["LAKEGATE_CONTRACTS"] = step.get("contracts", "")
        os.environ.update(step.get("environment", {}))
        settings = Settings.from_environment(os.environ)
        if step["do"] in _DAEMONS:
            daemon = Daemon(home, settings, memory, pace, all_steps=request["all_steps"])
            daemon.go_on()
            _DAEMONS[step["do"]](daemon, step)
        else:
            _PERSONS[step["do"]](settings, step, memory)
        memory.learn(done=number + 1)
        pace()


_DAEMONS: dict[str, Callable[[Daemon, Json], None]] = {
    "settle": lambda daemon, step: daemon.settle(step["sensors"]),
    "backfill": lambda daemon, step: daemon.run_partition(step["id"], step["partition"]),
    "job": lambda daemon, step: daemon.run_job(step["name"]),
}


def _bootstrap(settings: Settings, step: Json, memory: Memory) -> None:
    bootstrap(settings, clients(settings))


def _put(settings: Settings, step: Json, memory: Memory) -> None:
    clients(settings)("s3").put_object(
        Bucket=settings.bucket(Zone(step["zone"])), Key=step["key"], Body=step["text"].encode()
    )


def _command(settings: Settings, step: Json, memory: Memory) -> None:
    lakegate.main(args=step["args"], standalone_mode=False)


def _roll_back_batch_of(settings: Settings, step: Json, memory: Memory) -> None:
    """The person looks the batch of a file up, and then goes by its id."""
    known = memory["known"]
    if step["key"] not in known:
        pages = boto3.client("dynamodb", endpoint_url=settings.endpoint_url).get_paginator("scan")
        found = [
            item["batch_id"]["S"]
            for page in pages.paginate(TableName=settings.ledger_table)
            for item in page["Items"]
            if item["sk"]["S"] == "STATE" and item.get("key", {}).get("S") == step["key"]
        ]
        known = {**known, step["key"]: found[0]}
        memory.learn(known=known)
    args = ["rollback", "--dataset", DATASET, "--batch", known[step["key"]], *step["args"]]
    lakegate.main(args=args, standalone_mode=False)


_PERSONS: dict[str, Callable[[Settings, Json, Memory], None]] = {
    "bootstrap": _bootstrap,
    "put": _put,
    "command": _command,
    "rollback_of": _roll_back_batch_of,
}


def _environment(request: Json) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "LAKEGATE_"))]:
        del os.environ[name]
    os.environ.update(
        AWS_ENDPOINT_URL=request["endpoint"],
        AWS_ACCESS_KEY_ID="embedded",
        AWS_SECRET_ACCESS_KEY="embedded",
        AWS_REGION="us-east-1",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_EC2_METADATA_DISABLED="true",
        LAKEGATE_SCRATCH=request["scratch"],
        DAGSTER_HOME=request["home"],
        TMPDIR=request["scratch"],
    )
    tempfile.tempdir = request["scratch"]


def _quiet(path: Path) -> None:
    """What the process prints goes to a file of its own."""
    with path.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)


def prepared_daemon(home: Path) -> Callable[[Json, Say], None]:
    """Import everything that a play, or the oracle, needs; run none of it.

    Args:
        home: An empty folder with a `dagster.yaml`; becomes a Dagster home without runs.
    """
    for module in _WARM:
        importlib.import_module(module)
    _keep_engines()
    _keep_service_models()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.get_runs_count()

    from tests.replay.kill.oracle import judge

    def work(request: Json, say: Say) -> None:
        (judge if request["do"] == "judge" else play)(request, say)

    return work


def _keep_engines() -> None:
    """Dagster makes an SQLAlchemy engine for each statement on SQLite, and with it compiles each
    statement anew: a sixth of a play's time."""
    from dagster._core.storage.event_log.sqlite import sqlite_event_log
    from dagster._core.storage.runs.sqlite import sqlite_run_storage

    made: dict[str, Any] = {}

    def keeping(create: Callable[..., Any]) -> Callable[..., Any]:
        def create_once(url: str, **how: Any) -> Any:
            if url not in made:
                made[url] = create(url, **how)
            return made[url]

        return create_once

    for module in (sqlite_event_log, sqlite_run_storage):
        module.create_engine = keeping(module.create_engine)  # type: ignore[attr-defined]


def _keep_service_models() -> None:
    """Every boto3 session reads the services' models anew, once for each process of a case: read
    before, they are there in each copy."""
    import botocore.session
    from botocore.loaders import Loader, create_loader

    loader = create_loader()

    def kept(search_path: str | None = None) -> Loader:
        return loader

    botocore.session.create_loader = kept
    for service in ("s3", "dynamodb", "glue", "events"):
        # The credentials are nobody's: nothing is asked of this client.
        boto3.session.Session(region_name="us-east-1").client(
            service, aws_access_key_id="none", aws_secret_access_key="none"
        )
