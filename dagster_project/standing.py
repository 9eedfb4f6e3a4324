"""How far everything that was landed has come, and waiting until it has come to its end.

The ledger says what became of a source object and the instance what becomes of a run; neither is
asked to guess for the other, and an object whose run has ended is not done before the ledger says
so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service_core.ledger import Entry, State

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from service_core.ports import Ledger

#: A source object in one of these has come to its end.
END_STATES = frozenset({State.PUBLISHED, State.QUARANTINED, State.SUPERSEDED, State.ROLLED_BACK})
_LOOK_SECONDS = 2.0
#: Without any change for so long, something is broken: the longest silence of a sound run is that
#: of a process that starts.
SILENCE_SECONDS = 180.0


class StuckError(Exception):
    """Something that was landed does not come to its end; the message says what and where."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far everything that was landed has come.

    Attributes:
        landed: Source objects in the raw bucket.
        noticed: Those that the ledger knows.
        done: Those in an end state.
        runs, queued, running, finished: Runs by status.
    """

    landed: int
    noticed: int
    done: int
    runs: int
    queued: int
    running: int
    finished: int

    @property
    def over(self) -> bool:
        """Whether nothing is left to be done."""
        return self.done == self.landed and self.finished == self.runs

    @property
    def sentence(self) -> str:
        return (
            f"{self.noticed} of {self.landed} files noticed; runs: {self.queued} queued, "
            f"{self.running} running, {self.finished} finished; {self.done} files at their end"
        )


@dataclass(frozen=True, slots=True)
class Runs:
    """How many runs there are, in all and by where they stand."""

    total: int
    queued: int
    finished: int


def standing(object_ids: Sequence[str], entries: Mapping[str, Entry], runs: Runs) -> Standing:
    """Where things stand, from the ledger's entries and the numbers of runs."""
    return Standing(
        landed=len(object_ids),
        noticed=sum(i in entries for i in object_ids),
        done=sum(entries[i].state in END_STATES for i in object_ids if i in entries),
        runs=runs.total,
        queued=runs.queued,
        running=runs.total - runs.queued - runs.finished,
        finished=runs.finished,
    )


@dataclass
class Watch:
    """Asks the ledger and the instance where the landed objects stand."""

    ledger: Ledger
    instance: DagsterInstance
    object_ids: Sequence[str]
    entries: dict[str, Entry] = field(default_factory=dict)

    def look(self) -> Standing:
        # An end state is final here, so only the others are asked for again.
        open_ids = [
            i
            for i in self.object_ids
            if i not in self.entries or self.entries[i].state not in END_STATES
        ]
        self.entries.update(self.ledger.entries(open_ids))
        return standing(self.object_ids, self.entries, runs_of(self.instance))


def runs_of(instance: DagsterInstance) -> Runs:
    """The numbers of an instance's runs, counted where they lie: each run carries a selection of
    all its checks, which is much to load every second."""
    from dagster import DagsterRunStatus, RunsFilter

    def count(*statuses: DagsterRunStatus) -> int:
        return instance.get_runs_count(RunsFilter(statuses=list(statuses)))

    # Finished ones first: a run that moves on between two counts is then seen as running.
    finished = count(DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
    queued = count(DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED)
    return Runs(total=instance.get_runs_count(), queued=queued, finished=finished)


def wait_until_over(watch: Watch, console: Console, *, silence: float = SILENCE_SECONDS) -> None:
    """Return once every landed object has come to its end, showing how far it is.

    Raises:
        StuckError: nothing changed for `silence` seconds.
    """
    with _display(console) as show:
        before, since = None, time.monotonic()
        while True:
            now = watch.look()
            if now != before:
                show(now)
                before, since = now, time.monotonic()
            if now.over:
                return
            if time.monotonic() - since > silence:
                stuck = [e for e in watch.entries.values() if e.state not in END_STATES]
                example = f", such as {stuck[0].key} in state {stuck[0].state}" if stuck else ""
                raise StuckError(
                    f"Nothing has changed for {silence:.0f} s: {now.sentence}. "
                    f"{now.landed - now.done} files did not come to their end{example}. "
                    "The runs' pages in the UI and .lakegate/dagster.log say why."
                )
            time.sleep(_LOOK_SECONDS)


@contextmanager
def _display(console: Console) -> Iterator[Callable[[Standing], None]]:
    """Bars on a terminal, a line for each change elsewhere."""
    if not console.is_terminal:
        yield lambda now: console.print(f"  {now.sentence}", soft_wrap=True)
        return
    bars = Progress(
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
    )
    with bars:
        noticed, runs, done = (
            bars.add_task(name, total=None, note="")
            for name in ("files noticed", "runs finished", "files done")
        )

        def show(now: Standing) -> None:
            bars.update(noticed, completed=now.noticed, total=now.landed)
            note = f"{now.running} running, {now.queued} queued"
            bars.update(runs, completed=now.finished, total=now.runs or None, note=note)
            bars.update(done, completed=now.done, total=now.landed)

        yield show
