"""The command line: each command a thin skin over a public call.

Exit codes: 0, all went well; 3, something was quarantined or blocked; 2, wrong usage or a bad
contract; 1, the system failed.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dagster_project.backtest_command import register_backtest_command
from dagster_project.notification_commands import register_notification_commands
from dagster_project.plan_command import register_plan_command
from dagster_project.platform_commands import register_platform_commands
from dagster_project.quarantine_commands import register_quarantine_commands
from dagster_project.reach import SYSTEM_FAILED, Reaching, fail, quiet, reach, settings_here
from dagster_project.replay_command import register_replay_command
from dagster_project.rollback_command import register_rollback_command
from dagster_project.status_commands import register_status_commands
from service_core.contract import ContractError, check_contracts, load_contract

if TYPE_CHECKING:
    from dagster_project.ingest import Progress

QUARANTINED = 3

_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lakegate", prog_name="lakegate")
def main() -> None:
    """Ingest files into a data lake, and publish only what keeps its contract.

    \b
    Examples:
      lakegate contract check
      lakegate ingest orders_1.csv --contract contracts/orders.yaml
      lakegate up
      lakegate land orders_1.csv --dataset orders
    """
    warnings.filterwarnings("ignore", module="dagster")


@main.command()
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@click.option(
    "--contract",
    "contract_file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The data set's contract.",
)
@click.option(
    "--partition",
    metavar="P",
    help="Landing partition, such as 2026-11-21; the running one by default.",
)
@click.option(
    "--export",
    "export_folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write published rows, quarantined rows and verdicts here.",
)
@click.option(
    "--engine",
    type=click.Choice(["contract", "auto", "in_process", "spark", "glue", "step_functions"]),
    default="in_process",
    show_default=True,
    help="What curates; `contract` for what the contract names. Results are the same.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def ingest(
    files: tuple[Path, ...],
    contract_file: Path,
    partition: str | None,
    engine: str,
    export_folder: Path | None,
    as_json: bool,
) -> None:
    """Take local files the whole way, on an embedded AWS that ends with the command.

    The files are landed, noticed by the sensor, validated, curated, judged and published as they
    would be in the cloud; nothing has to run beforehand.

    \b
    Examples:
      lakegate ingest orders_1.csv --contract contracts/orders.yaml
      lakegate ingest landing/*.csv --contract contracts/orders.yaml --export out
      lakegate ingest orders_1.csv --contract contracts/orders.yaml --json | jq .files
    """
    try:
        contract = load_contract(contract_file)
    except ContractError as problem:
        fail(str(problem))
    quiet()
    from dagster_project.export import export_outcome
    from dagster_project.ingest import IngestError, ingest_files
    from dagster_project.session import embedded_session
    from service_core.contract.model import Engine
    from service_core.partition import partition_start

    if partition is not None:
        try:
            partition_start(contract.landing, partition)
        except ValueError as problem:
            fail(str(problem))
    try:
        chosen = None if engine == "contract" else Engine(engine)
        with (
            embedded_session([contract], engine=chosen) as session,
            _progress(len(files)) as progress,
        ):
            report = ingest_files(session, contract, files, partition=partition, progress=progress)
            if export_folder is not None:
                export_outcome(session, contract, report, export_folder)
    except IngestError as problem:
        fail(str(problem), SYSTEM_FAILED)
    if as_json:
        click.echo(json.dumps(report.to_json(), ensure_ascii=True))
    else:
        from dagster_project.report import wide_console

        report.print(wide_console())
        if export_folder is not None:
            click.echo(f"\nExported to {export_folder}.")
    sys.exit(0 if report.all_published else QUARANTINED)


@main.group()
def contract() -> None:
    """Look at contracts."""


@contract.command("check")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE...]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, for scripts.")
def check(files: tuple[Path, ...], as_json: bool) -> None:
    """Check contracts and print every problem with its file and line.

    Without a FILE, all contracts of the project's folder are checked, against each other too.

    \b
    Examples:
      lakegate contract check
      lakegate contract check contracts/orders.yaml
    """
    paths = list(files) or sorted(settings_here().contracts.glob("*.y*ml"))
    if not paths:
        fail(f"There is no contract in {settings_here().contracts.resolve()}.")
    problems = check_contracts(paths)
    if as_json:
        found = [{"path": str(p.path), "line": p.line, "sentence": p.sentence} for p in problems]
        click.echo(json.dumps(found))
    else:
        for problem in problems:
            click.echo(str(problem))
        count = len(problems)
        click.echo(
            f"{len(paths)} contract{'s' * (len(paths) != 1)} checked, "
            f"{count or 'no'} problem{'s' * (count != 1)}.",
            err=bool(problems),
        )
    sys.exit(1 if problems else 0)


@main.command(cls=Reaching)
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@click.option("--dataset", required=True, metavar="NAME", help="Whose landing prefix to use.")
@click.option(
    "--date",
    "day",
    metavar="D",
    help="Landing partition, such as 2026-11-21 (2026-11-21-05:00 for an hour); the "
    "running one by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, for scripts.")
def land(files: tuple[Path, ...], dataset: str, day: str | None, as_json: bool) -> None:
    """Put files where their producer would.

    They go to the platform that `lakegate up` runs from this folder, or to the AWS that the
    environment names.

    \b
    Examples:
      lakegate land orders_1.csv --dataset orders
      lakegate land flights_2013-01-01.csv --dataset flights --date 2013-01-01
    """
    from dagster_project.landing import land_files, landing_keys, running_partition
    from resources.aws import client
    from service_core.layout import Zone
    from service_core.partition import partition_start

    platform = reach()
    settings, its = platform.settings, platform.contract(dataset)
    partition = day or running_partition(its, datetime.now(UTC))
    try:
        partition_start(its.landing, partition)
    except ValueError as problem:
        fail(str(problem))
    landed = landing_keys(its, files, partition)
    bucket = settings.bucket(Zone.RAW)
    land_files(
        landed,
        settings,
        client(settings, "s3"),
        on_landed=lambda one: None if as_json else click.echo(f"s3://{bucket}/{one.key}"),
    )
    if as_json:
        click.echo(
            json.dumps([{"path": str(o.path), "uri": f"s3://{bucket}/{o.key}"} for o in landed])
        )


@contextmanager
def _progress(files: int) -> Iterator[Progress]:
    """A bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    from dagster_project.ingest import Progress

    console = Console(stderr=True)
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bars:
        landed = bars.add_task("landing", total=files)
        judged = bars.add_task("judging", total=files)
        yield Progress(
            landed=lambda n: bars.advance(landed, n), judged=lambda n: bars.advance(judged, n)
        )


register_backtest_command(contract)
register_notification_commands(main)
register_plan_command(main)
register_platform_commands(main)
register_replay_command(main)
register_quarantine_commands(main)
register_status_commands(main)
register_rollback_command(main)


if __name__ == "__main__":
    main()
