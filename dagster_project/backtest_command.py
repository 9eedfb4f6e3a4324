"""`lakegate contract backtest`: a proposed contract tried on raw history."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from dagster_project.reach import Reaching, fail, reach
from service_core.contract import ContractError, load_contract

#: Rows would be lost, or something would be blocked.
WOULD_LOSE = 3


def register_backtest_command(contract: click.Group) -> None:
    """Add the command to the group `contract`."""
    contract.add_command(backtest_command)


@click.command("backtest", cls=Reaching)
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--partitions",
    required=True,
    metavar="A..B",
    help="Landing partitions from A to B, both included, or a single one.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    help="The data set to compare with, where the contract has another name.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def backtest_command(file: Path, partitions: str, dataset: str | None, as_json: bool) -> None:
    """Try a contract on what has landed, and print what publishing under it would change.

    The files of whole partitions are validated and judged by the contract in FILE, in scratch, and
    compared with the rows that are published. Nothing is published, and nothing is left behind.

    Exit code 0 where no published row would be lost and nothing blocked; 3 where one would.

    \b
    Examples:
      lakegate contract backtest orders_v2.yaml --partitions 2026-11-01..2026-11-21
      lakegate contract backtest orders_v2.yaml --partitions 2026-11-21 --json | jq .total.rows
    """
    from dagster_project.difference_page import print_report
    from dagster_project.report import wide_console
    from resources.catalog import CatalogResource
    from service_core.replay.backtest import backtest, partitions_named
    from service_core.run import Run

    try:
        contract = load_contract(file)
    except ContractError as problem:
        fail(str(problem))
    at = reach()
    if dataset is not None:
        contract = replace(contract, dataset=at.contract(dataset).dataset)
    # Where none is loaded, the contract is of a data set to come, and every row is new.
    in_force = at.contracts.get(contract.dataset)
    try:
        named = partitions_named(contract.landing, partitions)
    except ValueError as problem:
        fail(f"--partitions: {problem}")
    scratch = at.settings.scratch
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    identity = f"backtest-{secrets.token_hex(8)}"
    with (
        tempfile.TemporaryDirectory(prefix="lakegate-", dir=scratch) as folder,
        _bar(len(named)) as begun,
    ):
        report = backtest(
            contract,
            named,
            store=at.store,
            ledger=at.ledger,
            catalog=CatalogResource.of(at.settings).catalog(),
            run=Run(identity, identity, lambda: datetime.now(UTC), Path(folder)),
            in_force=in_force,
            begun=begun,
        )
    if as_json:
        click.echo(json.dumps(report.model_dump(mode="json"), ensure_ascii=True))
    else:
        print_report(report, wide_console())
    sys.exit(WOULD_LOSE if report.loses or report.blocked else 0)


@contextmanager
def _bar(partitions: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, told of each partition that begins; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("partitions"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bars:
        task = bars.add_task("", total=partitions)
        done = -1

        def begun(partition: str) -> None:
            nonlocal done
            done += 1
            bars.update(task, description=partition, completed=done)

        yield begun
