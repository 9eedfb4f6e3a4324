"""The demo: real files from a raw bucket to queryable tables, by the sensors alone.

Everything goes the way it goes in the cloud. This module only puts files where producers would,
watches the ledger and the runs, and says what became of each file; it starts no run itself.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dagster_project.flights import FlightsMissing, cut_days
from dagster_project.report import wide_console
from dagster_project.standing import StuckError, Watch, wait_until_over
from service_core.layout import Zone

if TYPE_CHECKING:
    from dagster_project.up import Platform
    from service_core.contract.model import Contract
    from service_core.ports import ObjectStore
    from service_core.settings import Settings
    from service_core.verdict import FileOutcome, Verdict

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
#: The month whose flights are landed: the shortest, 24,951 of them.
MONTH = 2

_SENSOR_SECONDS = 5


class DemoError(Exception):
    """The demo cannot be given; the message says why."""


# --- What is landed -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivery:
    """Files of one data set for one landing partition."""

    dataset: str
    partition: str
    paths: tuple[Path, ...]


def deliveries(
    today: date, scratch: Path, *, golden: Path = GOLDEN, with_spark: bool = False
) -> tuple[Delivery, ...]:
    """What the demo lands: golden orders and customers as today's, the late ones as of the day
    that makes them late, and a month of flights, a file for each day, delivered week by week.

    Args:
        today: In UTC, by which landing days go.
        scratch: Where the flights' files are cut.
        golden: The folder of golden files; `expected.json` in each data set's folder names them.
        with_spark: Whether Spark curates: then shipments are landed too, whose contract asks for
            it, and only the first week of the flights, because every run starts a Spark.

    Raises:
        DemoError: the demo's data is not there.
    """
    found = []
    for dataset in ("orders", "customers", *(("shipments",) if with_spark else ())):
        by_day: dict[date, list[Path]] = {}
        for name, expected in _golden_files(golden / dataset).items():
            day = today - timedelta(days=expected.get("days_ago", 0))
            by_day.setdefault(day, []).append(golden / dataset / name)
        found += [Delivery(dataset, day.isoformat(), tuple(paths)) for day, paths in by_day.items()]
    try:
        days = cut_days(scratch, month=MONTH)
    except FlightsMissing as missing:
        raise DemoError(str(missing)) from missing
    # A run is a process of some seconds: four runs of seven files show as much as 28 of one.
    for week in range(0, 7 if with_spark else len(days), 7):
        files = days[week : week + 7]
        found.append(
            Delivery("flights", files[-1].day.isoformat(), tuple(one.path for one in files))
        )
    return tuple(found)


def _golden_files(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        return dict(json.loads((folder / "expected.json").read_text()))
    except FileNotFoundError as missing:
        raise DemoError(
            f"{missing.filename} is not there; the demo needs a whole clone of the project."
        ) from missing


# --- What became of it ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Published:
    """A data set's table as it stands.

    Attributes:
        table: `database.table`.
        rows: Rows that a query of it sees.
        snapshots: Commits that it has.
    """

    dataset: str
    table: str
    rows: int
    snapshots: int


def print_outcome(
    verdicts: Sequence[Verdict], published: Sequence[Published], console: Console
) -> None:
    """What was published, what was quarantined and why, and whether the rows add up."""
    console.print()
    console.print(_published_table(verdicts, published))
    console.print()
    console.print(_quarantined_table(verdicts))
    read = sum(v.rows_read for v in verdicts)
    accepted = sum(v.rows_accepted for v in verdicts)
    quarantined = sum(v.rows_quarantined for v in verdicts)
    equal = "=" if read == accepted + quarantined else "[red]is not[/]"
    console.print(
        f"\n{read:,} rows read {equal} {accepted:,} accepted + {quarantined:,} quarantined, "
        f"in {len(verdicts)} batches."
    )


def _published_table(verdicts: Sequence[Verdict], published: Sequence[Published]) -> Table:
    files = Counter(v.dataset for v in verdicts for f in v.files if f.rows_accepted)
    table = Table(title="Published", title_justify="left", title_style="bold", box=None)
    for name in ("data set", "table", "engine"):
        table.add_column(name)
    for name in ("files", "rows", "snapshots"):
        table.add_column(name, justify="right")
    for one in published:
        table.add_row(
            one.dataset,
            one.table,
            ", ".join(sorted({v.engine for v in verdicts if v.dataset == one.dataset})),
            f"{files[one.dataset]:,}",
            f"{one.rows:,}",
            str(one.snapshots),
        )
    return table


def _quarantined_table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(title="Quarantined", title_justify="left", title_style="bold", box=None)
    table.add_column("file", overflow="fold")
    table.add_column("what")
    table.add_column("reason", no_wrap=True)
    table.add_column("first occurrence", overflow="fold")
    for outcome in _by_name(f for v in verdicts for f in v.files if f.findings):
        name = outcome.source_object.key.rpartition("/")[2]
        for finding in outcome.findings:
            rows = f"{finding.count:,} row{'s' * (finding.count != 1)}"
            what = "whole file" if finding.scope == "file" else rows
            said_already = finding.message.startswith(f"line {finding.line}")
            line = "" if finding.line is None or said_already else f"line {finding.line}: "
            table.add_row(escape(name), what, finding.code.value, escape(line + finding.message))
            name = ""
    return table


def _by_name(outcomes: Iterable[FileOutcome]) -> list[FileOutcome]:
    return sorted(outcomes, key=lambda f: f.source_object.key)


# --- The whole ------------------------------------------------------------------------------------


def run_demo(
    *, once: bool, port: int = 3000, engine: str | None = None, console: Console | None = None
) -> int:
    """Start the platform, land the demo's files, show what becomes of them.

    Args:
        once: End when everything that was landed is done, instead of staying up.
        port: The UI's port; 0 for any free one.
        engine: What curates where the contract leaves it open; one that runs on Spark, or None.
        console: Where to print.

    Returns:
        The exit code: 0, or 1 with a sentence printed where the platform did not start or
        something that was landed did not come to its end.
    """
    from dagster_project.up import UpError
    from deploy.local.embedded import EmbeddedAwsError

    console = console or wide_console()
    try:
        with demonstrated(port, console, engine=engine) as up:
            if once:
                console.print(
                    "\nThe platform ends here. `make demo` without ONCE=1 keeps it up, to look at."
                )
                return 0
            _print_where_to_look(up.ui, console)
            console.print(
                "\nThe platform stays up; land more with `lakegate land`. Ctrl-C stops it."
            )
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        console.print("\nStopped.")
    except (DemoError, StuckError, UpError, EmbeddedAwsError) as problem:
        Console(stderr=True, highlight=False).print(escape(str(problem)), soft_wrap=True)
        return 1
    return 0


@contextmanager
def demonstrated(port: int, console: Console, *, engine: str | None = None) -> Iterator[Platform]:
    """A running platform on which everything that the demo lands has come to its end.

    Raises:
        DemoError: its data is not there.
        StuckError: something that was landed does not come to its end.
        UpError, EmbeddedAwsError: the platform does not start.
    """
    from dagster_project.up import platform

    console.print("Starting the embedded AWS, the Dagster UI and its daemon ...")
    with (
        tempfile.TemporaryDirectory(prefix="lakegate-demo-") as scratch,
        platform(port=port, sensor_seconds=_SENSOR_SECONDS, engine=engine) as up,
    ):
        console.print(f"Dagster UI: {up.ui}\n")
        _land_and_watch(Path(scratch), console, with_spark=engine is not None)
        yield up


def _land_and_watch(scratch: Path, console: Console, *, with_spark: bool) -> None:
    from dagster import DagsterInstance

    from resources.catalog import CatalogResource
    from resources.ledger import LedgerResource
    from resources.object_store import ObjectStoreResource
    from service_core.contract import load_contracts
    from service_core.gate import read_verdict
    from service_core.settings import Settings

    settings = Settings.from_environment(os.environ)
    contracts = {c.dataset: c for c in load_contracts(settings.contracts)}
    store = ObjectStoreResource.of(settings).store()
    wanted = deliveries(datetime.now(UTC).date(), scratch, with_spark=with_spark)
    ids = _land(wanted, contracts, settings, store, console)
    with DagsterInstance.get() as instance:
        watch = Watch(LedgerResource.of(settings).ledger(), instance, ids)
        wait_until_over(watch, console)
    batches = sorted({(e.dataset, e.partition, e.batch_id) for e in watch.entries.values()})
    catalog = CatalogResource.of(settings).catalog()
    published = []
    for dataset in sorted({dataset for dataset, _, _ in batches}):
        table = catalog.table(contracts[dataset])
        if table is not None and (snapshot := table.current_snapshot()) is not None:
            rows = int(snapshot.summary["total-records"]) if snapshot.summary else 0
            name = catalog.table_name(contracts[dataset])
            published.append(Published(dataset, name, rows, len(table.metadata.snapshots)))
    print_outcome([read_verdict(store, *batch) for batch in batches], published, console)


def _land(
    wanted: Sequence[Delivery],
    contracts: Mapping[str, Contract],
    settings: Settings,
    store: ObjectStore,
    console: Console,
) -> tuple[str, ...]:
    """Land everything; returns the ids of the source objects that it became."""
    from dagster_project.landing import land_files, landing_keys
    from resources.aws import client
    from service_core.arrival import source_object_of

    landed = [
        one
        for delivery in wanted
        for one in landing_keys(contracts[delivery.dataset], delivery.paths, delivery.partition)
    ]
    land_files(landed, settings, client(settings, "s3"))
    keys = {one.key for one in landed}
    ids: list[str] = []
    for dataset in dict.fromkeys(delivery.dataset for delivery in wanted):
        contract, resume = contracts[dataset], None
        before = len(ids)
        while True:
            page = store.list_versions(contract.landing.prefix, resume=resume)
            objects = [source_object_of(contract, settings.bucket(Zone.RAW), o)
                       for o in page.objects]  # fmt: skip
            ids += [o.id for o in objects if o.key in keys]
            if (resume := page.resume) is None:
                break
        console.print(f"Landed {len(ids) - before} files of {dataset}")
    return tuple(ids)


def _print_where_to_look(ui: str, console: Console) -> None:
    console.print("\n[bold]Where to look[/]")
    for what, path in (
        ("lineage", "/locations/lakegate/asset-groups/orders/lineage"),
        ("checks", "/assets/curated/orders?view=checks"),
        ("runs", "/runs"),
        ("sensors", "/automation"),
    ):
        console.print(f"  {what:<8} {ui}{path}", soft_wrap=True)
