"""The command that undoes a batch or a replay."""

from __future__ import annotations

import getpass
import json
import secrets
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dagster_project.reach import SYSTEM_FAILED, Reaching, fail, reach

if TYPE_CHECKING:
    from service_core.rollback import RolledBack
    from service_core.undo import Share

#: The exit code of what is refused because of how things stand.
BLOCKED = 3
_SHOWN = 20


def register_rollback_command(main: click.Group) -> None:
    """Add this command to the command line."""
    main.add_command(rollback)


@click.command(cls=Reaching)
@click.option("--dataset", required=True, metavar="NAME", help="Whose table.")
@click.option("--batch", "batch_id", metavar="ID", help="Undo this batch.")
@click.option("--replay", "replay_id", metavar="ID", help="Undo all batches of this replay.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept with every file it is of.")
@click.option("--dry-run", is_flag=True, help="Only show which rows would go and come.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def rollback(
    dataset: str,
    batch_id: str | None,
    replay_id: str | None,
    reason: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring a table back to the state before a batch or a replay.

    The batch's rows go and what they had replaced comes back, in one new snapshot. Commits of
    other batches stay as they are. The batch is not published again; replaying its files with
    --force makes another one. Repeating the command changes nothing.

    \b
    Examples:
      lakegate rollback --dataset orders --replay r-20261121-101500-a1b2c3 --dry-run
      lakegate rollback --dataset orders --batch 0123456789abcdef0123456789abcdef \\
        --reason "the producer sent test data"
    """
    if (batch_id is None) == (replay_id is None):
        fail("Name what is to be undone: either --batch or --replay.")
    from resources.catalog import CatalogResource
    from resources.table_patience import PublicationConflictError
    from resources.telemetry import EventsResource
    from service_core.rollback import roll_back
    from service_core.run import Run
    from service_core.undo import RollbackRefusedError

    at = reach()
    contract = at.contract(dataset)
    now = datetime.now(UTC)
    name = f"rollback-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory(prefix="lakegate-") as scratch:
        try:
            done = roll_back(
                contract,
                batch_id=batch_id,
                replay_id=replay_id,
                reason=_said(reason),
                store=at.store,
                ledger=at.ledger,
                catalog=CatalogResource.of(at.settings).catalog(),
                run=Run(name, name, lambda: datetime.now(UTC), Path(scratch)),
                events=EventsResource.of(at.settings).events(),
                dry_run=dry_run,
            )
        except RollbackRefusedError as refused:
            fail(str(refused), BLOCKED)
        except PublicationConflictError as conflict:
            fail(str(conflict), SYSTEM_FAILED)
    if as_json:
        click.echo(json.dumps(rollback_json(done), ensure_ascii=True))
    else:
        _print(done)


def rollback_json(done: RolledBack) -> dict[str, Any]:
    """What a rollback came to, JSON values only."""
    undone = done.undone
    return {
        "dataset": done.dataset,
        "table": undone.table,
        "dry_run": done.dry_run,
        "replay_id": done.replay_id,
        "reason": done.reason,
        "batches": [{"batch_id": b, "partition": p} for b, p in sorted(done.partitions.items())],
        "undone": list(undone.batches),
        "undone_before": list(undone.before),
        # A string: as a JSON number it would lose its last digits in many a reader.
        "snapshot_id": None if undone.snapshot_id is None else str(undone.snapshot_id),
        "committed": undone.committed,
        "rows_out": undone.rows_out,
        "rows_back": undone.rows_back,
        "out": [_share_json(share) for share in undone.out],
        "back": [_share_json(share) for share in undone.back],
        "kept_out": [{**_share_json(k.share), "because": k.sentence} for k in undone.kept_out],
    }


def _share_json(share: Share) -> dict[str, Any]:
    return {
        "key": share.key,
        "object_id": share.object_id,
        "partition": share.partition,
        "batch_id": share.batch_id,
        "rows": share.rows,
    }


def _print(done: RolledBack) -> None:
    undone = done.undone
    if not undone.batches:
        click.echo(
            f"All of it had been rolled back before: {undone.rows_out:,} rows of {undone.table} "
            f"went, {undone.rows_back:,} came back."
        )
        return
    count = len(undone.batches)
    batches = f"{count} batch{'es' * (count != 1)}"
    if done.dry_run:
        click.echo(
            f"Undoing {batches} in {undone.table} would take out {undone.rows_out:,} rows and "
            f"bring back {undone.rows_back:,}. Nothing has been changed."
        )
    else:
        click.echo(
            f"{batches} undone in {undone.table} by snapshot {undone.snapshot_id}: "
            f"{undone.rows_out:,} rows went, {undone.rows_back:,} came back."
        )
    if undone.before:
        click.echo(f"{len(undone.before)} more had been rolled back before.")
    _list("go" if done.dry_run else "gone", undone.out)
    _list("back", undone.back)
    for kept in undone.kept_out[:_SHOWN]:
        click.echo(f"  not back  {kept.share.rows:>9,} rows of {kept.share.key}: {kept.sentence}")
    _more(len(undone.kept_out))


def _list(word: str, shares: Sequence[Share]) -> None:
    for share in shares[:_SHOWN]:
        click.echo(f"  {word:<9} {share.rows:>9,} rows of {share.key}, batch {share.batch_id}")
    _more(len(shares))


def _more(count: int) -> None:
    if count > _SHOWN:
        click.echo(f"            ... and {count - _SHOWN:,} more; --json lists all.")


def _said(reason: str) -> str:
    """The reason with who gives it, as replays keep it."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        return reason
    return f"{reason}, asked by {who}" if reason else f"asked by {who}"
