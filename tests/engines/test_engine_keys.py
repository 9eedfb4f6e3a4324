"""Keys that repeat, in a file, in a batch and in what is published, by every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from service_core.contract.model import Contract
from service_core.verdict import FileStatus
from tests.engines.bench import Bench, Published
from tests.engines.documents import column, load
from tests.engines.outcomes import origins

PARTIAL, PUBLISHED, QUARANTINED = FileStatus.PARTIAL, FileStatus.PUBLISHED, FileStatus.QUARANTINED

pytestmark = pytest.mark.slow


def test_a_key_is_kept_by_its_first_row_in_the_manifests_order(bench: Bench) -> None:
    contract = load(
        bench.folder(),
        [
            column("region", primaryKey=True, primaryKeyPosition=2),
            column("id", "integer", primaryKey=True, primaryKeyPosition=1),
            column("serial", "decimal", unique=True),
            column("secret", unique=True, classification="personal"),
            column("note"),
        ],
    )

    def row(id: str | None, region: str | None = "n", **more: Any) -> dict[str, Any]:
        return {"id": id, "region": region, "note": "x", **more}

    files = {
        "b.jsonl": [
            row("7"),
            row("1"),  # of a.jsonl
            row("8", serial="1.50"),  # of a.jsonl, spelled otherwise
            row("9", secret="s1"),
            row("10", secret="s1"),  # personal
        ],
        "a.jsonl": [
            row("1"),
            row("+1"),  # another spelling of the same number
            row("01", "s"),
            row("2", "n\u00e9"),
            row("2", "ne\u0301"),  # another normal form is another text
            row("3", serial="1.5"),
            row("3", serial="2"),  # loses by its first key,
            row("4", serial="2.00"),  # so that this one may keep its second
            row(None),  # a null is no key, but is required
            row("5", serial=None),
            row("6", serial=None),
        ],
        "c.jsonl": [row("7"), row("7"), row("7", "o")],
    }

    outcome = bench.agreed(bench.land(contract, files, part_rows=4, group_rows=3))

    assert outcome.sampled("id_region_unique") == [
        ("a.jsonl", 2), ("a.jsonl", 7), ("b.jsonl", 2), ("c.jsonl", 1), ("c.jsonl", 2),
    ]  # fmt: skip
    assert outcome.sampled("serial_unique") == [("b.jsonl", 3)]
    assert outcome.sampled("secret_unique") == [("b.jsonl", 5)]
    assert outcome.check("secret_unique").samples[0]["secret"] == "***"
    told = {
        row["_source_key"][-7] + str(row["_source_row"]): reason["message"]
        for row in outcome.quarantined
        for reason in row["_reasons"]
    }
    where = "things/dt=2026-11-21/"
    assert told["c2"] == f"same id, region as row 1 of {where}b.jsonl"
    assert told["b3"] == f"same serial as row 6 of {where}a.jsonl"
    assert outcome.codes("c.jsonl") == [("DUPLICATE_KEY", "id", 2)]


def test_keys_of_every_type_are_equal_where_their_values_are(bench: Bench) -> None:
    spellings: Mapping[str, list[tuple[str, int]]] = {
        # Each text with the number of the value that it spells.
        "double_special": [
            ("1", 0), ("1.0", 0), ("1e0", 0), ("0", 1), ("-0", 1), ("-0.0", 1), ("NaN", 2),
            ("nan", 2),
            ("inf", 3), ("Infinity", 3), ("-inf", 4), ("0.1", 5), ("0.10000000000000001", 5),
            ("1e-400", 1), ("5e-324", 6), ("4.9e-324", 6),
        ],
        "instant": [
            ("2026-11-21T10:00:00Z", 0), ("2026-11-21 11:00:00+01:00", 0),
            ("2026-11-21T10:00:00.000000Z", 0), ("2026-11-21T10:00:00.000001Z", 1),
            ("0001-01-01T00:00:00Z", 2), ("0001-01-01T00:01:00+00:01", 2),
            ("1582-10-10T00:00:00Z", 3), ("1582-10-20T00:00:00Z", 4),
        ],
        "date": [("1582-10-10", 0), ("1582-10-15", 1), ("0001-01-01", 2), ("0001-01-01", 2)],
        "boolean": [("true", 0), ("TRUE", 0), ("false", 1), ("False", 1)],
        "time": [("10:00:00", 0), ("10:00:00.0", 0), ("23:59:59.999999", 1), ("00:00:00", 2)],
        "string": [
            ("a", 0), ("A", 1), ("a ", 2), ("a\x00", 3), ("\u00e9", 4), ("e\u0301", 5), ("ß", 6),
            ("ss", 7), ("🙂", 8), ("🙂", 8), ("a", 0), ("x" * 5000, 9), ("x" * 5000, 9),
        ],
    }  # fmt: skip
    contract = load(bench.folder(), [column(name, name, unique=True) for name in spellings])
    rows, firsts = [], []
    for name, texts in spellings.items():
        seen: set[int] = set()
        for text, value in texts:
            # A row has a key of one type; a null is no key.
            rows.append({name: text})
            if value not in seen:
                firsts.append(("a.jsonl", len(rows)))
                seen.add(value)

    outcome = bench.agreed(bench.land(contract, {"a.jsonl": rows}, part_rows=13))

    assert origins(outcome.accepted) == firsts


def keyed(bench: Bench, **own: Any) -> Contract:
    return load(
        bench.folder(),
        [column("id", "integer", primaryKey=True), column("code", unique=True), column("note")],
        **own,
    )


def ids(*numbers: int, **more: str) -> list[dict[str, Any]]:
    return [{"id": str(number), "note": "x", **more} for number in numbers]


def test_published_rows_keep_their_keys_unless_they_are_about_to_be_replaced(bench: Bench) -> None:
    contract = keyed(bench)
    before = bench.published(
        bench.land(
            contract,
            {
                "a.jsonl": ids(1, 2, 3),
                "b.jsonl": [*ids(4), {"id": "5", "code": "five", "note": "x"}],
                "c.jsonl": ids(6),
                "d.jsonl": ids(8),
            },
        )
    )
    batch = bench.land(
        contract,
        {
            "a.jsonl": [*ids(1, 4, 10), {"id": "11", "code": "five", "note": "x"}],
            "c.jsonl": ids(1),  # all of it gives way, so that its older version stays:
            "e.jsonl": [*ids(6, 2, 12), {"id": "13", "code": "thirteen", "note": None}],
            "f.jsonl": ids(12, 8),
        },
        published=before,
        part_rows=3,
    )

    outcome = bench.agreed(batch)

    assert outcome.verdict.judged_against == before.snapshot
    assert outcome.status() == {
        "a.jsonl": PARTIAL, "c.jsonl": QUARANTINED, "e.jsonl": PARTIAL, "f.jsonl": QUARANTINED,
    }  # fmt: skip
    # 1 and 2 stood in the version of a.jsonl that goes; 6 is still in c.jsonl's.
    assert outcome.values("id") == [1, 10, 2, 12, 13]
    told = {row["id"]: row["_reasons"][0]["message"] for row in outcome.quarantined}
    where = "things/dt=2026-11-21/"
    assert told["4"] == f"same id as row 1 of {where}b.jsonl, which is already published"
    assert told["11"] == f"same code as row 2 of {where}b.jsonl, which is already published"
    assert told["6"] == f"same id as row 1 of {where}c.jsonl, which is already published"


def test_versions_that_are_appended_stand_beside_what_is_published(bench: Bench) -> None:
    contract = keyed(bench, publication={"mode": "append"})
    before = bench.published(bench.land(contract, {"a.jsonl": ids(1, 2)}))

    outcome = bench.agreed(
        bench.land(contract, {"a.jsonl": ids(1, 3), "b.jsonl": ids(4)}, published=before)
    )

    assert outcome.values("id") == [3, 4]


def test_a_partition_that_holds_nothing_yet_is_no_special_case(bench: Bench) -> None:
    batch = bench.land(keyed(bench), {"a.jsonl": ids(1, 1)}, published=Published(()))
    outcome = bench.agreed(batch)
    assert outcome.values("id") == [1]
    assert outcome.verdict.judged_against is not None


def test_published_files_may_be_older_than_a_column_and_than_a_types_width(bench: Bench) -> None:
    contract = load(
        bench.folder(),
        [column("serial", "decimal", unique=True), column("code", unique=True), column("note")],
    )
    origin = {"_source_key": ["things/dt=2026-11-21/old.jsonl"] * 2, "_source_row": [1, 2],
              "_source_object_id": ["o"] * 2}  # fmt: skip
    narrow = pa.array([Decimal("1.5"), Decimal("2.0")], pa.decimal128(10, 2))
    files = (
        pa.table({"serial": narrow, **origin}),
        pa.table({"code": ["c1", None], **origin}),
        pa.table({"serial": narrow.slice(0, 0), "code": pa.array([], pa.string()),
                  **{name: values[:0] for name, values in origin.items()}}),
    )  # fmt: skip
    before = Published(tuple(bench.table_file(table) for table in files))
    rows = [
        {"serial": "1.50", "note": "x"},
        {"serial": "1.51", "code": "c1"},
        {"serial": "3", "code": "c2"},
    ]

    outcome = bench.agreed(bench.land(contract, {"a.jsonl": rows}, published=before, part_rows=2))

    assert outcome.values("code") == ["c2"]


@pytest.mark.soak
def test_a_batch_that_is_judged_again_takes_nothing_back_out_of_quarantine(bench: Bench) -> None:
    contract = keyed(bench, drift={"type": "quarantine_file"}, publication={"mode": "append"})

    def holds(*numbers: int) -> Published:
        return bench.published(bench.land(contract, {f"p{numbers}.jsonl": ids(*numbers)}))

    batch = bench.land(
        contract,
        {
            "a.jsonl": ids(1, 2, 3, 4),
            "b.jsonl": [*ids(5), {"id": "x"}, {"id": "y"}],  # went, and stays gone
            "c.jsonl": ids(7),  # had no row left, and would now
            "d.jsonl": ids(8, 3),
        },
        published=holds(1, 8),
        part_rows=2,
    )

    outcome = bench.agreed(replace(batch, again=True, judged_before=holds(7)))

    assert outcome.status() == {
        "a.jsonl": PARTIAL, "b.jsonl": QUARANTINED, "c.jsonl": QUARANTINED, "d.jsonl": QUARANTINED,
    }  # fmt: skip
    assert outcome.values("id") == [2, 3, 4]
    assert "first judged" in outcome.file("c.jsonl").findings[0].message


@pytest.mark.soak
def test_one_key_in_nearly_every_row_goes_to_the_first(bench: Bench) -> None:
    """A skewed key: all of a shuffle's rows in one task."""
    rows = [{"id": "1" if n % 50 else str(n + 2), "note": "x"} for n in range(3_000)]
    batch = bench.land(keyed(bench), {"a.jsonl": rows, "b.jsonl": rows[:1_000]}, part_rows=700)

    outcome = bench.agreed(batch)

    assert outcome.verdict.rows_accepted == 61
    assert outcome.check("id_unique").rows_failed == 3_939


def test_a_file_that_goes_gives_back_the_keys_that_it_held(bench: Bench) -> None:
    contract = keyed(bench, tolerance={"divertedShare": 0.5})
    files = {
        "a.jsonl": [*ids(1, 2), {"id": "x"}, {"id": "y"}, {"id": "z"}],  # goes by itself
        "b.jsonl": ids(1, 2, 3),  # gives nothing up once a.jsonl is gone
        "c.jsonl": ids(1, 2, 4, 5, 3),  # goes for what b.jsonl holds
        "d.jsonl": ids(4, 5, 6),  # has its keys back once c.jsonl is gone
        "e.jsonl": ids(6, 7),
    }

    outcome = bench.agreed(bench.land(contract, files, part_rows=4))

    assert outcome.status() == {
        "a.jsonl": QUARANTINED, "b.jsonl": PUBLISHED, "c.jsonl": QUARANTINED, "d.jsonl": PUBLISHED,
        "e.jsonl": PARTIAL,
    }  # fmt: skip
    assert outcome.values("id") == [1, 2, 3, 4, 5, 6, 7]
    assert outcome.file("c.jsonl").findings[0].code == "TOO_MANY_DIVERTED"
    assert len(outcome.whole) == 2
    record, content = next(iter(outcome.whole.values()))
    assert record["code"] == "TOO_MANY_DIVERTED"
    assert content.startswith(b'{"id": "1"')
