"""Drift, nested values, rows without shape, wide rows and no rows, by every engine."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service_core.contract import load_contract
from service_core.verdict import FileStatus
from tests.engines.bench import Bench
from tests.engines.documents import column, expression, figure, library, load

PARTIAL, PUBLISHED, QUARANTINED = FileStatus.PARTIAL, FileStatus.PUBLISHED, FileStatus.QUARANTINED

pytestmark = pytest.mark.slow


def test_one_text_of_the_wrong_type_takes_the_file_where_the_policy_says_so(bench: Bench) -> None:
    contract = load(
        bench.folder(),
        [column("id", "integer", unique=True), column("at", "instant"), column("pin", "integer",
         classification="pii")],
        drift={"type": "quarantine_file"},
    )  # fmt: skip
    good = {"at": "2026-11-21T10:00:00Z", "pin": "1"}
    files = {
        "a.jsonl": [
            {"id": "1", **good},
            {"id": "2", **good, "at": "yesterday"},
            {"id": "3", **good},
        ],
        "b.jsonl": [{"id": "1", **good}, {"id": "3", **good}],
        "c.jsonl": [{"id": "5", **good}, {"id": "6", **good}, {"id": "7", **good, "pin": "none"}],
        "d.jsonl": [{"id": "8", "at": "", "pin": None}],
    }

    outcome = bench.agreed(bench.land(contract, files, part_rows=2))

    assert outcome.status() == {
        "a.jsonl": QUARANTINED, "b.jsonl": PUBLISHED, "c.jsonl": QUARANTINED, "d.jsonl": PUBLISHED,
    }  # fmt: skip
    assert outcome.values("id") == [1, 3, 8]
    first = outcome.file("a.jsonl").findings[0]
    assert (first.line, first.sample) == (2, "yesterday")
    assert outcome.file("c.jsonl").findings[0].sample is None


@pytest.mark.parametrize("policy", ["allow", "keep_aside"])
def test_text_that_is_no_value_is_published_as_null_and_kept_aside(
    bench: Bench, policy: str
) -> None:
    contract = load(
        bench.folder(),
        [
            column("id", "integer", required=True),
            column("count", "integer", minimum=0),
            column("at", "instant"),
            column("half", "double", transformLogic="CAST(count AS DOUBLE) / 2"),
        ],
        drift={"type": policy, "additive": "keep_aside"},
    )
    rows = [
        {"id": "1", "count": "1,000", "at": "now"},
        {
            "id": "2",
            "count": "x",
            "at": None,
            "_count": "beside",
            "more": [1.10, {"a": "🙂\x00\n"}],
        },
        {"id": "three", "count": "-1"},
        {"id": "4", "count": "-1"},
        {"id": "5", "count": "6", "more": {"deep": {"er": None}}},
    ]

    outcome = bench.agreed(bench.land(contract, {"a.jsonl": rows}, part_rows=2))

    assert outcome.values("count") == [None, None, 6]
    assert outcome.values("half") == [None, None, 3.0]
    kept = [None if text is None else json.loads(text) for text in outcome.values("_extra")]
    lost = [{"count": "1,000", "at": "now"}, {"count": "x"}] if policy == "keep_aside" else [{}, {}]
    assert kept == [
        lost[0] or None,
        {"_count": "beside", "more": [1.10, {"a": "🙂\x00\n"}]} | lost[1],
        {"more": {"deep": {"er": None}}},
    ]
    assert outcome.reasons() == [[("REQUIRED", "id"), ("RANGE", "count")], [("RANGE", "count")]]


def test_nested_documents_are_the_same_values_and_the_same_faults(bench: Bench) -> None:
    contract = load(
        bench.folder(),
        [
            column("id", "integer", source="$.head.id", required=True, unique=True),
            column("name", source="$['the name']['a.b']"),
            column("first", "decimal", source="$.items[0].price"),
            column("items", "array"),
            column("whole", "object"),
            column("flag", "boolean", source="$.head.flag"),
        ],
        drift={"nestedShape": "quarantine_rows", "additive": "keep_aside", "type": "keep_aside"},
    )
    rows: list[Any] = [
        {
            "head": {"id": 1, "flag": True, "new": [1]},
            "the name": {"a.b": "Zoë 🙂\u0000"},
            "items": [{"price": 1.10, "tags": []}, {"price": 2}],
            "whole": {"a": {"b": [None, 1.5, "\n"]}},
        },
        {"head": {"id": 2}, "items": []},
        {"head": {"id": "3", "flag": "yes"}, "items": [{"price": "1.005"}], "whole": {}},
        {"head": "flat", "items": [{"price": 1}]},
        {"head": {"id": 5}, "items": {"price": 1}},
        {"head": {"id": 1}, "whole": {"deep": json.loads("[" * 50 + "]" * 50)}},
        {"head": {"id": None}},
        {"head": {"id": {}}},
    ]
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    body += (
        b'[1]\n{"head": {"id": 9}\n"text"\n{"head": {"id": 10, "id": 11}}\n{"head":{"id":12.0}}\n'
    )

    outcome = bench.agreed(bench.land(contract, {"a.jsonl": body}, part_rows=3, group_rows=2))

    assert outcome.values("id") == [1, 2, 3]
    assert outcome.values("first") == [Decimal("1.10"), None, None]
    assert json.loads(outcome.values("items")[0]) == rows[0]["items"]
    assert {code for reasons in outcome.reasons() for code, _ in reasons} >= {
        "JSON_MALFORMED", "JSON_NOT_OBJECT", "NESTED_SHAPE", "DUPLICATE_KEY", "REQUIRED",
    }  # fmt: skip


def test_rows_without_shape_go_with_their_file_or_to_row_quarantine(bench: Bench) -> None:
    contract = load(
        bench.folder(),
        [column("id", "integer"), column("note"), column("more", source="And more")],
        format={"type": "csv", "compression": "none"},
        dialect={"nullValues": ["", "NULL"]},
        tolerance={"divertedShare": 0.5},
    )
    files = {
        "a.csv": (
            'id,note,And more\n1,"a\nb",\n2\n3,x,y,z\n4,"",NULL\n5,"q""q",\r\nx,🙂,\x01\n'
        ).encode(),
        "b.csv": b"id,note,And more\n1\n2\n3,,\n",
        "c.csv": b"id,note,And more\nx\n",
        "d.csv": b"id,note\n1,2\n",
        "e.csv": b"\xff\xfe",
        "f.csv": b"id,note,And more\n1,2,\xff\n2,,\n3,,\n",
    }

    outcome = bench.agreed(bench.land(contract, files, part_rows=2))

    assert outcome.file("a.csv").status is PARTIAL
    assert outcome.file("b.csv").findings[0].code == "TOO_MANY_DIVERTED"
    assert outcome.file("d.csv").findings[0].code == "COLUMN_MISSING"
    raw = [row["_raw"] for row in outcome.quarantined if row["_raw"] is not None]
    assert raw[:2] == ["2", "3,x,y,z"]


def test_derivations_without_an_outcome_take_their_rows_alone(bench: Bench) -> None:
    contract = load(
        bench.folder(),
        [
            column("a", "integer"),
            column("b", "decimal"),
            column("secret", classification="restricted"),
            column("ratio", "double", transformLogic="a / b"),
            column("scaled", "decimal", transformLogic="b * 1000000"),
            column("length", "integer", transformLogic="LENGTH(secret)"),
            column("twice", "integer", transformLogic="length * 2", required=True),
            column("parsed", "date", transformLogic="TRY_CAST(secret AS DATE)"),
        ],
        quality=[expression("short", "twice < 20"), expression("ratio_known", "ratio IS NOT NULL")],
    )
    rows = [{"a": str(n), "b": f"{n % 7}", "secret": "s" * (n % 15) or None} for n in range(40)] + [
        {"a": "1", "b": "99999999.99", "secret": "2026-02-30"},
        {"a": "1", "b": "1", "secret": "2026-02-28"},
    ]

    outcome = bench.agreed(bench.land(contract, {"a.jsonl": rows}, part_rows=9))

    assert "s" * 12 not in outcome.verdict.model_dump_json()
    by_code = {code for code, _, _ in outcome.codes("a.jsonl")}
    assert by_code == {"DERIVATION", "REQUIRED", "RULE"}


def test_wide_rows_and_long_texts_and_columns_without_a_value(bench: Bench) -> None:
    kinds = ["string", "integer", "decimal", "double", "boolean", "date", "instant", "time"]
    columns = [column(f"c{n:03d}", kinds[n % len(kinds)]) for n in range(400)]
    contract = load(bench.folder(), columns, drift={"type": "keep_aside"})
    empty = dict.fromkeys(c["name"] for c in columns)
    rows: list[dict[str, Any]] = [
        dict(empty),
        {c["name"]: "true" for c in columns},
        {**empty, "c000": "long " * 200_000},
        {c["name"]: "" for c in columns},
        {**empty, "c001": "7", "c399": "10:00:00"},
    ]

    outcome = bench.agreed(
        bench.land(contract, {"a.jsonl": rows, "b.jsonl": rows[:1]}, part_rows=2)
    )

    assert outcome.verdict.rows_accepted == 6
    assert set(outcome.values("c002")) == {None}
    assert len(json.loads(outcome.values("_extra")[1])) == 300


def test_a_contract_of_one_column_and_no_rule(bench: Bench) -> None:
    contract = load(bench.folder(), [column("text")])
    outcome = bench.agreed(bench.land(contract, {"a.jsonl": [{"text": "x"}, {"text": None}, {}]}))
    assert outcome.values("text") == ["x", None, None]
    assert outcome.quarantined_schema == {}


def test_nothing_is_accepted(bench: Bench) -> None:
    contract = load(bench.folder(), [column("id", "integer", primaryKey=True)])
    files = {"a.jsonl": [{"id": "x"}, {"id": "y"}], "b.jsonl": [{"id": ""}]}
    outcome = bench.agreed(bench.land(contract, files, part_rows=1))
    assert outcome.status() == {"a.jsonl": QUARANTINED, "b.jsonl": QUARANTINED}
    assert len(outcome.quarantined) == 3
    assert not outcome.accepted
    assert not outcome.verdict.passed


def test_no_file_reaches_curation(bench: Bench) -> None:
    files = {"a.jsonl": b"", "b.jsonl": b"\xff\xfe\x00", "c.jsonl": b"[]\n"}
    contract = load(
        bench.folder(),
        [column("id", "integer", unique=True), column("at", "instant")],
        quality=[
            library("has_rows", "rowCount", mustBeGreaterThan=0),
            figure("age", "freshness", "at", mustBeLessThan=10),
            figure("ids", "distinctCount", "id", mustBeGreaterThan=0),
        ],
    )
    outcome = bench.agreed(bench.land(contract, files))
    assert not outcome.verdict.passed
    assert outcome.verdict.rows_accepted == 0
    assert "No row was judged." in outcome.check("id_type").detail


def test_the_shipped_contracts_on_the_golden_files(bench: Bench) -> None:
    """See `tests/golden`; every file of a data set in one batch."""

    root = Path(__file__).parents[2]
    for dataset in ("orders", "customers"):
        contract = load_contract(root / "contracts" / f"{dataset}.yaml")
        folder = root / "tests" / "golden" / dataset
        files = {
            path.name: path.read_bytes()
            for path in sorted(folder.iterdir())
            if path.name.startswith(dataset)
        }
        outcome = bench.agreed(bench.land(contract, files, part_rows=4))
        assert outcome.verdict.rows_accepted
        assert outcome.verdict.rows_quarantined
