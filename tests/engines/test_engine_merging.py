"""What tasks see apart, put together.

Canonical text is cut into far smaller files and row groups than any real one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from service_core.contract.model import Contract
from service_core.verdict import FileStatus
from tests.engines.bench import Bench
from tests.engines.documents import column, expression, library, load
from tests.engines.outcomes import origins

PARTIAL = FileStatus.PARTIAL

pytestmark = pytest.mark.slow


def shop(bench: Bench, **own: Any) -> Contract:
    """Orders with a rule of every kind."""
    return load(
        bench.folder(),
        [
            column("order_id", required=True, primaryKey=True, pattern="^O[0-9]+$"),
            column("amount", "decimal", minimum=0, maximum=1000),
            column("currency", trim=True, case="upper", quality=[
                {"metric": "invalidValues", "mustBe": 0,
                 "arguments": {"validValues": ["EUR", "USD"]}},
            ]),
            column("quantity", "integer", required=True, minimum=1),
            column("at", "instant"),
            column("email", classification="personal", minLength=5, maxLength=40),
            column("rate", "double", severity={"range": "warning"}, minimum=0),
            column("day", "date", transformLogic="CAST(at AS DATE)"),
            column("total", "decimal_wide", transformLogic="amount * quantity"),
            column("each", "double", transformLogic="CAST(amount AS DOUBLE) / quantity"),
            column("domain", transformLogic="SPLIT_PART(email, '@', 2)"),
        ],
        quality=[
            expression("dear", "amount > 5 OR quantity = 1"),
            expression("eur_is_small", "currency <> 'EUR' OR total < 500", severity="warning"),
            library("has_rows", "rowCount", mustBeGreaterThan=0),
        ],
        **own,
    )  # fmt: skip


def order(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "order_id": f"O{number}",
        "amount": "10.50",
        "currency": "EUR",
        "quantity": "2",
        "at": "2026-11-21T10:00:00Z",
        "email": f"someone{number}@example.com",
        "rate": "1.5",
    } | changes


def faulty_orders(start: int, count: int) -> Iterator[dict[str, Any]]:
    """Orders of which most are at fault, in turns that fit no size of block."""
    for number in range(start, start + count):
        row = order(number)
        if number % 2 == 0:
            row["currency"] = " xxx"
        if number % 3 == 0:
            row["quantity"] = "many"
        if number % 5 == 0:
            row |= {"email": "x", "amount": "1.005"}
        if number % 7 == 0:
            row["rate"] = "-1e-9"
        if number % 11 == 0:
            row["order_id"] = None
        if number % 13 == 0:
            row |= {"amount": "1", "quantity": "0", "colour": f"green {number}"}
        yield row


@pytest.mark.parametrize(("part_rows", "group_rows"), [(None, None), (23, 5)])
def test_what_tasks_see_apart_is_put_together_as_if_one_had_seen_it_all(
    bench: Bench, part_rows: int | None, group_rows: int | None
) -> None:
    contract = shop(bench)
    files = {
        f"{name}.jsonl": list(faulty_orders(100 * place, 61))
        for place, name in enumerate("cabd", 1)
    }

    outcome = bench.agreed(bench.land(contract, files, part_rows=part_rows, group_rows=group_rows))

    assert set(outcome.status().values()) == {PARTIAL}
    wrong = [("a.jsonl", n) for n in range(1, 62) if (199 + n) % 2 == 0]
    assert outcome.sampled("currency_allowed") == wrong[:20]
    assert outcome.check("currency_allowed").rows_failed == sum(
        n % 2 == 0 for place in range(1, 5) for n in range(100 * place, 100 * place + 61)
    )
    assert outcome.sampled("rate_range")[0] == ("a.jsonl", 4)
    assert {row["email"] for row in outcome.check("email_length").samples} == {"***"}
    (drift,) = [f for f in outcome.file("b.jsonl").drift if f.column == "quantity"]
    assert (drift.rows, drift.detail.rsplit(" ", 1)[1]) == (19, "1")
    first = next(f for f in outcome.file("b.jsonl").findings if f.column == "currency")
    assert (first.line, first.sample, first.count) == (1, " xxx", 31)
    assert {f.sample for f in outcome.file("b.jsonl").findings if f.column == "email"} == {None}
    assert all(json.loads(r["_extra"])["colour"].startswith("green") for r in outcome.quarantined
               if r["_extra"])  # fmt: skip


def test_many_small_files_keep_their_order_however_tasks_are_cut(bench: Bench) -> None:
    contract = load(bench.folder(), [column("id", "integer", primaryKey=True)])
    files = {
        f"f{number:02d}.jsonl": [{"id": str((number + row) % 90)} for row in range(number % 7)]
        for number in range(60)
    }

    outcome = bench.agreed(bench.land(contract, files, part_rows=11, group_rows=4))

    # A file of no row is refused before.
    assert outcome.verdict.rows_read == sum(number % 7 for number in range(60))
    seen: set[int] = set()
    firsts = []
    for number in range(60):
        for row in range(number % 7):
            if (number + row) % 90 not in seen:
                firsts.append((f"f{number:02d}.jsonl", row + 1))
                seen.add((number + row) % 90)
    assert origins(outcome.accepted) == firsts


def test_every_row_in_a_task_of_its_own(bench: Bench) -> None:
    files = {"a.jsonl": list(faulty_orders(1, 9)), "b.jsonl": list(faulty_orders(5, 9))}

    outcome = bench.agreed(bench.land(shop(bench), files, part_rows=1))

    assert outcome.verdict.rows_read == 18
