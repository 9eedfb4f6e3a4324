"""Commands that say where things stand: the platform, a data set, an object, a batch, a replay."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from dagster_project.reach import Reach, Reaching, fail, is_id, reach
from dagster_project.replay_asking import print_replay
from service_core.contract.model import Grain
from service_core.ledger import State

if TYPE_CHECKING:
    from service_core.contract.model import Contract
    from service_core.ledger import Entry
    from service_core.manifest import Manifest
    from service_core.verdict import Verdict

#: How many partitions are counted where none is named.
_PARTITIONS = 7

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")


def register_status_commands(main: click.Group) -> None:
    """Add these commands to the command line."""
    main.add_command(status)
    main.add_command(history)


@click.command(cls=Reaching)
@click.argument("thing", required=False, metavar="[DATASET|OBJECT|BATCH|REPLAY]")
@click.option(
    "--partitions", metavar="A..B", help="Count these landing partitions; the newest by default."
)
@_json
def status(thing: str | None, partitions: str | None, as_json: bool) -> None:
    """Say where something stands: everything, a data set, a file, a batch or a replay.

    A file is named by its key, its s3:// URI or its object id.

    \b
    Examples:
      lakegate status
      lakegate status orders --partitions 2026-11-01..2026-11-21
      lakegate status orders/dt=2026-11-21/orders_1.csv
      lakegate status r-20261121-101500-a1b2c3 --json
    """
    at = reach()
    if thing is None:
        _overview(at, partitions, as_json)
    elif thing in at.contracts:
        _dataset(at, at.contract(thing), partitions, as_json)
    elif entries := at.entries(thing):
        _objects(at, entries, as_json)
    elif is_id(thing) and (manifest := at.batch(thing)) is not None:
        _batch(at, manifest, as_json)
    elif not _replay(at, thing, as_json):
        fail(
            f"Nothing is known of {thing!r}: it is no data set, no file that has been noticed, no "
            "batch and no replay."
        )


@click.command(cls=Reaching)
@click.argument("thing", metavar="OBJECT")
@_json
def history(thing: str, as_json: bool) -> None:
    """Tell everything that has happened to a file, oldest first.

    Of a key, every version that the ledger knows is told; an object id names one of them.

    \b
    Examples:
      lakegate history orders/dt=2026-11-21/orders_1.csv
      lakegate history 0123456789abcdef0123456789abcdef --json
    """
    at = reach()
    entries = at.entries(thing)
    if not entries:
        fail(f"The ledger knows nothing of {thing!r}: name a key, an s3:// URI or an object id.")
    told = [(entry, at.ledger.history(entry.object_id)) for entry in entries]
    if as_json:
        click.echo(
            json.dumps(
                [
                    {
                        **_entry_json(entry),
                        "history": [line.model_dump(mode="json") for line in lines],
                    }
                    for entry, lines in told
                ],
                ensure_ascii=True,
            )
        )
        return
    for entry, lines in told:
        version = f", version {entry.version_id}" if entry.version_id else ""
        click.echo(f"{entry.key}{version}  ({entry.object_id})")
        for line in lines:
            reason = f" for {line.reason}" if line.reason else ""
            note = f"  {line.note}" if line.note else ""
            run = f" in run {line.run_id}" if line.run_id else ""
            click.echo(
                f"  {line.at:%Y-%m-%d %H:%M:%S}  {line.state}{reason}, batch {line.batch_id}{run}"
                f"{note}"
            )


def _overview(at: Reach, partitions: str | None, as_json: bool) -> None:
    from service_core.replay.folder import open_replays

    found = {name: _counts(at, contract, partitions) for name, contract in at.contracts.items()}
    waiting = {name: len(at.ledger.pending_batches(name)) for name in at.contracts}
    replays = open_replays(at.store)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "datasets": {
                        name: {
                            "partitions": {p: _counted(c) for p, c in counts.items()},
                            "batches_waiting": waiting[name],
                        }
                        for name, counts in found.items()
                    },
                    "open_replays": list(replays),
                }
            )
        )
        return
    rows = []
    for name, counts in found.items():
        total: Counter[State] = sum(counts.values(), Counter())
        rows.append([name, *(f"{total[state]:,}" for state in State), f"{waiting[name]:,}"])
    _numbers(["data set", *(state.value for state in State), "batches waiting"], rows)
    span = partitions or f"the newest {_PARTITIONS} partitions"
    click.echo(f"\nSource objects of {span}.")
    click.echo(f"Open replays: {', '.join(replays) or 'none'}.")


def _dataset(at: Reach, contract: Contract, partitions: str | None, as_json: bool) -> None:
    counts = _counts(at, contract, partitions)
    waiting = at.ledger.pending_batches(contract.dataset)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "dataset": contract.dataset,
                    "contract_version": contract.version,
                    "contract_hash": contract.hash,
                    "partitions": {p: _counted(c) for p, c in counts.items()},
                    "batches_waiting": [batch.batch_id for batch in waiting],
                }
            )
        )
        return
    click.echo(f"{contract.dataset}, contract version {contract.version} ({contract.hash})\n")
    rows = [
        [partition, *(f"{count[state]:,}" for state in State)]
        for partition, count in counts.items()
        if count
    ]
    _numbers(["partition", *(state.value for state in State)], rows)
    if not rows:
        click.echo("Nothing is known of these partitions.")
    waits = (
        "1 batch waits for its run"
        if len(waiting) == 1
        else (f"{len(waiting)} batches wait for their runs")
    )
    click.echo(f"\n{waits}.")


def _objects(at: Reach, entries: list[Entry], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_entry_json(entry) for entry in entries], ensure_ascii=True))
        return
    for entry in entries:
        reason = f" for {entry.reason}" if entry.reason else ""
        version = f", version {entry.version_id}" if entry.version_id else ""
        click.echo(f"{entry.key}{version}")
        click.echo(f"  object      {entry.object_id}")
        click.echo(f"  state       {entry.state}{reason}, since {entry.updated_at:%Y-%m-%d %H:%M}")
        click.echo(f"  partition   {entry.partition}{', late' if entry.late else ''}")
        click.echo(f"  batch       {entry.batch_id}, contract version {entry.contract_version}")
        if entry.published_batch_id not in (None, entry.batch_id):
            click.echo(f"  published   by batch {entry.published_batch_id}")
        counts = {
            "read": entry.rows_read,
            "published": entry.rows_published,
            "quarantined": entry.rows_quarantined,
        }
        told = [f"{rows:,} {what}" for what, rows in counts.items() if rows is not None]
        click.echo(f"  rows        {', '.join(told) or 'not counted yet'}")


def _batch(at: Reach, manifest: Manifest, as_json: bool) -> None:
    from service_core.gate import GateClosedError, read_verdict

    verdict: Verdict | None = None
    place = (manifest.dataset, manifest.partition, manifest.batch_id)
    try:
        verdict = read_verdict(at.store, *place)
        missing = ""
    except GateClosedError as none:
        missing = str(none)
    entries = at.ledger.entries(o.id for o in manifest.objects)
    owned = Counter(e.state for e in entries.values() if e.batch_id == manifest.batch_id)
    others = sum(e.batch_id != manifest.batch_id for e in entries.values())
    waiting = any(
        b.batch_id == manifest.batch_id for b in at.ledger.pending_batches(manifest.dataset)
    )
    if as_json:
        click.echo(
            json.dumps(
                {
                    "batch_id": manifest.batch_id,
                    "dataset": manifest.dataset,
                    "partition": manifest.partition,
                    "contract_version": manifest.contract_version,
                    "origin": manifest.origin.value,
                    "replay_id": manifest.replay_id,
                    "objects": len(manifest.objects),
                    "states": _counted(owned),
                    "taken_over": others,
                    "waiting": waiting,
                    "verdict": None if verdict is None else _verdict_json(verdict),
                }
            )
        )
        return
    click.echo(f"Batch {manifest.batch_id} of {manifest.dataset} {manifest.partition}")
    click.echo(f"  asked for   by {manifest.origin}, {manifest.created_at:%Y-%m-%d %H:%M}")
    if manifest.replay_id:
        click.echo(f"  replay      {manifest.replay_id}")
    click.echo(f"  contract    version {manifest.contract_version} ({manifest.contract_hash})")
    counted = ", ".join(f"{n:,} {state}" for state, n in owned.items()) or "none of its own"
    click.echo(
        f"  objects     {len(manifest.objects):,}: {counted}"
        + (f", {others:,} taken over by other batches" if others else "")
    )
    if waiting:
        click.echo("  run         has not begun")
    if verdict is None:
        click.echo(f"  verdict     {missing}")
        return
    word = "passed" if verdict.passed else "failed"
    click.echo(f"  verdict     {word}, {verdict.judged_at:%Y-%m-%d %H:%M}, by {verdict.engine}")
    click.echo(
        f"  rows        {verdict.rows_read:,} read, {verdict.rows_accepted:,} accepted, "
        f"{verdict.rows_quarantined:,} quarantined"
    )
    for check in verdict.checks:
        if not check.passed:
            mark = "blocks" if check.blocking else "noted"
            click.echo(f"  {mark:<11} {check.name}: {check.detail}")


def _replay(at: Reach, replay_id: str, as_json: bool) -> bool:
    """Tell how far a replay is; False where there is none of that id."""
    import re

    from dagster_project.replay_wait import replay_standing
    from service_core.replay.request import REPLAY_ID

    if re.match(REPLAY_ID, replay_id) is None:
        return False
    standing = replay_standing(at.store, replay_id)
    if standing.taken is None:
        return _request(at, replay_id, as_json)
    if as_json:
        click.echo(json.dumps(standing.to_json(), ensure_ascii=True))
    else:
        print_replay(at, standing)
    return True


def _request(at: Reach, name: str, as_json: bool) -> bool:
    """Tell of a request that no replay has come of; False where there is none of that name."""
    from dagster_project.replay_wait import request_problems
    from service_core.layout import REPLAY_REQUESTS, Zone
    from service_core.ports import ObjectMissingError

    key = f"{REPLAY_REQUESTS}{name}.json"
    try:
        at.store.read(Zone.MANIFESTS, key)
    except ObjectMissingError:
        return False
    problems = request_problems(at.store, key)
    uri = at.store.uri(Zone.MANIFESTS, key)
    if as_json:
        word = "requested" if problems is None else "rejected"
        click.echo(json.dumps({"request": uri, "state": word, "problems": problems or []}))
    elif problems is None:
        click.echo(
            f"The request {uri} has not been answered yet. If that stays so: is the sensor "
            "`replays` on, and the Dagster daemon running?"
        )
    else:
        click.echo(f"The request {uri} is rejected; nothing was replayed.")
        for problem in problems:
            click.echo(f"  {problem}")
        click.echo("Mend it and put it there again.")
    return True


def _counts(at: Reach, contract: Contract, partitions: str | None) -> Mapping[str, Counter[State]]:
    """How many source objects stand where, by partition."""
    return {
        partition: Counter(e.state for e in at.ledger.in_partition(contract.dataset, partition))
        for partition in _partitions(contract, partitions)
    }


def _partitions(contract: Contract, partitions: str | None) -> Iterator[str]:
    from service_core.partition import fallback_partition, partition_start, partitions_between

    landing, now = contract.landing, datetime.now(UTC)
    if partitions is None:
        length = timedelta(days=1) if landing.grain is Grain.DAY else timedelta(hours=1)
        first = fallback_partition(landing, now - length * (_PARTITIONS - 1))
        last = fallback_partition(landing, now)
    else:
        first, _, last = partitions.partition("..")
        last = last or first
        try:
            partition_start(landing, first)
            partition_start(landing, last)
        except ValueError as problem:
            fail(f"--partitions {partitions!r}: {problem}")
    return partitions_between(landing, first, last)


def _counted(counts: Counter[State]) -> dict[str, int]:
    return {state.value: counts[state] for state in State if counts[state]}


def _entry_json(entry: Entry) -> dict[str, Any]:
    return entry.model_dump(mode="json")


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "passed": verdict.passed,
        "blocked_by": list(verdict.blocked_by),
        "rows_read": verdict.rows_read,
        "rows_accepted": verdict.rows_accepted,
        "rows_quarantined": verdict.rows_quarantined,
        "judged_at": verdict.judged_at.isoformat(),
        "engine": verdict.engine,
    }


def _numbers(headers: list[str], rows: list[list[str]]) -> None:
    from rich.table import Table

    from dagster_project.report import wide_console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, header in enumerate(headers):
        table.add_column(header, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    wide_console().print(table)
