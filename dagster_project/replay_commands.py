"""Commands about replays and quarantine; each a thin skin over a public call."""

from __future__ import annotations

import getpass
import json
import secrets
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dagster_project.reach import BAD_USAGE, SYSTEM_FAILED, Reach, Reaching, fail, is_id, reach

if TYPE_CHECKING:
    from dagster_project.replay_wait import ReplayStanding
    from service_core.replay.held import HeldFile, HeldRows
    from service_core.replay.request import ReplayRequest

QUARANTINED = 3
_STATES = (
    "received",
    "validated",
    "curated",
    "published",
    "quarantined",
    "superseded",
    "rolled_back",
)

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def register_replay_commands(main: click.Group) -> None:
    """Add these commands to the command line."""
    main.add_command(replay)
    main.add_command(quarantine)


def _asking(command: Callable[..., None]) -> Callable[..., None]:
    """Options of every command that asks for a replay."""
    for option in (
        _json,
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


@click.command(cls=Reaching)
@click.option("--dataset", metavar="NAME", help="Whose files.")
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="KEY",
    help="One landed file: its key or s3:// URI for its latest version, or the id of a source "
    "object for exactly that one; repeatable.",
)
@click.option("--partition", metavar="P", help="One landing partition, such as 2026-11-21.")
@click.option("--partitions", metavar="A..B", help="Landing partitions from A to B.")
@click.option("--key-prefix", metavar="PREFIX", help="Files whose keys begin so.")
@click.option(
    "--reason-code",
    "reason_codes",
    multiple=True,
    metavar="CODE",
    help="Files that are in quarantine for it, whole or some of their rows; repeatable.",
)
@click.option(
    "--contract-version", metavar="VERSION", help="Files last processed under this version."
)
@click.option("--state", type=click.Choice(_STATES), help="Files that the ledger has so.")
@click.option("--batch", "batch_id", metavar="ID", help="Files of one batch.")
@click.option("--reason", metavar="TEXT", help="Why; kept in the audit record.")
@click.option(
    "--force",
    is_flag=True,
    help="Process what is published too, and judge anew what was judged before.",
)
@click.option("--skip-if-published", is_flag=True, help="Skip what is published in any way.")
@click.option(
    "--manifest",
    "manifest_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Send this replay manifest as it is, instead of the options above.",
)
@_asking
def replay(
    dataset: str | None,
    files: tuple[str, ...],
    partition: str | None,
    partitions: str | None,
    key_prefix: str | None,
    reason_codes: tuple[str, ...],
    contract_version: str | None,
    state: str | None,
    batch_id: str | None,
    reason: str | None,
    force: bool,
    skip_if_published: bool,
    manifest_file: Path | None,
    under: str | None,
    dry_run: bool,
    replay_id: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Process landed files once more.

    What the options select, all of them together, is worked on by the same assets as before; what
    passes takes the place of what was published. What is published wholly under the contract in
    force is skipped unless --force is given.

    \b
    Examples:
      lakegate replay --dataset orders --partition 2026-11-21 --reason "late fix" --wait
      lakegate replay --dataset orders --partitions 2026-11-01..2026-11-21 --force \\
        --reason "tax was computed wrongly"
      lakegate replay --dataset orders --file orders/dt=2026-11-21/orders_1.csv --reason "again"
      lakegate replay --dataset orders --reason-code TYPE --reason "amounts may be negative now"
      lakegate replay --manifest replay.json --wait --json | jq .outcomes
    """
    if manifest_file is not None:
        others = (dataset, files, partition, partitions, key_prefix, reason_codes)
        if any((*others, contract_version, state, batch_id, reason, under, replay_id)) or any(
            (force, dry_run, skip_if_published)
        ):
            fail("--manifest says everything by itself; leave the other options out.")
        body = manifest_file.read_bytes()
    else:
        if dataset is None or not reason:
            missing = "--dataset" if dataset is None else "--reason"
            fail(f"{missing} is missing. `lakegate replay --help` has examples.")
        selector = {
            "partitions": _span(partition, partitions),
            "keyPrefix": key_prefix,
            "reasonCodes": list(reason_codes) or None,
            "contractVersion": contract_version,
            "state": state,
            "batchId": batch_id,
        }
        body = _request(
            dataset,
            reason,
            files=files,
            selector=selector,
            options={
                "force": force,
                "dryRun": dry_run,
                "skipIfPublished": skip_if_published,
                "contractVersion": under,
            },
            replay_id=replay_id,
        )
    _ask(reach(), body, wait=wait, timeout=timeout, as_json=as_json)


@click.group()
def quarantine() -> None:
    """Look at what was refused, and bring it back.

    \b
    Examples:
      lakegate quarantine list --dataset orders
      lakegate quarantine release --dataset orders --reason-code TYPE --reason "contract mended"
    """


@quarantine.command("list", cls=Reaching)
@click.option("--dataset", metavar="NAME", help="Of one data set; of all by default.")
@click.option("--partition", metavar="P", help="Of one landing partition.")
@click.option("--reason-code", "code", metavar="CODE", help="Refused for this reason.")
@click.option("--all", "released_too", is_flag=True, help="What has been released as well.")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(min=1), help="At most so many."
)
@_json
def list_command(
    dataset: str | None,
    partition: str | None,
    code: str | None,
    released_too: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List files in quarantine, and files of which rows are.

    \b
    Examples:
      lakegate quarantine list
      lakegate quarantine list --dataset orders --reason-code TYPE
      lakegate quarantine list --json | jq '.[] | .object_id'
    """
    from itertools import chain, islice

    from service_core.naming import UNCLAIMED
    from service_core.replay.held import held_files, held_rows

    at = reach()
    _known_code(code)
    # Files under no contract are in quarantine too.
    datasets = [at.contract(dataset).dataset] if dataset else [*at.contracts, UNCLAIMED]
    found: list[HeldFile | HeldRows] = []
    more = False
    for name in datasets:
        given = {"partition": partition, "code": code, "released_too": released_too}
        held = chain(
            held_files(at.store, at.ledger, name, **given),
            held_rows(at.store, at.ledger, name, **given),
        )
        found += islice(held, limit + 1 - len(found))
        if len(found) > limit:
            found, more = found[:limit], True
            break
    lines = [_line_of(one) for one in found]
    if as_json:
        click.echo(json.dumps(lines, ensure_ascii=True))
        return
    if not lines:
        click.echo("Nothing is in quarantine.")
    else:
        _table(
            ["what", "data set", "partition", "key", "reasons", "rows", "object", "held"],
            [
                [
                    line["what"],
                    line["dataset"],
                    line["partition"],
                    line["key"],
                    ", ".join(line["reasons"]),
                    "" if line["rows"] is None else f"{line['rows']:,}",
                    line["object_id"],
                    "yes" if line["held"] else "released",
                ]
                for line in lines
            ],
        )
    if more:
        click.echo(f"There is more; --limit {limit * 10} shows it.", err=True)


@quarantine.command("show", cls=Reaching)
@click.argument("thing", metavar="OBJECT|BATCH")
@_json
def show_command(thing: str, as_json: bool) -> None:
    """Show why a file, its rows, or files of a batch were refused.

    \b
    Examples:
      lakegate quarantine show orders/dt=2026-11-21/orders_1.csv
      lakegate quarantine show 0123456789abcdef0123456789abcdef --json
    """
    from service_core.layout import Zone
    from service_core.replay.held import held_file, rows_of_batch

    at = reach()
    entries = at.entries(thing)
    files: list[HeldFile] = []
    rows: list[HeldRows] = []
    for entry in entries:
        place = (entry.dataset, entry.partition, entry.object_id)
        if (file := held_file(at.store, at.ledger, *place)) is not None:
            files.append(file)
        batches = {line.batch_id for line in at.ledger.history(entry.object_id)}
        for batch_id in sorted(batches):
            its = rows_of_batch(at.store, at.ledger, entry.dataset, entry.partition, batch_id)
            rows += [one for one in its if one.outcome.source_object.id == entry.object_id]
    if not entries and is_id(thing) and (manifest := at.batch(thing)) is not None:
        for one in manifest.objects:
            place = (manifest.dataset, manifest.partition, one.id)
            if (file := held_file(at.store, at.ledger, *place)) is not None:
                files.append(file)
        rows = rows_of_batch(at.store, at.ledger, manifest.dataset, manifest.partition, thing)
        entries = list(at.ledger.entries(o.id for o in manifest.objects).values())
    if not entries:
        fail(f"Nothing is known of {thing!r}: name a key, an s3:// URI, an object or a batch.")
    if as_json:
        click.echo(
            json.dumps(
                {
                    "files": [
                        {
                            **_line_of(file),
                            "record": file.record.model_dump(mode="json"),
                            "released": None
                            if file.released is None
                            else file.released.model_dump(mode="json"),
                        }
                        for file in files
                    ],
                    "rows": [
                        {
                            **_line_of(one),
                            "findings": [f.model_dump(mode="json") for f in one.outcome.findings],
                        }
                        for one in rows
                    ],
                },
                ensure_ascii=True,
            )
        )
        return
    if not files and not rows:
        click.echo("Nothing of it has been in quarantine.")
    for file in files:
        record = file.record
        click.echo(f"{record.source_object.key}  ({record.object_id})")
        for finding in record.findings:
            click.echo(f"  {finding.code}: {finding.message}")
        click.echo(f"  What to do: {record.what_to_do}")
        click.echo(f"  The way back: {record.replay}")
        click.echo(f"  Refused {record.quarantined_at:%Y-%m-%d %H:%M} by batch {record.batch_id}")
        if file.released is not None:
            by = file.released.replay_id or f"run {file.released.run_id}"
            click.echo(f"  Released {file.released.released_at:%Y-%m-%d %H:%M} by {by}")
        elif not file.held:
            click.echo("  Not held any more: another batch has decided about it.")
    for one in rows:
        held = "held" if one.held else "judged anew since"
        click.echo(
            f"{one.outcome.source_object.key}: {_rows(one.outcome.rows_quarantined)} diverted by "
            f"batch {one.batch_id} ({held})"
        )
        for finding in one.outcome.findings:
            where = f", line {finding.line}" if finding.line else ""
            click.echo(f"  {finding.code}, {_rows(finding.count)}{where}: {finding.message}")
    where = at.store.uri(Zone.QUARANTINE, "")
    click.echo(f"All of it lies under {where}", err=True)


@quarantine.command("release", cls=Reaching)
@click.argument("objects", nargs=-1, metavar="[OBJECT]...")
@click.option("--dataset", required=True, metavar="NAME", help="Whose files.")
@click.option(
    "--reason-code",
    "reason_codes",
    multiple=True,
    metavar="CODE",
    help="Everything that is in quarantine for it, whole or in rows; repeatable.",
)
@click.option("--partition", metavar="P", help="Only of one landing partition.")
@click.option("--partitions", metavar="A..B", help="Only of landing partitions from A to B.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the audit record.")
@_asking
def release_command(
    objects: tuple[str, ...],
    dataset: str,
    reason_codes: tuple[str, ...],
    partition: str | None,
    partitions: str | None,
    reason: str,
    under: str | None,
    dry_run: bool,
    replay_id: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Judge anew what is in quarantine, after the contract or the code has been mended.

    What passes is published and leaves quarantine, marked and not deleted. What fails stays.

    \b
    Examples:
      lakegate quarantine release --dataset orders --reason-code TOO_LARGE \\
        --reason "the limit is 2 GiB now" --wait
      lakegate quarantine release --dataset orders orders/dt=2026-11-21/orders_1.csv \\
        --reason "header is allowed now"
    """
    if not objects and not reason_codes:
        fail("Say what to release: --reason-code, or the objects themselves.")
    if objects and (reason_codes or partition or partitions):
        fail("Name either the objects, or reason codes and partitions.")
    body = _request(
        dataset,
        reason,
        files=objects,
        selector={
            "partitions": _span(partition, partitions),
            "reasonCodes": list(reason_codes) or None,
        },
        # A verdict that stands would stand by what was wrong when it was made.
        options={"force": True, "dryRun": dry_run, "contractVersion": under},
        replay_id=replay_id,
    )
    _ask(reach(), body, wait=wait, timeout=timeout, as_json=as_json)


def _request(
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
            "replayId": replay_id or _made_up(),
            "reason": reason,
            "requestedBy": f"{_user()} (command line)",
            "dataset": dataset,
            **({"files": [_file(at, one) for one in files]} if at is not None else {}),
            **({"selector": selected} if selected else {}),
            "options": {name: value for name, value in options.items() if value is not None},
        }
    ).encode()


def _file(at: Reach, thing: str) -> dict[str, str]:
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


def _ask(at: Reach, body: bytes, *, wait: bool, timeout: float | None, as_json: bool) -> None:
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


def _span(partition: str | None, partitions: str | None) -> dict[str, str] | None:
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


def _known_code(code: str | None) -> None:
    from service_core.reasons import ReasonCode

    if code is not None and code not in {known.value for known in ReasonCode}:
        fail(f"{code!r} is no reason code; docs/reason-codes.md lists them all.")


def _line_of(one: HeldFile | HeldRows) -> dict[str, Any]:
    from service_core.replay.held import HeldFile

    if isinstance(one, HeldFile):
        record = one.record
        return {
            "what": "file",
            "dataset": record.dataset,
            "partition": record.partition,
            "key": record.source_object.key,
            "object_id": record.object_id,
            "reasons": sorted({finding.code.value for finding in record.findings}),
            "rows": None,
            "batch_id": record.batch_id,
            "held": one.held,
            "released_by": None if one.released is None else one.released.replay_id,
        }
    source_object = one.outcome.source_object
    return {
        "what": "rows",
        "dataset": one.dataset,
        "partition": one.partition,
        "key": source_object.key,
        "object_id": source_object.id,
        "reasons": sorted(one.reasons),
        "rows": one.outcome.rows_quarantined,
        "batch_id": one.batch_id,
        "held": one.held,
        "released_by": None,
    }


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; keys are shown so that a terminal takes nothing in them for a command."""
    from rich.markup import escape
    from rich.table import Table

    from dagster_project.report import wide_console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold", justify="right" if header == "rows" else "left")
    for row in rows:
        table.add_row(*(escape(_printable(cell)) for cell in row))
    wide_console().print(table)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _made_up() -> str:
    return f"r-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as in many a container.
        return "somebody"
