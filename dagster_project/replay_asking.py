"""Asking for a replay from the command line: what commands that do so share, from the options to
the request, the wait, and what is printed of its end.
"""

from __future__ import annotations

import getpass
import json
import secrets
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from dagster_project.reach import BAD_USAGE, SYSTEM_FAILED, Reach, fail, is_id, reach

if TYPE_CHECKING:
    from dagster_project.replay_wait import ReplayStanding
    from service_core.replay.request import ReplayRequest

#: The exit code where files ended in quarantine.
QUARANTINED = 3

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """Options of every command that asks for a replay."""
    for option in (
        json_option,
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="With --wait: how long. The replay goes on after that.",
        ),
        click.option("--wait", is_flag=True, help="Wait for the replay's end, showing progress."),
        click.option("--id", "replay_id", metavar="ID", help="The replay's id; made up otherwise."),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Wait for a report of what would change; change nothing.",
        ),
        click.option(
            "--under",
            metavar="VERSION",
            help="Judge by this version of the contract, not by the one in force.",
        ),
    ):
        command = option(command)
    return command


def request_of(
    dataset: str,
    reason: str,
    *,
    files: Sequence[str],
    selector: dict[str, Any],
    options: dict[str, Any],
    replay_id: str | None,
) -> bytes:
    """A replay manifest; files are still as the person named them."""
    selected = {name: value for name, value in selector.items() if value is not None}
    if files and selected:
        fail("Name either files, or what selects them; not both.")
    if not files and not selected:
        fail(
            "Say what to replay: --file, --partition, --partitions, --key-prefix, --reason-code, "
            "--contract-version, --state or --batch."
        )
    at = reach() if files else None
    return json.dumps(
        {
            "replayId": replay_id or made_up(),
            "reason": reason,
            "requestedBy": f"{user()} (command line)",
            "dataset": dataset,
            **({"files": [file_of(at, one) for one in files]} if at is not None else {}),
            **({"selector": selected} if selected else {}),
            "options": {name: value for name, value in options.items() if value is not None},
        }
    ).encode()


def file_of(at: Reach, thing: str) -> dict[str, str]:
    """A file as a replay manifest names it."""
    from service_core.layout import Zone

    bucket = at.store.bucket(Zone.RAW)
    if not is_id(thing):
        return {"bucket": bucket, "key": at.key_of(thing)}
    entry = at.ledger.entries([thing]).get(thing)
    if entry is None:
        fail(f"The ledger knows no source object {thing}; name its key instead.")
    named = {} if entry.version_id is None else {"versionId": entry.version_id}
    return {"bucket": bucket, "key": entry.key, **named}


def ask(at: Reach, body: bytes, *, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Check a request, put it into the bucket, and follow it where that is wanted."""
    from service_core.layout import REPLAY_REQUESTS, Zone
    from service_core.replay.intake import House, problems_of
    from service_core.replay.request import RequestRejected, parse_request

    try:
        request = parse_request(body)
    except RequestRejected as rejected:
        fail("\n".join(rejected.problems), BAD_USAGE)
    if problems := problems_of(request, House(at.contracts, rehearsals=True), at.store):
        fail("\n".join(problems), BAD_USAGE)
    key = f"{REPLAY_REQUESTS}{request.replay_id}.json"
    uri = at.store.uri(Zone.MANIFESTS, key)
    if not at.store.write_once(Zone.MANIFESTS, key, body, content_type="application/json"):
        standing = at.store.read(Zone.MANIFESTS, key)
        if standing != body:
            fail(f"Another request lies at {uri} already; choose another --id.", BAD_USAGE)
    if not wait and not request.options.dry_run:
        if as_json:
            click.echo(json.dumps({"replay_id": request.replay_id, "request": uri}))
        else:
            click.echo(f"Replay {request.replay_id} is asked for: {uri}")
            click.echo(f"See how far it is with: lakegate status {request.replay_id}")
        return
    _follow(at, request, key, timeout=timeout, as_json=as_json)


def _follow(
    at: Reach, request: ReplayRequest, key: str, *, timeout: float | None, as_json: bool
) -> None:
    from rich.console import Console

    from dagster_project.replay_wait import (
        ReplayOverdue,
        ReplayRejected,
        Waiting,
        progress_of,
    )

    waiting = Waiting(at.store, request.replay_id, key, timeout)
    try:
        with progress_of(Console(stderr=True)) as show:
            done = waiting.until_the_end(show)
    except ReplayRejected as rejected:
        fail("The replay is rejected: " + "\n".join(rejected.problems), BAD_USAGE)
    except ReplayOverdue as overdue:
        fail(str(overdue), SYSTEM_FAILED)
    except KeyboardInterrupt:
        fail(
            f"The replay goes on; `lakegate status {request.replay_id}` says how far it is.",
            SYSTEM_FAILED,
        )
    if as_json:
        click.echo(json.dumps(_with_difference(at, done), ensure_ascii=True))
    else:
        print_replay(at, done)
    sys.exit(exit_code_of(done))


def exit_code_of(done: ReplayStanding) -> int:
    """The exit code that a replay's end calls for."""
    from dagster_project.replay_wait import failed_batches
    from service_core.replay.audit import Outcome

    assert done.end is not None
    if failed_batches(done.end) or done.end.detail.get("failed"):
        return SYSTEM_FAILED
    good = {Outcome.PUBLISHED, Outcome.SUPERSEDED}
    return QUARANTINED if set(done.end.outcomes) - good else 0


def print_replay(at: Reach, now: ReplayStanding) -> None:
    """How far a replay is, for a person."""
    if now.taken is None:
        return
    request = now.taken.request
    click.echo(f"Replay {request.replay_id} of {request.dataset}: {now.word}")
    click.echo(f"  why         {request.reason}")
    if now.resolution is not None:
        over = ", ".join(f"{n} {why}" for why, n in now.resolution.passed_over.items()) or "none"
        click.echo(
            f"  selected    {now.resolution.objects:,} objects, {now.resolution.bytes:,} bytes"
        )
        click.echo(f"  passed over {over}")
        done = "" if request.options.dry_run else f"{now.done} of "
        click.echo(f"  batches     {done}{now.resolution.batches}{' done' if done else ''}")
    if now.end is not None:
        click.echo(f"  end         {now.end.said}")
        if request.options.dry_run:
            _print_difference(at, request.replay_id)


def _with_difference(at: Reach, done: ReplayStanding) -> dict[str, Any]:
    said = done.to_json()
    if done.taken is not None and done.taken.request.options.dry_run:
        from service_core.replay.rehearsal import read_report

        report = read_report(at.store, done.taken.request.replay_id)
        said["difference"] = None if report is None else report.model_dump(mode="json")
    return said


def _print_difference(at: Reach, replay_id: str) -> None:
    from dagster_project.difference_page import print_report
    from dagster_project.report import wide_console
    from service_core.replay.rehearsal import read_report

    if (report := read_report(at.store, replay_id)) is not None:
        print_report(report, wide_console())


def span(partition: str | None, partitions: str | None) -> dict[str, str] | None:
    """A range of partitions, from one option or the other."""
    if partition is not None and partitions is not None:
        fail("Give either --partition or --partitions.")
    if partition is not None:
        return {"from": partition, "to": partition}
    if partitions is None:
        return None
    first, dots, last = partitions.partition("..")
    if not dots or not first or not last:
        fail(f"--partitions {partitions!r} is no range; write it as 2026-11-01..2026-11-21.")
    return {"from": first, "to": last}


def known_code(code: str | None) -> None:
    from service_core.reasons import ReasonCode

    if code is not None and code not in {known.value for known in ReasonCode}:
        fail(f"{code!r} is no reason code; docs/reason-codes.md lists them all.")


def made_up() -> str:
    return f"r-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as in many a container.
        return "somebody"
