"""`lakegate up`: the embedded AWS, the Dagster UI and its daemon, with the sensors on.

Everything is a child of this process and ends with it. The AWS keeps its state in memory, so each
start is a fresh one, Dagster's home included.
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
from deploy.bootstrap import bootstrap
from deploy.local.embedded import EmbeddedAws
from resources.aws import clients
from service_core.naming import GLUE_POOL
from service_core.settings import Settings

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
) -> Iterator[Platform]:
    """A running platform, ready when the block begins and gone when it ends.

    Args:
        port: The UI's port; 0 for any free one.
        aws_port: The embedded AWS's port; 0 for any free one.
        sensor_seconds: How often each sensor looks.
        engine: What curates where the contract leaves it open; None for what the environment says.
        state: The folder for logs, Dagster's home, and how to reach the platform.

    Raises:
        UpError: a part did not come up; the message names its log.
    """
    state = state.resolve()
    if (running := running_platform(state)) is not None:
        raise UpError(
            f"A platform already runs from this folder (process {running.pid}, {running.ui}). "
            "Stop it first, or start from another folder."
        )
    home = state / "dagster"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    shutil.copyfile(ROOT / "deploy" / "dagster.yaml", home / "dagster.yaml")
    port = port or _free_port()
    with ExitStack() as stack:
        aws = stack.enter_context(EmbeddedAws(port=aws_port, log=state / "aws.log"))
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
        bootstrap(settings, clients(settings))
        _limit_pools()
        dagster = stack.enter_context(_dagster(port, state / "dagster.log"))
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


@contextmanager
def _dagster(port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The UI and the daemon around one code server, as a process group of its own."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "dagster", "dev"),
                *("--workspace", str(ROOT / "workspace.yaml")),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _limit_pools() -> None:
    """Make the pool known before anything is queued: until it is, the first pass over the queue
    goes by no limit at all, `default_limit` notwithstanding (seen with Dagster 1.13.27)."""
    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        instance.event_log_storage.set_concurrency_slots(GLUE_POOL, _GLUE_RUNS)


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
