"""What a batch's engine is chosen by, in which order, and what the choice says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from service_core.contract.model import Engine
from service_core.engine_choice import (
    FILE_BYTES,
    GLUE_LEAST_BILLED_SECONDS,
    GLUE_START_SECONDS,
    IN_PROCESS_BYTES_PER_SECOND,
    EngineChoice,
    Prices,
    choose_engine,
)
from service_core.settings import Settings
from tests.judged_batches import contract

ROOT = Path(__file__).resolve().parents[2]
GIB = 1024**3
THRESHOLD = 5 * GIB
PRICES = Prices(dpu_hour=0.44, vcpu_hour=0.04, glue_workers=4)
AUTO, IN_PROCESS, SPARK, GLUE, STEP_FUNCTIONS = Engine


def chosen(
    named: Engine = AUTO,
    override: Engine | None = None,
    default: Engine | None = None,
    *,
    bytes: int = 1000,
    files: int = 1,
    prices: Prices = PRICES,
) -> EngineChoice:
    its = replace(contract(), engine=named, engine_threshold_bytes=THRESHOLD)
    return choose_engine(
        its, bytes=bytes, files=files, override=override, default=default, prices=prices
    )


@pytest.mark.parametrize(
    ("named", "override", "default", "small", "large"),
    [
        # The size alone decides where nobody asked for anything.
        (AUTO, None, None, IN_PROCESS, GLUE),
        (AUTO, None, AUTO, IN_PROCESS, GLUE),
        (AUTO, AUTO, None, IN_PROCESS, GLUE),
        # The installation's default stands before the size, for contracts that say auto.
        (AUTO, None, SPARK, SPARK, SPARK),
        (AUTO, None, IN_PROCESS, IN_PROCESS, IN_PROCESS),
        (AUTO, None, STEP_FUNCTIONS, STEP_FUNCTIONS, STEP_FUNCTIONS),
        # A contract that names its engine keeps it.
        (SPARK, None, None, SPARK, SPARK),
        (IN_PROCESS, None, GLUE, IN_PROCESS, IN_PROCESS),
        (STEP_FUNCTIONS, None, IN_PROCESS, STEP_FUNCTIONS, STEP_FUNCTIONS),
        (GLUE, None, AUTO, GLUE, GLUE),
        # The run's configuration stands before both.
        (AUTO, SPARK, GLUE, SPARK, SPARK),
        (GLUE, IN_PROCESS, SPARK, IN_PROCESS, IN_PROCESS),
        (IN_PROCESS, STEP_FUNCTIONS, None, STEP_FUNCTIONS, STEP_FUNCTIONS),
        # auto in the run's configuration asks for the size to decide, whatever else is named.
        (SPARK, AUTO, STEP_FUNCTIONS, IN_PROCESS, GLUE),
    ],
)
def test_the_run_then_the_contract_then_the_default_then_the_size(
    named: Engine, override: Engine | None, default: Engine | None, small: Engine, large: Engine
) -> None:
    assert chosen(named, override, default, bytes=1000).engine is small
    assert chosen(named, override, default, bytes=THRESHOLD * 2).engine is large


@pytest.mark.parametrize(
    ("bytes", "files", "engine"),
    [
        (0, 0, IN_PROCESS),
        (0, 1, IN_PROCESS),
        (THRESHOLD - 1, 1, IN_PROCESS),
        (THRESHOLD, 1, IN_PROCESS),
        (THRESHOLD + 1, 1, GLUE),
        # Many small files count for more than their bytes: here 1,000 of them for 60 MB more.
        (THRESHOLD - 999 * FILE_BYTES, 1000, IN_PROCESS),
        (THRESHOLD - 999 * FILE_BYTES + 1, 1000, GLUE),
        (1, THRESHOLD // FILE_BYTES + 2, GLUE),
    ],
)
def test_a_batch_leaves_the_process_above_the_contracts_threshold(
    bytes: int, files: int, engine: Engine
) -> None:
    assert chosen(bytes=bytes, files=files).engine is engine


def test_the_contracts_own_threshold_counts() -> None:
    low = replace(contract(), engine_threshold_bytes=1000)
    assert choose_engine(low, bytes=1001, files=1, prices=PRICES).engine is GLUE
    assert choose_engine(low, bytes=1000, files=1, prices=PRICES).engine is IN_PROCESS


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        (chosen(GLUE, IN_PROCESS), "The run's configuration names in_process."),
        (chosen(STEP_FUNCTIONS), "The contract names step_functions."),
        (
            chosen(default=SPARK),
            "The contract leaves the choice open, and spark is the default here (LAKEGATE_ENGINE).",
        ),
        (
            chosen(bytes=512),
            "The batch's 512 B is not above the contract's threshold of 5 GiB.",
        ),
        (
            chosen(bytes=3 * GIB, files=1000),
            "The batch's 3 GiB in 1,000 files, which count as 3.056 GiB, is not above the "
            "contract's threshold of 5 GiB.",
        ),
        (
            chosen(bytes=1500 * GIB),
            "The batch's 1.465 TiB is above the contract's threshold of 5 GiB.",
        ),
        (
            # Rounded, both sides would read the same.
            chosen(bytes=THRESHOLD + 1),
            "The batch's 5,368,709,121 B is above the contract's threshold of 5,368,709,120 B.",
        ),
        (
            chosen(bytes=THRESHOLD),
            "The batch's 5 GiB is not above the contract's threshold of 5 GiB.",
        ),
    ],
)
def test_a_choice_says_why_in_one_sentence(choice: EngineChoice, reason: str) -> None:
    assert choice.reason == reason


def test_both_estimates_stand_beside_each_other_whatever_was_chosen() -> None:
    estimates = {(c.in_process, c.glue) for c in map(chosen, Engine)}
    assert len(estimates) == 1


def test_glue_is_estimated_in_dpu_hours_at_the_configured_price() -> None:
    choice = chosen(bytes=100 * GIB)
    assert choice.glue.hours == pytest.approx(choice.glue.seconds / 3600 * 4)
    assert choice.glue.cost == pytest.approx(choice.glue.hours * 0.44)
    dearer = chosen(bytes=100 * GIB, prices=replace(PRICES, dpu_hour=0.88))
    assert dearer.glue.cost == pytest.approx(2 * choice.glue.cost)
    assert dearer.in_process == choice.in_process


def test_more_and_larger_workers_are_quicker_and_all_are_paid_for() -> None:
    four = chosen(bytes=100 * GIB).glue
    seven = chosen(bytes=100 * GIB, prices=replace(PRICES, glue_workers=7)).glue
    large = chosen(bytes=100 * GIB, prices=replace(PRICES, dpus_per_worker=2)).glue
    # Three of four workers read rows, and six of seven.
    assert seven.seconds - GLUE_START_SECONDS == pytest.approx(
        (four.seconds - GLUE_START_SECONDS) / 2
    )
    assert large.seconds == pytest.approx(seven.seconds)
    assert seven.hours == pytest.approx(seven.seconds / 3600 * 7)
    assert large.hours == pytest.approx(large.seconds / 3600 * 8)


def test_glue_bills_a_minute_at_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands no estimate is that short; the rule must hold when the start gets quicker."""
    monkeypatch.setattr("service_core.engine_choice.GLUE_START_SECONDS", 5.0)
    choice = chosen(bytes=0, files=0)
    assert choice.glue.seconds == 5
    assert choice.glue.hours == pytest.approx(GLUE_LEAST_BILLED_SECONDS / 3600 * 4)


def test_a_small_batch_is_quicker_and_cheaper_in_process_and_a_huge_one_quicker_on_glue() -> None:
    small, huge = chosen(bytes=10**8), chosen(bytes=100 * GIB, files=400)
    assert small.in_process.seconds < GLUE_START_SECONDS <= small.glue.seconds
    assert small.in_process.cost < small.glue.cost / 100
    assert huge.glue.seconds < huge.in_process.seconds
    assert huge.in_process.seconds > 100 * GIB / IN_PROCESS_BYTES_PER_SECOND


@pytest.mark.parametrize(
    ("worker_type", "dpus"), [("G.025X", 0.25), ("G.1X", 1), ("R.2X", 2), ("G.16X", 16)]
)
def test_prices_and_workers_come_from_the_environment(worker_type: str, dpus: float) -> None:
    settings = Settings.from_environment(
        {
            "LAKEGATE_DPU_HOUR_PRICE": "0.29",
            "LAKEGATE_VCPU_HOUR_PRICE": "0.03",
            "LAKEGATE_GLUE_WORKERS": "10",
            "LAKEGATE_GLUE_WORKER_TYPE": worker_type,
        }
    )
    assert Prices.of(settings) == Prices(
        dpu_hour=0.29, vcpu_hour=0.03, glue_workers=10, dpus_per_worker=dpus
    )


def test_the_page_about_engines_shows_what_is_estimated() -> None:
    page = (ROOT / "docs" / "engines.md").read_text()
    rows = re.findall(r"^\| ([0-9]+) (MiB|GiB) \| (.+) \| (.+) \| (.+) \| (.+) \|$", page, re.M)
    assert len(rows) >= 5
    for number, unit, *shown in rows:
        size = int(number) * 1024 ** {"MiB": 2, "GiB": 3}[unit]
        its = chosen(bytes=size, prices=Prices.of(Settings()))
        figures = [float(figure.replace(",", "")) for figure in shown]
        assert figures == pytest.approx(
            [its.in_process.seconds, its.in_process.cost, its.glue.seconds, its.glue.cost],
            rel=0.2 if size < GIB else 0.05,
        )


@pytest.mark.parametrize(("bytes", "files"), [(-1, 1), (1, -1)])
def test_a_batch_of_less_than_nothing_is_refused(bytes: int, files: int) -> None:
    with pytest.raises(ValueError, match="expected 0 or more"):
        chosen(bytes=bytes, files=files)
