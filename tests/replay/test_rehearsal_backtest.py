"""`lakegate contract backtest` as scripts use it: a real process against the test's own AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dagster_project.difference_page import print_report
from service_core.replay.backtest import partitions_named
from service_core.replay.difference import Report
from tests.command_line import CommandLine
from tests.pipeline.conftest import ROOT, order, orders
from tests.replay.conftest import ReplayLake
from tests.replay.test_rehearsal import MIXED, traces

ORDERS = ROOT / "contracts" / "orders.yaml"


def backtest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dagster_project.cli", "contract", "backtest", *arguments],
        cwd=folder,
        env={**os.environ, "LAKEGATE_CONTRACTS": str(ROOT / "contracts"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def proposed(folder: Path, *changes: tuple[str, str]) -> str:
    """The orders contract, changed; the path of its file."""
    text = ORDERS.read_text().replace("version: 1.0.0", "version: 2.0.0")
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after, 1)
    path = folder / "orders_v2.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.soak
def test_a_proposed_contract_is_tried_on_history_and_nothing_else_happens(
    replays: ReplayLake, tmp_path: Path
) -> None:
    lake = replays.lake
    days = [f"{datetime.now(UTC) - timedelta(days=back):%Y-%m-%d}" for back in (2, 1, 0)]
    lake.land("orders_1.csv", MIXED, partition=days[0])
    lake.land("orders_2.csv", orders(range(20, 25)), partition=days[2])
    lake.run_all()
    before = traces(lake)

    stricter = proposed(tmp_path, ("maximum: 1000000", "maximum: 100"), ("0.2", "0.5"))
    span = f"{days[0]}..{days[2]}"
    done = backtest(tmp_path, stricter, "--partitions", span, "--json")
    assert done.returncode == 3, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["contract_version"] == "2.0.0" and said["replay_id"] is None
    rows = said["total"]["rows"]
    assert (rows["published"], rows["would_be"], rows["removed"]) == (17, 14, 3)
    assert [(p["partition"], p["rows"]["removed"]) for p in said["partitions"]] == [
        (days[0], 3), (days[2], 0),
    ]  # fmt: skip
    assert [c["code"] for c in said["total"]["codes"]] == ["RANGE"]

    for people in (backtest(tmp_path, stricter, "--partitions", span),):
        assert people.returncode == 3
        for words in ("2 partitions", days[0], "removed", "RANGE", "fails", "Rows: 3 removed."):
            assert words in people.stdout, words
        assert people.stderr == ""

    same = backtest(tmp_path, proposed(tmp_path), "--partitions", days[2])
    assert (same.returncode, same.stderr) == (0, "")
    assert "Publishing would make no difference." in same.stdout
    nothing = backtest(tmp_path, stricter, "--partitions", days[1])
    assert nothing.returncode == 0 and "Nothing lies there." in nothing.stdout
    assert traces(lake) == before


@pytest.mark.slow
def test_a_contract_that_blocks_is_exit_3_though_no_row_is_lost(
    replays: ReplayLake, tmp_path: Path
) -> None:
    lake = replays.lake
    lake.land("orders_1.csv", orders(range(1, 10)) + order(10, country="Nowhere").encode())
    lake.run_all()
    blocking = proposed(tmp_path, ("mustBeGreaterThan: 0", "mustBeGreaterThan: 1000"))
    done = backtest(tmp_path, blocking, "--partitions", lake.today(), "--dataset", "orders")
    assert done.returncode == 3
    assert "has_rows" in done.stdout and "blocks" in done.stdout
    assert "1 of 1 batches would be blocked." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([str(ORDERS)], "--partitions"),
        ([str(ORDERS), "--partitions", "yesterday"], "yesterday"),
        ([str(ORDERS), "--partitions", "2026-11-03..2026-11-01"], "No partition lies in"),
        ([str(ORDERS), "--partitions", "2026-11-01.."], "names no partitions"),
        ([str(ORDERS), "--partitions", "2026-11-01", "--dataset", "nothing"], "Known: "),
        (["no-such.yaml", "--partitions", "2026-11-01"], "no-such.yaml"),
        ([__file__, "--partitions", "2026-11-01"], Path(__file__).name),
    ],
    ids=["no-partitions", "no-date", "backwards", "half", "dataset", "no-file", "no-contract"],
)
def test_wrong_usage_is_exit_2_with_a_sentence(
    replays: ReplayLake, tmp_path: Path, arguments: list[str], said: str
) -> None:
    code, _, err = CommandLine(tmp_path).run("contract", "backtest", *arguments)
    assert code == 2, err
    assert said in err
    assert "Traceback" not in err


def test_more_partitions_than_anybody_means_are_refused(replays: ReplayLake) -> None:
    landing = replays.lake.contract.landing
    assert partitions_named(landing, "2026-11-01") == ("2026-11-01",)
    assert partitions_named(landing, "2026-11-01..2026-11-03")[1:] == ("2026-11-02", "2026-11-03")
    with pytest.raises(ValueError, match="name fewer"):
        partitions_named(landing, "2026-11-01..2126-11-01")


def test_hostile_names_do_no_harm_to_a_terminal() -> None:
    """Keys and values are the producers': markup and escape sequences in them are shown, not
    obeyed."""
    report = Report.model_validate(
        {
            "dataset": "orders", "replay_id": None, "contract_version": "[red]1", "refusal": None,
            "contract_hash": "f" * 16, "made_at": datetime(2026, 11, 21, tzinfo=UTC),
            "total": {
                "partitions": 1, "source_objects": 1, "batches": 1, "blocked": 0,
                "rows": {"removed": 1, "published": 1}, "changed_columns": {"[bold]c": 1},
                "codes": [], "checks": [], "drift": [],
            },
            "partitions": [
                {
                    "partition": "2026-11-21", "batches": [], "rows": {"removed": 1},
                    "changed_columns": {}, "codes": [], "reasons": [], "reasons_left_out": 0,
                    "checks": [], "drift": [],
                    "samples": [
                        {"kind": "removed", "file": "orders/\x1b[2J[/].csv", "row": 1,
                         "before": {"note": "\x1b[31m[link=x]y[/link]"}, "after": None}
                    ],
                }
            ],
        }
    )  # fmt: skip
    said = StringIO()
    print_report(report, Console(file=said, width=200, force_terminal=False))
    assert "\x1b" not in said.getvalue()
    assert "[/].csv" in said.getvalue() and "[link=x]" in said.getvalue()
    assert "[bold]c 1" in said.getvalue()
