"""Replays, quarantine and status from the command line, as scripts use them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from dagster_project.cli import main
from service_core.contract.model import Contract
from tests.command_line import CommandLine
from tests.pipeline.conftest import ROOT, Lake, order, orders
from tests.replay.conftest import ReplayLake

TAINTED = orders(range(1, 10)) + order(10, amount="ten").encode() + b"\n"


@pytest.fixture
def lakegate(tmp_path: Path) -> Iterator[CommandLine]:
    yield CommandLine(tmp_path)


def wait_for(replays: ReplayLake, process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Play the daemon until the command ends."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        for request in replays.tick().requests:
            replays.execute(request)
        time.sleep(0.2)
    out, err = process.communicate(timeout=10)
    return process.returncode, out, err


@pytest.mark.slow
def test_a_replay_is_asked_for_waited_for_and_told(
    replays: ReplayLake, lakegate: CommandLine
) -> None:
    key = replays.lake.land("orders_1.csv", TAINTED)
    replays.lake.run_all()
    code, out, err = wait_for(
        replays,
        lakegate.start(
            "replay", "--dataset", "orders", "--file", f"s3://{replays.raw}/{key}", "--force",
            "--reason", "because", "--id", "from-cli", "--wait", "--json",
        ),
    )  # fmt: skip
    assert code == 3, err
    said = json.loads(out)
    assert (said["replay_id"], said["state"]) == ("from-cli", "completed")
    assert said["outcomes"] == {"partial": 1}
    assert (said["rows_before"], said["rows_after"]) == (9, 9)
    status = lakegate.json("status", "from-cli")
    assert status == said
    assert "command line" in status["request"]["requestedBy"]
    code, out, _ = lakegate.run("status", "from-cli")
    assert code == 0 and "because" in out and "1 of 1 done" in out


@pytest.mark.slow
def test_quarantine_is_listed_shown_and_released(
    replays: ReplayLake,
    lakegate: CommandLine,
    make_lake: Callable[..., Lake],
    orders_contract: Contract,
) -> None:
    key = replays.lake.land("orders_1.csv", TAINTED)
    refused = replays.lake.land("orders_2.csv", b"order_id\nO000000001\n")
    replays.lake.run_all()
    lines = lakegate.json("quarantine", "list", "--dataset", "orders")
    assert {(line["what"], line["key"], tuple(line["reasons"])) for line in lines} == {
        ("rows", key, ("TYPE",)),
        ("file", refused, ("COLUMN_MISSING",)),
    }
    only = lakegate.json("quarantine", "list", "--reason-code", "TYPE")
    assert [line["key"] for line in only] == [key]
    shown = lakegate.json("quarantine", "show", refused)
    assert shown["files"][0]["record"]["code"] == "COLUMN_MISSING" and shown["rows"] == []
    code, out, _ = lakegate.run("quarantine", "show", key)
    assert code == 0 and "1 row diverted" in out and "TYPE" in out

    rules = tuple(r for r in orders_contract.row_rules if "amount" not in r.columns)
    drift = orders_contract.drift.__class__(type=orders_contract.drift.additive)
    fixed = ReplayLake(
        make_lake(orders_contract, row_rules=rules, drift=drift, version="2", hash="2" * 16)
    )
    code, out, err = wait_for(
        fixed,
        lakegate.start(
            "quarantine", "release", "--dataset", "orders", "--reason-code", "TYPE",
            "--reason", "amounts may be anything", "--wait", "--json",
        ),
    )  # fmt: skip
    assert code == 0, err + out
    assert json.loads(out)["outcomes"] == {"published": 1}
    assert lakegate.json("quarantine", "list", "--reason-code", "TYPE") == []
    (line,) = lakegate.json("quarantine", "list", "--reason-code", "TYPE", "--all")
    assert line["held"] is False


@pytest.mark.slow
def test_status_and_history_of_everything(replays: ReplayLake, lakegate: CommandLine) -> None:
    today = replays.lake.today()
    key = replays.lake.land("orders_1.csv", orders([1]))
    refused = replays.lake.land("orders_2.csv", "no,such,header\n1,2,3\n")
    replays.lake.run_all()
    _, out, _ = lakegate.run("status", refused)
    assert "quarantined for " in out and "  rows        0 read\n" in out and "?" not in out
    replays.lake.land("orders_1.csv", orders([2]))
    replays.lake.run_all()
    overall = lakegate.json("status")
    assert overall["datasets"]["orders"]["partitions"][today] == {
        "published": 1, "superseded": 1, "quarantined": 1,
    }  # fmt: skip
    assert overall["open_replays"] == []
    dataset = lakegate.json("status", "orders", "--partitions", f"{today}..{today}")
    assert dataset["partitions"] == {today: overall["datasets"]["orders"]["partitions"][today]}
    old, new = lakegate.json("status", key)
    assert (old["state"], new["state"]) == ("superseded", "published")
    batch = lakegate.json("status", new["batch_id"])
    assert (batch["partition"], batch["states"], batch["verdict"]["passed"]) == (
        today, {"published": 1}, True,
    )  # fmt: skip
    told = lakegate.json("history", f"s3://{replays.raw}/{key}")
    assert [line["state"] for line in told[0]["history"]][:1] == ["received"]
    assert told[0]["history"][-1]["state"] == "superseded"
    (only,) = lakegate.json("history", new["object_id"])
    assert only["object_id"] == new["object_id"]
    for arguments in (("status",), ("status", "orders"), ("status", key), ("history", key),
                      ("status", new["batch_id"]), ("quarantine", "list")):  # fmt: skip
        code, out, err = lakegate.run(*arguments)
        assert code == 0 and out, err


WRONG: list[tuple[tuple[str, ...], str]] = [
    (("replay",), "--dataset is missing"),
    (("replay", "--dataset", "orders"), "--reason is missing"),
    (("replay", "--dataset", "orders", "--reason", "x"), "Say what to replay"),
    (("replay", "--dataset", "nothing", "--reason", "x", "--state", "published"), "Known:"),
    (("replay", "--dataset", "orders", "--reason", "x", "--partitions", "2026-11-01"),
     "no range"),
    (("replay", "--dataset", "orders", "--reason", "x", "--partition", "yesterday"),
     "yesterday"),
    (("replay", "--dataset", "orders", "--reason", "x", "--reason-code", "WHY"),
     "reasonCodes"),
    (("replay", "--dataset", "orders", "--reason", "x", "--file", "s3://other/orders/x"),
     "not in the raw bucket"),
    (("replay", "--dataset", "orders", "--reason", "x", "--file", "a" * 32),
     "knows no source object"),
    (("replay", "--dataset", "orders", "--reason", "x", "--state", "published", "--id", "/"),
     "replayId"),
    (("quarantine", "release", "--dataset", "orders", "--reason", "x"), "what to release"),
    (("quarantine", "list", "--reason-code", "WHY"), "no reason code"),
    (("status", "never heard of"), "Nothing is known"),
    (("status", "orders", "--partitions", "x..y"), "no partition"),
    (("history", "orders/dt=2026-11-21/never.csv"), "knows nothing"),
]  # fmt: skip


def test_wrong_usage_of_these_commands_is_exit_2_with_a_sentence(
    replays: ReplayLake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKEGATE_CONTRACTS", str(ROOT / "contracts"))
    for arguments, said in WRONG:
        result = CliRunner().invoke(main, arguments)
        assert (result.exit_code, said in result.stderr) == (2, True), (arguments, result.stderr)
    assert replays.names("_replays/") == [], "nothing was asked for"


def test_status_tells_of_a_request_that_is_not_answered_yet_or_rejected(
    replays: ReplayLake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKEGATE_CONTRACTS", str(ROOT / "contracts"))
    replays.drop("typo", {"replayId": "typo", "reason": "x", "dataset": "orders", "files": "all"})
    waiting = CliRunner().invoke(main, ["status", "typo"])
    assert waiting.exit_code == 0 and "has not been answered yet" in waiting.output
    replays.tick()
    told = CliRunner().invoke(main, ["status", "typo"])
    assert told.exit_code == 0 and "is rejected" in told.output and "`files`" in told.output
    said = json.loads(CliRunner().invoke(main, ["status", "typo", "--json"]).output)
    assert said["state"] == "rejected" and len(said["problems"]) == 1


@pytest.mark.parametrize(
    "command",
    [
        "replay",
        "quarantine",
        "quarantine list",
        "quarantine show",
        "quarantine release",
        "status",
        "history",
    ],
)
def test_these_commands_explain_themselves_with_an_example(command: str) -> None:
    result = CliRunner().invoke(main, [*command.split(), "--help"])
    assert result.exit_code == 0 and "Example" in result.output
