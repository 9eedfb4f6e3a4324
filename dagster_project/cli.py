"""The command line: each command a thin skin over a public call.

Exit codes: 0, all went well; 3, something was quarantined or blocked; 2, wrong usage or a bad
contract; 1, the system failed.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dagster_project.backtest_command import register_backtest_command
from dagster_project.notification_commands import register_notification_commands
from dagster_project.plan_command import register_plan_command
from dagster_project.quarantine_commands import register_quarantine_commands
from dagster_project.replay_command import register_replay_command
from dagster_project.rollback_command import register_rollback_command
from dagster_project.status_commands import register_status_commands
from service_core.contract import ContractError, check_contracts, load_contract, load_contracts
from service_core.settings import Settings, SettingsError
from service_core.telemetry import configure_logging

if TYPE_CHECKING:
    from dagster_project.ingest import Progress
    from service_core.contract.model import Contract

QUARANTINED = 3
BAD_USAGE = 2
SYSTEM_FAILED = 1

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
    contract = _contract(contract_file)
    _quiet()
    from dagster_project.export import export_outcome
    from dagster_project.ingest import IngestError, ingest_files
    from dagster_project.session import embedded_session
    from service_core.contract.model import Engine
    from service_core.partition import partition_start

    if partition is not None:
        try:
            partition_start(contract.landing, partition)
        except ValueError as problem:
            _fail(str(problem), BAD_USAGE)
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
        _fail(str(problem), SYSTEM_FAILED)
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
    paths = list(files) or sorted(_settings().contracts.glob("*.y*ml"))
    if not paths:
        _fail(f"There is no contract in {_settings().contracts.resolve()}.", BAD_USAGE)
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


@main.command()
@click.option("--port", default=3000, show_default=True, help="The UI's port; 0 for any free.")
@click.option("--aws-port", default=0, help="The embedded AWS's port; any free by default.")
@click.option(
    "--sensor-seconds",
    default=30,
    show_default=True,
    type=click.IntRange(min=1),
    help="How often each sensor looks.",
)
@click.option(
    "--durable",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep objects, ledger, catalog and Dagster's history here, and go on from there.",
)
def up(port: int, aws_port: int, sensor_seconds: int, durable: Path | None) -> None:
    """Run the platform here: embedded AWS, Dagster UI and daemon, sensors on.

    Land files from another terminal in the same folder with `lakegate land`. Everything is in
    memory and gone when you stop it, unless a folder is named to keep it in.

    \b
    Examples:
      lakegate up
      lakegate up --port 3100 --sensor-seconds 5
      lakegate up --durable ~/lake
    """
    from dagster_project.up import UpError, platform
    from deploy.local.embedded import EmbeddedAwsError

    _end_on_sigterm()
    click.echo("Starting the embedded AWS and Dagster ...")
    try:
        with platform(
            port=port, aws_port=aws_port, sensor_seconds=sensor_seconds, durable=durable
        ) as running:
            click.echo(f"Dagster UI    {running.ui}")
            click.echo(f"Embedded AWS  {running.endpoint}")
            click.echo("Land a file with: lakegate land FILE --dataset NAME")
            click.echo("Ctrl-C stops everything.")
            while True:
                time.sleep(3600)
    except (UpError, EmbeddedAwsError) as problem:
        _fail(str(problem), SYSTEM_FAILED)
    except KeyboardInterrupt:
        click.echo("\nStopped.")


@main.command("bootstrap")
def bootstrap_command() -> None:
    """Create what the platform stands on, in the AWS that the environment names.

    Buckets, ledger table, event bus, topic, Glue database, Glue job and state machine; what is
    there already stays as it is, so the command can be repeated. .env.example lists the variables.

    \b
    Example:
      LAKEGATE_ENV=staging LAKEGATE_NAME_PREFIX=our-lake lakegate bootstrap
    """
    from botocore.exceptions import BotoCoreError, ClientError

    from deploy.bootstrap import BootstrapError, bootstrap
    from resources.aws import clients
    from service_core.layout import Zone

    settings = _settings()
    try:
        bootstrap(settings, clients(settings))
    except (BootstrapError, BotoCoreError, ClientError) as problem:
        _fail(f"AWS could not be prepared: {problem}", SYSTEM_FAILED)
    for bucket in (*map(settings.bucket, Zone), settings.artifacts_bucket):
        click.echo(f"bucket   {bucket}")
    click.echo(f"ledger   {settings.ledger_table}")
    click.echo(f"bus      {settings.event_bus}")
    click.echo(f"topic    {settings.alerts_topic}")
    click.echo(f"database {settings.database}")
    click.echo(f"job      {settings.glue_job}")
    click.echo(f"machine  {settings.state_machine}")


@main.command()
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
    from dagster_project.up import running_platform
    from resources.aws import client
    from service_core.layout import Zone
    from service_core.partition import partition_start

    if (running := running_platform()) is not None:
        os.environ.update(running.environment)
    settings = _settings()
    try:
        contracts = {c.dataset: c for c in load_contracts(settings.contracts)}
    except ContractError as problem:
        _fail(str(problem), BAD_USAGE)
    if dataset not in contracts:
        known = ", ".join(sorted(contracts)) or "none"
        _fail(f"No contract describes a data set {dataset!r}. Known: {known}.", BAD_USAGE)
    its = contracts[dataset]
    partition = day or running_partition(its, datetime.now(UTC))
    try:
        partition_start(its.landing, partition)
    except ValueError as problem:
        _fail(str(problem), BAD_USAGE)
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


@main.command("package")
@click.option(
    "--out",
    default="dist",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where to put the packages.",
)
@click.option(
    "--only",
    type=click.Choice(["archive", "layer"]),
    help="Build one of the two; both by default.",
)
@click.option(
    "--architecture",
    default="x86_64",
    show_default=True,
    type=click.Choice(["x86_64", "arm64"]),
    help="The Lambda function's.",
)
@click.option(
    "--with",
    "extra",
    multiple=True,
    metavar="PROJECT",
    help="A dependency that the layer carries beside the usual, such as zstandard; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
def package_command(
    out: Path, only: str | None, architecture: str, extra: tuple[str, ...], as_json: bool
) -> None:
    """Build what other runtimes get: the Glue archive and the Lambda layer of `service_core`.

    The same sources give the same bytes under the same name, wherever they are built; what lies in
    DIR already is not built again. docs/packaging.md says what each holds.

    \b
    Examples:
      lakegate package
      lakegate package --only layer --architecture arm64 --with zstandard
      lakegate package --json | jq -r .archive.path
    """
    from deploy.lambda_layer import Architecture, build_lambda_layer, megabytes
    from deploy.packaging import Package, PackagingError, build_glue_archive

    built: dict[str, Package] = {}
    try:
        if only != "layer":
            built["archive"] = build_glue_archive(out)
        if only != "archive":
            with _bar("packing the layer") as packed:
                built["layer"] = build_lambda_layer(
                    out, architecture=Architecture(architecture), extra=extra, packed=packed
                )
    except PackagingError as problem:
        _fail(str(problem), SYSTEM_FAILED)
    finally:
        if not as_json:
            for kind, one in built.items():
                state = "unchanged" if one.unchanged else "built"
                size = f"{megabytes(one.bytes)}, {megabytes(one.unpacked_bytes)} unpacked"
                click.echo(f"{kind:8} {one.path} ({size}): {state}")
    if as_json:
        click.echo(json.dumps({kind: one.to_json() for kind, one in built.items()}))


@main.command(hidden=True)
@click.option(
    "--engine",
    type=click.Choice(["spark", "glue", "step_functions"]),
    help="What curates batches whose contracts leave it open; needs Spark installed.",
)
@click.option("--once", is_flag=True, help="End when everything that was landed is done.")
@click.option("--port", default=3000, show_default=True, help="The UI's port; 0 for any free.")
@click.option(
    "--replay",
    is_flag=True,
    help="Show instead how refused files are released; needs no UI, and ends by itself.",
)
def demo(engine: str | None, once: bool, port: int, replay: bool) -> None:
    """What `make demo` runs: real files from a raw bucket to a queryable table."""
    from dagster_project.demo import run_demo
    from dagster_project.demo_replay import run_replay_demo

    _end_on_sigterm()
    if replay:
        _quiet()
        sys.exit(run_replay_demo())
    sys.exit(run_demo(once=once, port=port, engine=engine))


def _contract(path: Path) -> Contract:
    try:
        return load_contract(path)
    except ContractError as problem:
        _fail(str(problem), BAD_USAGE)


def _settings() -> Settings:
    try:
        return Settings.from_environment(os.environ)
    except SettingsError as problem:
        _fail(str(problem), BAD_USAGE)


def _fail(sentence: str, code: int):  # type: ignore[no-untyped-def]
    click.echo(sentence, err=True)
    sys.exit(code)


def _quiet() -> None:
    """Leave the terminal to the command's own output: the logs are for those who run a platform."""
    logging.disable(logging.ERROR)
    configure_logging(io.StringIO())


def _end_on_sigterm() -> None:
    """Let SIGTERM unwind the stack like Ctrl-C does, so that no child is left behind."""
    import signal

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


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


@contextmanager
def _bar(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, told how much of how much is done; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bars:
        task = bars.add_task(doing, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


register_backtest_command(contract)
register_notification_commands(main)
register_plan_command(main)
register_replay_command(main)
register_quarantine_commands(main)
register_status_commands(main)
register_rollback_command(main)


if __name__ == "__main__":
    main()
