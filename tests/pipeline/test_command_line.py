"""The command line as scripts use it: its output, its exit codes; real processes where it works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.command_line import CommandLine
from tests.pipeline.conftest import ROOT, order, orders

ORDERS = str(ROOT / "contracts" / "orders.yaml")


def lakegate(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "LAKEGATE_"))}
    return subprocess.run(
        [sys.executable, "-m", "dagster_project.cli", *arguments],
        cwd=cwd,
        env={**environment, "LAKEGATE_CONTRACTS": str(ROOT / "contracts")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_ingest_says_what_became_of_every_file_and_exports_it(tmp_path: Path) -> None:
    good, mixed, bad = (tmp_path / f"orders_{name}.csv" for name in ("good", "mixed", "bad"))
    good.write_bytes(orders(range(1, 4)))
    mixed.write_bytes(orders(range(10, 20)) + order(20, quantity="many").encode() + b"\n")
    bad.write_bytes(b"order_id,amount\nO000000001,1.00\n")
    out = tmp_path / "out"
    done = lakegate(
        "ingest", str(good), str(mixed), str(bad), "--contract", ORDERS, "--export", str(out),
        "--json",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    said = json.loads(done.stdout)
    by_path = {file["path"]: file for file in said["files"]}
    assert [by_path[str(path)]["status"] for path in (good, mixed, bad)] == [
        "published", "partial", "quarantined",
    ]  # fmt: skip
    for file in said["files"]:
        assert file["rows_read"] == file["rows_published"] + file["rows_quarantined"]
    (reason,) = by_path[str(mixed)]["reasons"]
    assert (reason["code"], reason["scope"], reason["line"], reason["column"], reason["count"]) == (
        "TYPE", "row", 12, "quantity", 1,
    )  # fmt: skip
    assert by_path[str(bad)]["reasons"][0]["code"] == "COLUMN_MISSING"
    (batch,) = said["batches"]
    assert batch["verdict"] == "passed"
    assert {"name": "quantity_type", "severity": "error", "passed": False, "blocking": False} in (
        batch["checks"]
    )
    published = pl.read_parquet(out / "published" / "orders.parquet")
    quarantined = pl.read_parquet(out / "quarantine" / "orders_rows.parquet")
    assert (published.height, quarantined.height) == (13, 1)
    assert published["amount"].dtype == pl.Decimal(12, 2)
    assert quarantined["quantity"].to_list() == ["many"]
    assert quarantined["_reasons"].to_list()[0][0]["code"] == "TYPE"
    verdict = json.loads((out / "verdicts" / f"{batch['batch_id']}.json").read_text())
    assert verdict["rows_read"] == 14


@pytest.mark.soak
def test_two_files_of_one_name_are_two_files_and_all_published_is_exit_0(tmp_path: Path) -> None:
    paths = []
    for folder, numbers in (("a", [1, 2]), ("b", [3])):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "orders_1.csv")
        paths[-1].write_bytes(orders(numbers))
    done = lakegate("ingest", *map(str, paths), "--contract", ORDERS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("orders_1.csv") == 2
    assert "verdict passed" in done.stdout


def test_a_bad_contract_is_exit_2_with_every_problem_in_a_line(tmp_path: Path) -> None:
    text = Path(ORDERS).read_text().replace("maximum: 1000000", "maximum: -1")
    bad = tmp_path / "orders.yaml"
    bad.write_text(text + "surplus: 1\n")
    file = tmp_path / "orders_1.csv"
    file.write_bytes(orders([1]))
    done = lakegate("ingest", str(file), "--contract", str(bad))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"{bad}:" in done.stderr and "surplus" in done.stderr and "amount" in done.stderr
    checked = lakegate("contract", "check", str(bad), "--json")
    assert checked.returncode == 1
    assert {problem["path"] for problem in json.loads(checked.stdout)} == {str(bad)}
    assert len(json.loads(checked.stdout)) == 2


def test_the_shipped_contracts_have_no_problem() -> None:
    done = lakegate("contract", "check")
    assert (done.returncode, done.stdout) == (0, "4 contracts checked, no problems.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ingest", "no-such.csv", "--contract", ORDERS), "no-such.csv"),
        (("ingest", ORDERS), "--contract"),
        (("ingest", ORDERS, "--contract", ORDERS, "--partition", "yesterday"), "yesterday"),
    ],
)
def test_wrong_usage_is_exit_2_with_a_sentence(arguments: tuple[str, ...], said: str) -> None:
    done = lakegate(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dataset", "nothing"), "Known: customers, flights, orders"),
        (("--dataset", "orders", "--date", "2026-02-30"), "2026-02-30"),
    ],
)
def test_a_place_that_is_none_to_land_in_is_refused_with_a_sentence(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    code, _, err = CommandLine(tmp_path).run("land", ORDERS, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", [(), ("ingest",), ("contract", "check"), ("up",), ("land",)])
def test_every_command_explains_itself_with_an_example(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    code, out, _ = CommandLine(tmp_path).run(*command, "--help")
    assert code == 0
    assert "Example" in out
