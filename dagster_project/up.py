"""`lakegate up`: the embedded AWS, the Dagster UI and its daemon, with the sensors on.

Everything is a child of this process and ends with it, whatever it dies of. The AWS keeps its state
in memory, so each start is a fresh one, Dagster's home included; or both are kept in a folder, and
the next start goes on from there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dagster_project.session import environment
from deploy.bootstrap import BootstrapError, bootstrap
from deploy.local.durable_folder import DurableFolderError, FolderTakenError, check_folder, take
from deploy.local.embedded import EmbeddedAws
from deploy.local.guarded import start_guarded
from resources.aws import clients
from service_core.naming import GLUE_POOL
from service_core.settings import NotificationRoute, Settings, SettingsError

ROOT = Path(__file__).resolve().parent.parent
#: Where a running platform says how to reach it, below the current folder.
STATE = Path(".lakegate")
_READY_SECONDS = 120.0
_STOP_SECONDS = 20.0
#: Glue job runs at a time: each is a Spark of its own on this machine.
_GLUE_RUNS = 2


class UpError(Exception):
    """The platform did not come up."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A running platform.

    Attributes:
        ui: The Dagster UI's address.
        endpoint: The embedded AWS.
        dagster_home: The folder of the Dagster instance.
        environment: What another process needs in its environment to talk to both.
        pid: The process that all of it ends with.
    """

    ui: str
    endpoint: str
    dagster_home: str
    environment: dict[str, str]
    pid: int


@contextmanager
def platform(
    *,
    port: int = 3000,
    aws_port: int = 0,
    sensor_seconds: int = 30,
    engine: str | None = None,
    state: Path = STATE,
    durable: Path | None = None,
) -> Iterator[Platform]:
    """A running platform, ready when the block begins and gone when it ends.

    Args:
        port: The UI's port; 0 for any free one.
        aws_port: The embedded AWS's port; 0 for any free one.
        sensor_seconds: How often each sensor looks.
        engine: What curates where the contract leaves it open; None for what the environment says.
        state: The folder for logs, Dagster's home, and how to reach the platform.
        durable: The folder to keep objects, ledger, catalog and Dagster's home in; None for a fresh
            start and nothing kept.

    Raises:
        UpError: a part did not come up; the message names its log.
    """
    state = state.resolve()
    if (running := running_platform(state)) is not None:
        raise UpError(
            f"A platform already runs from this folder (process {running.pid}, {running.ui}). "
            "Stop it first, or start from another folder."
        )
    if durable is not None:
        _check_durable(durable)
    port = port or _free_port()
    with ExitStack() as stack:
        aws = EmbeddedAws(port=aws_port, log=state / "aws.log", durable=durable)
        stack.enter_context(aws)
        home = _dagster_home(state if durable is None else durable.resolve(), durable is not None)
        lock = _take(home)
        stack.callback(os.close, lock)
        variables = {
            **aws.environment(),
            "LAKEGATE_ENV": "dev",
            "LAKEGATE_SENSORS": "on",
            "LAKEGATE_SENSOR_SECONDS": str(sensor_seconds),
            "DAGSTER_HOME": str(home),
            **({"LAKEGATE_ENGINE": engine} if engine else {}),
        }
        stack.enter_context(environment(variables))
        settings = Settings.from_environment(os.environ)
        try:
            bootstrap(settings, clients(settings))
        except BootstrapError as problem:
            raise UpError(str(problem)) from problem
        _prepare_instance()
        dagster = stack.enter_context(_dagster(port, state / "dagster.log", lock))
        up = Platform(
            ui=f"http://127.0.0.1:{port}",
            endpoint=aws.endpoint,
            dagster_home=str(home),
            environment=variables,
            pid=os.getpid(),
        )
        _wait_until_ready(up.ui, dagster, state / "dagster.log")
        reach = state / "up.json"
        reach.write_text(json.dumps(asdict(up), indent=2))
        stack.callback(reach.unlink, missing_ok=True)
        yield up


def running_platform(state: Path = STATE) -> Platform | None:
    """The platform that runs from a folder, if one does."""
    try:
        found = Platform(**json.loads((state / "up.json").read_text()))
        os.kill(found.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return found


def _check_durable(folder: Path) -> None:
    try:
        check_folder(folder)
    except DurableFolderError as problem:
        raise UpError(str(problem)) from problem
    try:
        route = Settings.from_environment(os.environ).notifications
    except SettingsError as problem:
        raise UpError(str(problem)) from problem
    if route is not NotificationRoute.OFF:
        raise UpError(
            "The S3 server of a durable platform sends no notifications: set "
            "LAKEGATE_NOTIFICATIONS=off. The listing finds what lands."
        )


def _dagster_home(place: Path, kept: bool) -> Path:
    """Dagster's home, with the configuration of this version; empty otherwise unless kept."""
    home = place / "dagster"
    if not kept:
        shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "deploy" / "dagster.yaml", home / "dagster.yaml")
    return home


def _take(home: Path) -> int:
    try:
        # What was killed with its parent may still be on its way out.
        return take(home, within=_STOP_SECONDS)
    except FolderTakenError as problem:
        raise UpError(str(problem)) from problem


@contextmanager
def _dagster(port: int, log: Path, lock: int) -> Iterator[subprocess.Popen[bytes]]:
    """The UI and the daemon around one code server, under a guardian, which is what is given.

    Dagster is asked to end as by Ctrl-C. Where nobody is there to ask, it is ended with all its
    runs, whose processes must not take the end of the platform for the wish of a person.
    """
    status, status_end = os.pipe()
    with log.open("wb") as output:
        guardian = start_guarded(
            [
                *(sys.executable, "-m", "dagster", "dev"),
                *("--workspace", str(ROOT / "workspace.yaml")),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            directory=ROOT,
            grace_seconds=0.0,
            status=status_end,
            kept_open=[lock],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    os.close(status_end)
    with os.fdopen(status) as said:
        leader = int(json.loads(said.readline())["pid"])
        try:
            yield guardian
        finally:
            with suppress(ProcessLookupError):
                os.kill(leader, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                guardian.wait(_STOP_SECONDS)
            assert guardian.stdin is not None
            guardian.stdin.close()
            guardian.wait()


def _prepare_instance() -> None:
    """Make the instance ready for a daemon.

    The pool is made known before anything is queued: until it is, the first pass over the queue
    goes by no limit at all, `default_limit` notwithstanding (seen with Dagster 1.13.27). And runs
    whose processes ended with the platform before this one are told so: the daemon, which cannot
    see that of a process of this machine, would take them for running. Being told, it starts them
    again.
    """
    from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

    working = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    with DagsterInstance.get() as instance:
        instance.event_log_storage.set_concurrency_slots(GLUE_POOL, _GLUE_RUNS)
        for run in instance.get_runs(RunsFilter(statuses=working)):
            if run.status is DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run, "Its process has ended with the platform.")
            else:
                instance.report_run_failed(run, "Its process has ended with the platform.")


def _wait_until_ready(ui: str, dagster: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if dagster.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{ui}/server_info", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    lines = log.read_text(errors="replace").strip().splitlines()[-5:]
    raise UpError(f"Dagster did not come up; its log is {log} and ends:\n" + "\n".join(lines))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
