"""`lakegate quarantine list|show|release`; each a thin skin over a public call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dagster_project.reach import Reaching, fail, is_id, reach
from dagster_project.replay_asking import ask, asking, json_option, known_code, request_of, span

if TYPE_CHECKING:
    from service_core.replay.held import HeldFile, HeldRows


def register_quarantine_commands(main: click.Group) -> None:
    """Add the group."""
    main.add_command(quarantine)


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
@json_option
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
    known_code(code)
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
@json_option
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
@asking
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
    body = request_of(
        dataset,
        reason,
        files=objects,
        selector={
            "partitions": span(partition, partitions),
            "reasonCodes": list(reason_codes) or None,
        },
        # A verdict that stands would stand by what was wrong when it was made.
        options={"force": True, "dryRun": dry_run, "contractVersion": under},
        replay_id=replay_id,
    )
    ask(reach(), body, wait=wait, timeout=timeout, as_json=as_json)


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
