"""The replay demo: files are refused by a wrong contract, and released once it is mended.

Every command is run as a person would run it, and printed before its output. Nothing is claimed
that is not looked up afterwards where it has to be true: in the table, in quarantine, in the ledger
and in the replay's folder. A claim that does not hold ends the demo with exit code 1.

The sensors, jobs and runs are the real ones; they are ticked and executed by this process in place
of a daemon, so that the demo is short.
"""

from __future__ import annotations

import contextlib
import difflib
import shlex
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dagster_project.demo import ROOT, DemoError
from dagster_project.report import wide_console

if TYPE_CHECKING:
    from dagster_project.session import Session
    from service_core.replay.audit import AuditRecord

DATASET = "orders"
REPLAY_ID = "euro-is-a-currency"
REASON_CODES = ("NOT_ALLOWED", "TOO_MANY_DIVERTED")

_ALLOWED = "validValues: [USD, EUR, GBP, INR, JPY]"
_FORGOTTEN = "validValues: [USD, GBP, INR, JPY]"
_VERSION = "version: 1.0.0"
_WRONG_VERSION, _MENDED_VERSION = "version: 1.1.0", "version: 1.1.1"
_HEADER = "order_id,customer_id,amount,currency,event_ts,status,country,quantity,note"
_ROWS = 40


@dataclass(frozen=True, slots=True)
class Figures:
    """What stands where, at one moment.

    Attributes:
        published: Rows that a query of the table sees.
        files_held: Files in quarantine.
        rows_held: Diverted rows in quarantine, of files that are published without them.
        released: Files and batches' rows that are marked as released.
    """

    published: int
    files_held: int
    rows_held: int
    released: int


# --- What is landed, and the two contracts --------------------------------------------------------


def contract_texts(shipped: str) -> tuple[str, str]:
    """The orders contract with one currency forgotten, and the same mended.

    Raises:
        DemoError: the shipped contract does not say any more what the demo takes out of it.
    """
    for wanted in (_ALLOWED, _VERSION):
        if shipped.count(wanted) != 1:
            raise DemoError(
                f"contracts/orders.yaml does not hold {wanted!r} exactly once, which the replay "
                "demo changes; bring dagster_project/demo_replay.py up to date."
            )
    wrong = shipped.replace(_ALLOWED, _FORGOTTEN).replace(_VERSION, _WRONG_VERSION)
    return wrong, shipped.replace(_VERSION, _MENDED_VERSION)


def orders_files(folder: Path, partition: str, first: int) -> tuple[Path, ...]:
    """A day's files of four shops: one pays in dollars, one in pounds and now and then in euros,
    one in euros, and one sends a file without amounts.

    Args:
        first: The number of the day's first order.
    """
    numbers = iter(range(first, first + 10 * _ROWS))

    def write(shop: str, currencies: Sequence[str]) -> Path:
        path = folder / f"orders_{shop}_{partition}.csv"
        lines = [
            f"O{next(numbers):09d},C{n:06d},{10 + n}.50,{currency},{partition}T10:00:00Z,paid,,1,"
            for n, currency in enumerate(currencies)
        ]
        path.write_text("\n".join([_HEADER, *lines, ""]))
        return path

    broken = folder / f"orders_broken_{partition}.csv"
    broken.write_text(f"order_id,customer_id\nO{first + 9 * _ROWS:09d},C000001\n")
    return (
        write("boston", ["USD"] * _ROWS),
        write("leeds", ["EUR" if n % 10 == 0 else "GBP" for n in range(_ROWS)]),
        write("bonn", ["EUR"] * _ROWS),
        broken,
    )


# --- The stage ------------------------------------------------------------------------------------


@dataclass
class _Stage:
    """Where the demo plays: a session of the contract in force, the command line that is shown,
    and what has been verified."""

    lakegate: click.Command
    session: Session
    console: Console
    verified: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self.console.print(f"\n[bold underline]{text}[/]\n")

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def verify(self, holds: bool, claim: str) -> None:
        """Note a claim that holds.

        Raises:
            DemoError: it does not.
        """
        if not holds:
            raise DemoError(f"This was to be shown, and is not so: {claim}")
        self.verified.append(claim)
        self.console.print(f"[green]✓[/] {escape(claim)}", soft_wrap=True)

    def command(self, *arguments: str, code: int = 0) -> None:
        """Echo a command, run it, and see that it ends as it should. What it waits for is done
        meanwhile.

        Raises:
            DemoError: its exit code is another.
        """
        from service_core.naming import REPLAYS_SENSOR

        self.echo("lakegate", *arguments)
        ended = _Ended(self.lakegate, arguments)
        while not ended.wait(0.2):
            for request in self.session.tick_named(REPLAYS_SENSOR).requests:
                self.session.execute(DATASET, request)
        self.console.print()
        if ended.code != code:
            raise DemoError(
                f"`lakegate {shlex.join(arguments)}` ended with exit code {ended.code}; expected "
                f"was {code}."
            )

    def echo(self, *command: str) -> None:
        self.console.print(f"[bold cyan]$ {escape(shlex.join(command))}[/]", soft_wrap=True)

    def run_arrivals(self) -> None:
        """Tick the arrivals sensor and execute what it requests, until it finds no more."""
        while requests := self.session.tick(DATASET).requests:
            for request in requests:
                self.say(f"[dim]run of batch {request.run_key} ({request.partition_key}) ...[/]")
                self.session.execute(DATASET, request)

    def figures(self) -> Figures:
        """What stands where now."""
        from resources.catalog import CatalogResource
        from resources.ledger import LedgerResource
        from resources.object_store import ObjectStoreResource
        from service_core.replay.held import held_files, held_rows

        settings = self.session.settings
        store = ObjectStoreResource.of(settings).store()
        ledger = LedgerResource.of(settings).ledger()
        contract = self.session.contracts[0]
        catalog = CatalogResource.of(settings).catalog()
        files = list(held_files(store, ledger, DATASET, released_too=True))
        rows = list(held_rows(store, ledger, DATASET, released_too=True))
        return Figures(
            published=catalog.scan(contract, columns=["order_id"]).read_all().num_rows,
            files_held=sum(one.held for one in files),
            rows_held=sum(one.outcome.rows_quarantined for one in rows if one.held),
            released=sum(one.released is not None for one in files),
        )


class _Ended:
    """A command that runs beside, as one in another terminal would."""

    def __init__(self, lakegate: click.Command, arguments: Sequence[str]) -> None:
        self._lakegate = lakegate
        self.code: int | None = None
        self._arguments = list(arguments)
        self._thread = threading.Thread(target=self._run, name="command", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        # 1 stands where the command is ended by an exception, whose traceback is then printed.
        self.code = 1
        try:
            self._lakegate.main(self._arguments, prog_name="lakegate", standalone_mode=False)
            self.code = 0
        except click.ClickException as problem:
            problem.show()
            self.code = problem.exit_code
        except SystemExit as end:
            self.code = int(end.code or 0)


# --- The play -------------------------------------------------------------------------------------


def run_replay_demo(lakegate: click.Command, console: Console | None = None) -> int:
    """Give the demo on an embedded AWS of its own, which ends with it.

    Args:
        lakegate: The whole command line.
        console: Where it is told; a wide one on stdout by default.

    Returns:
        The exit code: 0 where everything that was said has been verified; else 1, with a sentence.
    """
    from deploy.local.embedded import EmbeddedAwsError

    console = console or wide_console()
    began = datetime.now(UTC)
    try:
        with _stage(lakegate, console) as stage:
            _play(stage, Path.cwd(), began)
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 1
    except (DemoError, EmbeddedAwsError) as problem:
        Console(stderr=True, highlight=False).print(escape(str(problem)), soft_wrap=True)
        return 1
    seconds = (datetime.now(UTC) - began).total_seconds()
    console.print(
        f"\n{len(stage.verified)} claims, each verified, in {seconds:.0f} s. Everything that was "
        "started has ended."
    )
    return 0


@contextmanager
def _stage(lakegate: click.Command, console: Console) -> Iterator[_Stage]:
    """An embedded AWS, the wrong contract in force, and a scratch folder as the current one, from
    which the commands reach nothing else."""
    from dagster_project.session import embedded_session, environment
    from service_core.contract import load_contract

    wrong, mended = contract_texts((ROOT / "contracts" / "orders.yaml").read_text())
    console.print("Starting an embedded AWS ...")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lakegate-demo-")))
        for folder, text in (("contracts", wrong), ("proposed", mended)):
            (scratch / folder).mkdir()
            (scratch / folder / "orders.yaml").write_text(text)
        variables = {
            "LAKEGATE_CONTRACTS": str(scratch / "contracts"),
            "LAKEGATE_SCRATCH": str(scratch / "scratch"),
        }
        stack.enter_context(environment(variables))
        stack.enter_context(contextlib.chdir(scratch))
        contract = load_contract(scratch / "contracts" / "orders.yaml")
        yield _Stage(lakegate, stack.enter_context(embedded_session([contract])), console)


def _play(stage: _Stage, folder: Path, today: datetime) -> None:
    days = [f"{today - timedelta(days=ago):%Y-%m-%d}" for ago in (1, 0)]
    span = f"{days[0]}..{days[1]}"

    stage.heading("1  Orders land, and the contract forgot that euros are money")
    for number, day in enumerate(days):
        paths = orders_files(folder, day, 1 + number * 100_000)
        names = [path.name for path in paths]
        stage.command("land", *names, "--dataset", DATASET, "--date", day)
    stage.run_arrivals()
    before = stage.figures()
    stage.verify(
        before == Figures(published=2 * (2 * _ROWS - 4), files_held=4, rows_held=8, released=0),
        f"{before.published} rows are published; {before.files_held} files and "
        f"{before.rows_held} rows are in quarantine.",
    )

    stage.heading("2  What is in quarantine, and why")
    stage.command("quarantine", "list", "--dataset", DATASET)
    stage.command("quarantine", "show", _key(stage, f"orders_bonn_{days[1]}.csv", days[1]))

    stage.heading("3  The contract is mended, and tried on what has landed")
    _show_difference(stage, folder / "contracts/orders.yaml", folder / "proposed/orders.yaml")
    stage.command("contract", "check", "proposed/orders.yaml")
    stage.command("contract", "backtest", "proposed/orders.yaml", "--partitions", span)
    stage.verify(stage.figures() == before, "The backtest changed nothing.")

    stage.heading("4  The mended contract comes into force, and the release is rehearsed")
    stage.echo("cp", "proposed/orders.yaml", "contracts/orders.yaml")
    (folder / "contracts/orders.yaml").write_text((folder / "proposed/orders.yaml").read_text())
    stage.say("[dim]and the code location is reloaded[/]\n")
    stage.session = _reloaded(stage.session, folder / "contracts/orders.yaml")
    codes = [word for code in REASON_CODES for word in ("--reason-code", code)]
    release = ["quarantine", "release", "--dataset", DATASET, *codes, "--reason", "euros are money"]
    stage.command(*release, "--dry-run")
    stage.verify(stage.figures() == before, "The dry run changed nothing.")

    stage.heading("5  The release")
    stage.command(*release, "--id", REPLAY_ID, "--wait")
    after = stage.figures()
    stage.verify(
        after == Figures(published=2 * 3 * _ROWS, files_held=2, rows_held=0, released=2),
        f"{after.published} rows are published; {after.released} files are marked as released; "
        f"{after.files_held} files without amounts stay in quarantine.",
    )
    stage.verify(
        max(_published_orders(stage).values()) == 1, "No order is in the table more than once."
    )

    stage.heading("6  What is left of it")
    stage.command("quarantine", "list", "--dataset", DATASET, "--all")
    stage.command("status", DATASET, "--partitions", span)
    stage.command("status", REPLAY_ID)
    stage.command("history", _key(stage, f"orders_bonn_{days[1]}.csv", days[1]))
    _show_audit(stage, after.published - before.published)
    _show_before_and_after(stage, before, after)


def _key(stage: _Stage, name: str, partition: str) -> str:
    return f"{stage.session.contracts[0].landing.prefix}dt={partition}/{name}"


def _reloaded(session: Session, contract: Path) -> Session:
    """The session as the code location would be after a reload."""
    from dagster_project.session import Session
    from service_core.contract import load_contract

    return Session([load_contract(contract)], session.settings, session.instance)


def _published_orders(stage: _Stage) -> Counter[str]:
    from resources.catalog import CatalogResource

    catalog = CatalogResource.of(stage.session.settings).catalog()
    found = catalog.scan(stage.session.contracts[0], columns=["order_id"]).read_all()
    return Counter(found["order_id"].to_pylist())


def _show_difference(stage: _Stage, old: Path, new: Path) -> None:
    root = Path.cwd()
    names = [str(path.relative_to(root)) for path in (old, new)]
    stage.echo("diff", "-U1", *names)
    texts = [path.read_text().splitlines() for path in (old, new)]
    for line in difflib.unified_diff(*texts, *names, n=1, lineterm=""):
        colour = {"+": "green", "-": "red"}.get(line[:1], "dim")
        stage.console.print(f"[{colour}]{escape(line)}[/]", soft_wrap=True)
    stage.console.print()


def _show_audit(stage: _Stage, gained: int) -> None:
    """The replay's audit record, and that it tells of the rows that came."""
    from resources.object_store import ObjectStoreResource
    from service_core.replay import audit
    from service_core.replay.folder import ReplayFolder

    folder = ReplayFolder(ObjectStoreResource.of(stage.session.settings).store(), REPLAY_ID)
    records: list[AuditRecord] = list(audit.records(folder))
    table = Table(title="The audit record", title_justify="left", title_style="bold", box=None)
    for name in ("at", "fact", "said"):
        table.add_column(name, overflow="fold")
    for record in records:
        table.add_row(f"{record.at:%H:%M:%S}", record.fact, escape(record.said))
    stage.console.print(table)
    end = records[-1]
    stage.verify(
        end.fact == audit.COMPLETED and end.rows_after - end.rows_before == gained,
        f"The audit record ends with the replay's completion, and tells of {gained} more rows.",
    )


def _show_before_and_after(stage: _Stage, before: Figures, after: Figures) -> None:
    table = Table(title="\nBefore and after", title_justify="left", title_style="bold", box=None)
    for name in ("", "before", "after"):
        table.add_column(name, justify="right" if name else "left")
    for what, figure in _FIGURES:
        table.add_row(what, f"{figure(before):,}", f"{figure(after):,}")
    stage.console.print(table)


_FIGURES: tuple[tuple[str, Callable[[Figures], int]], ...] = (
    ("rows published", lambda f: f.published),
    ("files in quarantine", lambda f: f.files_held),
    ("rows in quarantine", lambda f: f.rows_held),
    ("files released", lambda f: f.released),
)
