"""`lakegate plan`: what processing files would take, before anything is processed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from dagster_project.landing import landing_keys, running_partition
from dagster_project.reach import Reaching, fail
from service_core.contract import ContractError, load_contract
from service_core.contract.model import Contract, Engine
from service_core.layout import Zone
from service_core.plan import Plan, plan
from service_core.ports import Listed
from service_core.settings import Settings, SettingsError
from service_core.source_object import SourceObject

#: Refusals named on a terminal; `--json` has all of them.
_NAMED = 10


def register_plan_command(main: click.Group) -> None:
    """Add the command."""
    main.add_command(plan_command)


@click.command("plan", cls=Reaching)
@click.argument("things", nargs=-1, required=True, metavar="FILE|PREFIX...")
@click.option(
    "--contract",
    "contract_file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The data set's contract.",
)
@click.option("--partition", metavar="P", help="The landing partition of local files.")
@click.option(
    "--engine", type=click.Choice([e.value for e in Engine]), help="As a run's configuration would."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def plan_command(
    things: tuple[str, ...],
    contract_file: Path,
    partition: str | None,
    engine: str | None,
    as_json: bool,
) -> None:
    """Say which engine would take files, in how many batches, in what time, at what cost, and why.

    FILE is a local file, or a folder of them; PREFIX is a key prefix of the raw bucket, alone or as
    s3://BUCKET/PREFIX, of which the latest versions count. Nothing is landed or processed. Files
    whose name or size alone would take them to quarantine are named.

    \b
    Examples:
      lakegate plan orders_1.csv --contract contracts/orders.yaml
      lakegate plan orders/dt=2026-11-21/ --contract contracts/orders.yaml --json
    """
    from service_core.engine_choice import Prices

    try:
        contract = load_contract(contract_file)
        settings = Settings.from_environment(os.environ)
    except (ContractError, SettingsError) as problem:
        fail(str(problem))
    objects = list(_objects(things, contract, settings, partition))
    if not objects:
        fail(f"Nothing lies under {', '.join(things)}. Name files, or a prefix of the raw bucket.")
    found = plan(
        contract,
        objects,
        prices=Prices.of(settings),
        default=settings.engine,
        override=Engine(engine) if engine else None,
    )
    if as_json:
        click.echo(json.dumps(_told(contract, found), indent=2))
    else:
        _show(contract, found)


def _objects(
    things: Iterable[str], contract: Contract, settings: Settings, partition: str | None
) -> Iterator[SourceObject]:
    from service_core.arrival import source_object_of

    bucket = settings.bucket(Zone.RAW)
    local: list[Path] = []
    for thing in things:
        path = Path(thing)
        if path.is_dir():
            local += sorted(inner for inner in path.rglob("*") if inner.is_file())
        elif path.is_file():
            local.append(path)
        else:
            for listed in _listed(_key(thing, bucket, contract), settings):
                yield source_object_of(contract, bucket, listed)
    now = datetime.now(UTC)
    landed = landing_keys(contract, local, partition or running_partition(contract, now))
    for sequence, one in enumerate(landed):
        size = one.path.stat().st_size
        listed = Listed(
            key=one.key,
            version_id=None,
            etag=str(sequence),
            size=size,
            last_modified=now,
            is_latest=True,
            sequence=sequence,
        )
        yield source_object_of(contract, bucket, listed)


def _key(thing: str, bucket: str, contract: Contract) -> str:
    """The key prefix that a person means."""
    key = thing
    if thing.startswith("s3://"):
        named, _, key = thing.removeprefix("s3://").partition("/")
        if named != bucket:
            fail(f"{thing} is not in the raw bucket {bucket}, from which files are taken.")
    if not key.startswith(contract.landing.prefix):
        fail(
            f"{thing} is no local file, and as a key of the raw bucket it is not under "
            f"{contract.landing.prefix}, where {contract.dataset} lands."
        )
    return key


def _listed(prefix: str, settings: Settings) -> Iterator[Listed]:
    from resources.object_store import ObjectStoreResource

    store, resume = ObjectStoreResource.of(settings).store(), None
    while True:
        page = store.list_versions(prefix, resume=resume)
        yield from (listed for listed in page.objects if listed.is_latest)
        if (resume := page.resume) is None:
            return


def _told(contract: Contract, found: Plan) -> dict[str, Any]:
    return {
        "dataset": contract.dataset,
        "files": sum(batch.files for batch in found.batches),
        "bytes": sum(batch.bytes for batch in found.batches),
        "seconds": round(found.seconds, 1),
        "cost": round(found.cost, 6),
        "batches": [
            {
                "partition": batch.partition,
                "files": batch.files,
                "bytes": batch.bytes,
                "engine": batch.choice.engine.value,
                "because": batch.choice.reason,
                "seconds": round(batch.seconds, 1),
                "cost": round(batch.cost, 6),
            }
            for batch in found.batches
        ],
        "refused": [
            {"key": one.key, "reason": one.reason, "message": one.message} for one in found.refusals
        ],
    }


def _show(contract: Contract, found: Plan) -> None:
    from rich.table import Table

    from dagster_project.report import wide_console

    console = wide_console()
    table = Table("partition", "files", "bytes", "engine", "seconds", "cost", "because")
    for batch in found.batches:
        table.add_row(
            batch.partition,
            f"{batch.files:,}",
            f"{batch.bytes:,}",
            batch.choice.engine.value,
            f"{batch.seconds:,.1f}",
            f"{batch.cost:.5f}",
            batch.choice.reason,
        )
    console.print(table)
    batches, files = len(found.batches), sum(batch.files for batch in found.batches)
    console.print(
        f"{contract.dataset}: {files:,} file{'s' if files != 1 else ''} in {batches:,} "
        f"batch{'es' if batches != 1 else ''}, about {found.seconds:,.0f} s one after the other, "
        f"about {found.cost:.5f} US dollars. Estimates: docs/engines.md says of what."
    )
    for refused in found.refusals[:_NAMED]:
        console.print(f"To quarantine as {refused.reason}: {refused.key}: {refused.message}")
    if (more := len(found.refusals) - _NAMED) > 0:
        console.print(f"... and {more:,} more; --json names them all.")
