"""The demo says of each file what became of it, and does not end before that is known."""

from __future__ import annotations

from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from rich.console import Console

from dagster_project.demo import Delivery, DemoError, Published, deliveries, print_outcome
from dagster_project.standing import (
    Runs,
    Standing,
    StuckError,
    Watch,
    runs_of,
    standing,
    wait_until_over,
)
from service_core.ledger import Entry, State
from service_core.reasons import ReasonCode, Scope
from service_core.source_object import SourceObject
from service_core.validation.record import Finding
from service_core.verdict import FileOutcome, FileStatus, Verdict

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_golden_files_are_delivered_as_they_say_and_flights_week_by_week(
    tmp_path: Path,
) -> None:
    found = deliveries(date(2026, 11, 21), tmp_path)

    by_dataset: dict[str, list[Delivery]] = {}
    for delivery in found:
        by_dataset.setdefault(delivery.dataset, []).append(delivery)
    assert list(by_dataset) == ["orders", "customers", "flights"]
    assert all(path.is_file() for delivery in found for path in delivery.paths)
    late = [d for d in by_dataset["orders"] if d.partition < "2026-11-21"]
    assert [p.name for d in late for p in d.paths] == ["orders_late.csv"]
    weeks = by_dataset["flights"]
    assert [d.partition for d in weeks] == ["2013-02-07", "2013-02-14", "2013-02-21", "2013-02-28"]
    assert [len(d.paths) for d in weeks] == [7, 7, 7, 7]


def test_without_the_golden_files_a_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="whole clone"):
        deliveries(date(2026, 11, 21), tmp_path, golden=tmp_path)


def entry(object_id: str, state: State) -> Entry:
    return Entry(
        object_id=object_id,
        dataset="orders",
        partition="2026-11-21",
        bucket="raw",
        key=f"orders/{object_id}.csv",
        state=state,
        batch_id="b",
        contract_version="1.0.0",
        received_at=NOW,
        updated_at=NOW,
    )


def entries(**states: State) -> dict[str, Entry]:
    return {object_id: entry(object_id, state) for object_id, state in states.items()}


@pytest.mark.parametrize(
    ("ledger", "finished", "over"),
    [
        pytest.param({}, 2, False, id="nothing was noticed yet"),
        pytest.param(entries(a=State.PUBLISHED), 2, False, id="one is not known"),
        pytest.param(
            entries(a=State.PUBLISHED, b=State.CURATED), 2, False,
            id="one is judged and not published",
        ),
        pytest.param(
            entries(a=State.PUBLISHED, b=State.QUARANTINED), 1, False,
            id="a run has still something to say",
        ),
        pytest.param(
            entries(a=State.PUBLISHED, b=State.QUARANTINED), 2, True,
            id="all are at their end, one in a run that a check stopped",
        ),
    ],
)  # fmt: skip
def test_it_is_over_when_every_file_and_every_run_has_ended(
    ledger: dict[str, Entry], finished: int, over: bool
) -> None:
    assert standing(["a", "b"], ledger, Runs(total=2, queued=0, finished=finished)).over is over


def test_runs_are_counted_by_where_they_are() -> None:
    waiting = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.NOT_STARTED]
    underway = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    ended = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
    with DagsterInstance.ephemeral() as instance:
        for status in waiting + underway + ended:
            instance.add_run(DagsterRun(job_name="orders_ingest", status=status))

        assert runs_of(instance) == Runs(total=8, queued=2, finished=3)
        assert standing(["a"], {}, runs_of(instance)) == Standing(
            landed=1, noticed=0, done=0, runs=8, queued=2, running=3, finished=3
        )


class Ledger:
    """A ledger that knows one more file each time it is asked."""

    def __init__(self, *answers: dict[str, Entry]) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    def entries(self, object_ids: list[str]) -> dict[str, Entry]:
        self.asked.append(list(object_ids))
        known = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return {i: known[i] for i in object_ids if i in known}


def test_elsewhere_than_on_a_terminal_each_change_is_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dagster_project.standing._LOOK_SECONDS", 0.0)
    ledger = Ledger(
        {}, {}, entries(a=State.PUBLISHED), entries(a=State.PUBLISHED, b=State.QUARANTINED)
    )
    out = StringIO()

    with DagsterInstance.ephemeral() as instance:
        wait_until_over(Watch(ledger, instance, ["a", "b"]), Console(file=out))  # type: ignore[arg-type]

    lines = out.getvalue().splitlines()
    assert [line.split(" files noticed")[0].strip() for line in lines] == [
        "0 of 2", "1 of 2", "2 of 2",
    ]  # fmt: skip
    assert ledger.asked[-1] == ["b"], "what has ended is not asked for again"


def test_silence_ends_the_wait_with_a_sentence_that_names_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dagster_project.standing._LOOK_SECONDS", 0.0)
    ledger = Ledger(entries(a=State.VALIDATED))

    with (
        DagsterInstance.ephemeral() as instance,
        pytest.raises(StuckError, match=r"orders/a\.csv in state validated"),
    ):
        watch = Watch(ledger, instance, ["a"])  # type: ignore[arg-type]
        wait_until_over(watch, Console(file=StringIO()), silence=0.05)


def test_the_outcome_names_each_reason_and_the_rows_add_up() -> None:
    source_object = SourceObject(
        bucket="raw",
        key="orders/dt=2026-11-21/orders_[odd].csv",
        etag="e",
        size=1,
        last_modified=NOW,
        partition="2026-11-21",
    )
    finding = Finding(
        code=ReasonCode.ROW_TOO_SHORT,
        scope=Scope.ROW,
        message="2 fields; expected 9",
        line=7,
        count=1200,
    )
    verdict = Verdict(
        batch_id="b",
        dataset="orders",
        partition="2026-11-21",
        contract_version="1.0.0",
        contract_hash="h",
        run_id="r",
        engine="in_process",
        passed=True,
        rows_read=3000,
        rows_accepted=1800,
        rows_quarantined=1200,
        files=(
            FileOutcome(
                source_object=source_object,
                status=FileStatus.PARTIAL,
                rows_read=3000,
                rows_accepted=1800,
                rows_quarantined=1200,
                findings=(finding,),
            ),
        ),
        checks=(),
        judged_at=NOW,
    )
    out = StringIO()

    print_outcome(
        [verdict],
        [Published("orders", "lakegate_dev.orders", 1800, 1)],
        Console(file=out, width=120),
    )

    said = out.getvalue()
    assert "orders_[odd].csv" in said
    assert "1,200 rows" in said
    assert "ROW_TOO_SHORT" in said
    assert "line 7: 2 fields; expected 9" in said
    assert "3,000 rows read = 1,800 accepted + 1,200 quarantined, in 1 batches." in said
