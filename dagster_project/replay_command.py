"""`lakegate replay`: a thin skin over a replay request."""

from __future__ import annotations

from pathlib import Path

import click

from dagster_project.reach import Reaching, fail, reach
from dagster_project.replay_asking import ask, asking, request_of, span

_STATES = (
    "received",
    "validated",
    "curated",
    "published",
    "quarantined",
    "superseded",
    "rolled_back",
)


def register_replay_command(main: click.Group) -> None:
    """Add the command."""
    main.add_command(replay)


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
@asking
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
            "partitions": span(partition, partitions),
            "keyPrefix": key_prefix,
            "reasonCodes": list(reason_codes) or None,
            "contractVersion": contract_version,
            "state": state,
            "batchId": batch_id,
        }
        body = request_of(
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
    ask(reach(), body, wait=wait, timeout=timeout, as_json=as_json)
