"""Figures of files and of batches, by every engine."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from service_core.contract.model import Contract
from tests.engines.bench import Bench
from tests.engines.documents import column, figure, library, load
from tests.engines.outcomes import Outcome

pytestmark = pytest.mark.slow

#: Distinct values are shuffled whatever becomes of keys.
_NO_SHUFFLED_KEYS = ("in_process", "spark")


def measured(bench: Bench, *rules: Any, **own: Any) -> Contract:
    """Columns to take figures of."""
    return load(
        bench.folder(),
        [
            column("id", "integer", unique=True),
            column("whole", "integer"),
            column("exact", "decimal_wide"),
            column("float", "double_special"),
            column("day", "date"),
            column("moment", "timestamp"),
            column("at", "instant"),
            column("word", nullIf=["-"]),
        ],
        quality=rules,
        **own,
    )


def figures(outcome: Outcome) -> dict[str, Any]:
    return {c.name: c.figure for c in outcome.verdict.checks if c.scope is not None}


def test_figures_are_exact_and_merge_whatever_the_order(bench: Bench) -> None:
    contract = measured(
        bench,
        figure("whole_sum", "sum", "whole", mustBeGreaterThan=0, severity="warning"),
        figure("exact_sum", "sum", "exact", mustBeGreaterThan=0, severity="warning"),
        figure("float_sum", "sum", "float", mustBe=0.5, severity="warning"),
        figure("words", "distinctCount", "word", mustBe=3, severity="warning"),
        figure("pairs", "distinctCount", "word", "whole", mustBe=4, severity="warning"),
        figure("day_age", "freshness", "day", mustBeLessThan=2, unit="days", severity="warning"),
        figure("moment_age", "freshness", "moment", mustBeLessThan=60, severity="warning"),
        figure("age", "freshness", "at", mustBeLessThan=60, unit="minutes", severity="warning"),
        library("rows", "rowCount", mustBeBetween=[1, 100], severity="warning"),
        library("twice", "duplicateValues", arguments={"properties": ["word"]}, mustBe=0,
                severity="warning"),
        library("twice_both", "duplicateValues", arguments={"properties": ["word", "whole"]},
                mustBeLessThan=20, unit="percent", severity="warning"),
    )  # fmt: skip

    def row(id: int, **values: str | None) -> dict[str, Any]:
        return {"id": str(id), **values}

    files = {
        "a.jsonl": [
            row(1, whole=str(2**63 - 1), exact="9" * 28 + "." + "9" * 10, float="1e308", word="a"),
            row(2, whole=str(2**63 - 1), exact="0.0000000001", float="1e308", word="b"),
            row(3, whole="1", exact=None, float="0.1", word="-", day="2026-11-20"),
            row(4, word="a", at="2026-11-21T11:30:00Z"),
            row(1, whole="5", exact="5", float="5", word="z"),  # gives way, so counts nowhere
        ],
        "b.jsonl": [
            row(5, float="-1e308", word="a", moment="2026-11-21T11:59:00"),
            row(6, float="-1e308", word="c", at="2026-11-21T12:00:00+01:00"),
            row(7, float="0.2", word="b", whole="1", day="1582-10-10"),
            row(8, float="0.2", word="b", whole="+1", moment="0001-01-01 00:00:00"),
            row(9, whole="x", word="nobody"),  # diverted, so counts nowhere
        ],
    }

    outcome = bench.agreed(bench.land(contract, files, part_rows=2), _NO_SHUFFLED_KEYS)

    assert figures(outcome) == {
        "whole_sum": float(2 * (2**63 - 1) + 3),
        "exact_sum": 1e28,
        "float_sum": 0.5,
        "words": 3,
        "pairs": 3,
        "day_age": timedelta(days=1, hours=12).total_seconds(),
        "moment_age": 60,
        "age": 1800,
        "rows": 8,
        "twice": 4,
        "twice_both": 12.5,
    }
    failed = {c.name for c in outcome.verdict.checks if not c.passed}
    assert failed >= {"pairs", "moment_age", "twice"}
    assert "float_sum" not in failed or outcome.check("float_sum").scope == "batch"


def test_a_sum_of_what_is_no_finite_number_says_so(bench: Bench) -> None:
    names = ("infinite", "opposite", "nan", "nothing")
    contract = load(
        bench.folder(),
        [*(column(name, "double_special") for name in names), column("at", "instant")],
        quality=[
            *(
                figure(f"{name}_sum", "sum", name, mustBeGreaterThan=10, severity="warning")
                for name in names
            ),
            figure("age", "freshness", "at", mustBeLessThan=10, severity="warning"),
        ],
    )
    rows = [
        {"infinite": "inf", "opposite": "-inf", "nan": "1"},
        {"infinite": "1e308", "opposite": "inf", "nan": "NaN"},
    ]

    outcome = bench.agreed(bench.land(contract, {"a.jsonl": rows}, part_rows=1))

    for name, word in zip(names, ("inf", "nan", "nan", "0"), strict=True):
        check = outcome.check(f"{name}_sum")
        assert f"figure is {word}." in check.detail
        assert check.passed is (word == "inf")
    assert outcome.check("age").figure is None
    assert not outcome.check("age").passed


def test_a_file_goes_for_a_figure_of_its_own_and_others_are_judged_without_it(bench: Bench) -> None:
    contract = load(
        bench.folder(),
        [
            column("id", "integer", unique=True),
            column("amount", "decimal", quality=[
                {"name": "amounts_given", "metric": "nullValues", "mustBeLessOrEqualTo": 50,
                 "unit": "percent"},
            ]),
            column("word", quality=[
                library("bad_words", "invalidValues", mustBeLessThan=2,
                        arguments={"validValues": ["a", "b"]}),
                library("words_twice", "duplicateValues", mustBeLessThan=3, scope="source_object"),
            ]),
        ],
        quality=[
            figure("worth", "sum", "amount", mustBeGreaterThan=0, scope="source_object"),
            figure("some_words", "distinctCount", "word", mustBeGreaterThan=1, severity="warning"),
            library("enough", "rowCount", mustBeGreaterOrEqualTo=2, scope="both"),
        ],
    )  # fmt: skip

    def rows(start: int, *pairs: tuple[str | None, str | None]) -> list[dict[str, Any]]:
        return [{"id": str(start + n), "amount": a, "word": w} for n, (a, w) in enumerate(pairs)]

    files = {
        "a.jsonl": rows(10, ("1", "a"), ("1", "b"), (None, None)),
        "b.jsonl": rows(20, ("1", "a"), (None, "a"), (None, "b")),  # two of three null
        "c.jsonl": rows(30, ("1", "x"), ("1", "y")),  # two bad words
        "d.jsonl": rows(40, ("1", "a"), ("-1", "b")),  # worth nothing
        "e.jsonl": rows(50, ("1", "a")),  # one row
        "f.jsonl": [*rows(60, ("1", "a"), ("1", "x")), *rows(10, ("1", "b"))],
        "g.jsonl": rows(70, *[("1", "a")] * 4),  # three words twice
        "h.jsonl": rows(20, ("1", "b"), ("1", "b"), ("1", "a")),  # has its ids back from b.jsonl
    }

    outcome = bench.agreed(bench.land(contract, files, part_rows=3), _NO_SHUFFLED_KEYS)

    assert {name[0]: status.value[0] for name, status in outcome.status().items()} == {
        "a": "p", "b": "q", "c": "q", "d": "q", "e": "q", "f": "p", "g": "q", "h": "p",
    }  # fmt: skip
    assert "amounts_given" in outcome.file("b.jsonl").findings[0].message
    assert "bad_words" in outcome.file("c.jsonl").findings[0].message
    assert "worth" in outcome.file("d.jsonl").findings[0].message
    assert "enough" in outcome.file("e.jsonl").findings[0].message
    assert outcome.verdict.passed
    assert outcome.check("enough").figure == outcome.verdict.rows_accepted == 8


@pytest.mark.parametrize("scope", ["batch", "both"])
def test_a_figure_of_the_batch_keeps_all_of_it_back(bench: Bench, scope: str) -> None:
    contract = measured(
        bench,
        figure("revenue", "sum", "exact", mustBeGreaterThan=10, scope="batch"),
        figure("spread", "distinctCount", "word", mustBeGreaterThan=5, scope="batch"),
        library("rows", "rowCount", mustBeLessThan=100, scope=scope),
        tolerance={"divertedShare": 0.5},
    )
    files = {
        "a.jsonl": [{"id": "1", "exact": "5"}, {"id": "2", "exact": "x"}, {"id": "3"}],
        "b.jsonl": [{"id": "x"}, {"id": "y"}],  # goes by itself
        "c.jsonl": [{"id": "4", "exact": "5"}, {"id": "1"}],
    }

    outcome = bench.agreed(bench.land(contract, files, part_rows=2), _NO_SHUFFLED_KEYS)

    assert not outcome.verdict.passed
    assert not outcome.accepted
    assert not outcome.quarantined
    assert [outcome.codes(name)[0][0] for name in files] == [
        "BATCH_BLOCKED", "TOO_MANY_DIVERTED", "BATCH_BLOCKED",
    ]  # fmt: skip
    assert len(outcome.whole) == 3
    assert outcome.check("rows_conserved").passed
