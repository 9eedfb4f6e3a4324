"""Commands that start a platform here, prepare one in AWS, or pack what its other runtimes get."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from dagster_project.reach import SYSTEM_FAILED, fail, quiet, settings_here


def register_platform_commands(main: click.Group) -> None:
    """Add these commands to the command line."""
    main.add_command(up)
    main.add_command(bootstrap_command)
    main.add_command(package_command)
    main.add_command(demo)


@click.command()
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
        fail(str(problem), SYSTEM_FAILED)
    except KeyboardInterrupt:
        click.echo("\nStopped.")


@click.command("bootstrap")
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

    settings = settings_here()
    try:
        bootstrap(settings, clients(settings))
    except (BootstrapError, BotoCoreError, ClientError) as problem:
        fail(f"AWS could not be prepared: {problem}", SYSTEM_FAILED)
    for bucket in (*map(settings.bucket, Zone), settings.artifacts_bucket):
        click.echo(f"bucket   {bucket}")
    click.echo(f"ledger   {settings.ledger_table}")
    click.echo(f"bus      {settings.event_bus}")
    click.echo(f"topic    {settings.alerts_topic}")
    click.echo(f"database {settings.database}")
    click.echo(f"job      {settings.glue_job}")
    click.echo(f"machine  {settings.state_machine}")


@click.command("package")
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
        fail(str(problem), SYSTEM_FAILED)
    finally:
        if not as_json:
            for kind, one in built.items():
                state = "unchanged" if one.unchanged else "built"
                size = f"{megabytes(one.bytes)}, {megabytes(one.unpacked_bytes)} unpacked"
                click.echo(f"{kind:8} {one.path} ({size}): {state}")
    if as_json:
        click.echo(json.dumps({kind: one.to_json() for kind, one in built.items()}))


@click.command(hidden=True)
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
        quiet()
        sys.exit(run_replay_demo(click.get_current_context().find_root().command))
    sys.exit(run_demo(once=once, port=port, engine=engine))


def _end_on_sigterm() -> None:
    """Let SIGTERM unwind the stack like Ctrl-C does, so that no child is left behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


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
