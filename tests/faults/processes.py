"""Runs in processes of their own, all at once: `python -m tests.faults.processes REQUESTS`.

One process imports everything and forks before anything has started a thread; each child then is a
run worker with its own instance and clients. Dagster configures logging for the whole process, so
that two of its runs in two threads may lock each other out for ever.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import dagster as dg

import assets.retries
from dagster_project.session import Session, private_instance
from service_core.contract import load_contract
from service_core.settings import Settings
from tests.faults.house import quick_waits

_ROOT = Path(__file__).resolve().parents[2]


def at_once(
    requests: Sequence[dg.RunRequest],
    *,
    file_bytes: int | None = None,
    more_memory: int | None = None,
    within: float = 240,
) -> list[dict[str, Any]]:
    """Execute runs of `orders` at the same time.

    Args:
        file_bytes: The most that a file may hold: a full disk, for those who write.
        more_memory: The bytes that each may take beyond those that it starts with.

    Returns:
        Of each, in their order, `success`, the steps `retried`, and what a failed one `said`; a
        process that died has no success, but its `exit_code` and how the log of all of them ended.
    """
    asked = [{"partition": r.partition_key, "tags": dict(r.tags)} for r in requests]
    limits = {"file_bytes": file_bytes, "more_memory": more_memory}
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.processes", json.dumps(asked), json.dumps(limits)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=within,
        check=True,
    )
    answers: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    log_end = {"log_end": done.stderr[-3_000:]}
    return [answer | log_end if "exit_code" in answer else answer for answer in answers]


def _run(
    asked: dict[str, Any], limits: dict[str, int | None], start: Any, answer: Connection
) -> None:
    orders = load_contract(_ROOT / "contracts" / "orders.yaml")
    with private_instance() as instance, quick_waits():
        session = Session([orders], Settings.from_environment(os.environ), instance)
        request = dg.RunRequest(partition_key=asked["partition"], tags=asked["tags"])
        start.wait()
        if any(limits.values()):
            _limit(**limits)
            assets.retries.OUTAGE_RETRIES = 1
        result = session.execute("orders", request)
        retried = sorted({e.step_key for e in result.all_events if e.is_step_up_for_retry})
        said = [_said(e) for e in result.all_events if e.is_step_failure]
    answer.send({"success": result.success, "retried": retried, "said": " ".join(said)})


def _limit(file_bytes: int | None, more_memory: int | None) -> None:
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    if more_memory is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + more_memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _said(failure: dg.DagsterEvent) -> str:
    told = failure.step_failure_data.user_failure_data
    error = failure.step_failure_data.error
    return str(told.description if told else error.to_string() if error else "")


def main() -> None:
    asked, limits = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    forking = multiprocessing.get_context("fork")
    start = forking.Barrier(len(asked))
    # A pipe for each: on a shared one, an answer may arrive in the middle of another's log line.
    answers, sides = zip(*(forking.Pipe(duplex=False) for _ in asked), strict=True)
    workers = [
        forking.Process(target=_run, args=(one, limits, start, side))
        for one, side in zip(asked, sides, strict=True)
    ]
    for worker in workers:
        worker.start()
    for side in sides:
        side.close()
    told = [_told(worker, answer) for worker, answer in zip(workers, answers, strict=True)]
    print(f"\n{json.dumps(told)}")


def _told(worker: ForkProcess, answer: Connection) -> dict[str, Any]:
    told: dict[str, Any] = {"success": False, "retried": [], "said": ""}
    with contextlib.suppress(EOFError):
        told = answer.recv()
    worker.join()
    return told if worker.exitcode == 0 else told | {"exit_code": worker.exitcode}


if __name__ == "__main__":
    main()
