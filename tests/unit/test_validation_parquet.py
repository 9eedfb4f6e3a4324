"""Parquet: each value becomes the one spelling of its type, and broken files are refused."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_core.contract.model import Contract, DriftPolicy, FileFormat, LogicalType
from service_core.validation.content import Content
from service_core.validation.parquet_rows import read_parquet
from service_core.validation.refusal import FileRefused, Tally
from tests.unit.validation_files import column, contract, values

PARQUET = FileFormat.PARQUET


class Read:
    def __init__(self, agreed: Contract, body: bytes, scratch: Path) -> None:
        tally = Tally(agreed)
        held = read_parquet(agreed, "1", Content(len(body), data=body), tally, scratch)
        self.rows: list[dict[str, Any]] = [r for t in held.rows.tables() for r in t.to_pylist()]
        self.malformed = [r for t in held.malformed.tables() for r in t.to_pylist()]
        self.rows_read = held.rows_read
        self.drift = held.drift


@pytest.fixture
def read(tmp_path: Path) -> Any:
    return lambda agreed, table: Read(
        agreed, table if isinstance(table, bytes) else file_of(table), tmp_path
    )


def file_of(columns: dict[str, pa.Array]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("array", "texts"),
    [
        (pa.array(["x", "", None]), ["x", "", None]),
        (pa.array(["x"]).dictionary_encode(), ["x"]),
        (pa.array([1, -5, None], pa.int32()), ["1", "-5", None]),
        (pa.array([2**63], pa.uint64()), ["9223372036854775808"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([0.1, 1e300, float("nan"), 3.0]), ["0.1", "1e+300", "nan", "3"]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        (pa.array([Decimal("1.10"), Decimal("-0.00000001")], pa.decimal128(20, 8)),
         ["1.10000000", "-0.00000001"]),
        (pa.array([date(2026, 2, 28), date(1, 1, 1)]), ["2026-02-28", "0001-01-01"]),
        (pa.array([datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 2, 3, 4, 5, 120000)]),
         ["2026-01-02T03:04:05", "2026-01-02T03:04:05.12"]),
        (pa.array([datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))],
                  pa.timestamp("us", "Europe/Berlin")), ["2026-01-02T01:00:00Z"]),
        (pa.array([datetime(2026, 1, 2, tzinfo=UTC)], pa.timestamp("ns", "UTC")),
         ["2026-01-02T00:00:00Z"]),
        (pa.array([time(1, 2, 3), time(1, 2, 3, 400)]), ["01:02:03", "01:02:03.0004"]),
        (pa.array([None, None], pa.null()), [None, None]),
    ],
)  # fmt: skip
def test_each_type_has_one_spelling(read: Any, array: pa.Array, texts: list[str | None]) -> None:
    found = read(contract("a", kind=PARQUET), {"a": array})
    assert [r["a"] for r in found.rows] == texts
    assert [r["_source_row"] for r in found.rows] == list(range(1, len(texts) + 1))
    assert all(r["_source_line"] is None for r in found.rows)


def test_the_files_scale_of_a_decimal_is_no_matter_of_the_value(read: Any) -> None:
    agreed = contract(column("a", type=LogicalType.DECIMAL), kind=PARQUET)
    array = pa.array([Decimal("1.10"), Decimal("100")], pa.decimal128(38, 18))
    assert [r["a"] for r in read(agreed, {"a": array}).rows] == ["1.1", "100"]


def test_nested_columns_are_read_by_path_or_kept_as_json(read: Any) -> None:
    agreed = contract(
        column("city", source="$.address.city"),
        column("tags", type=LogicalType.JSON),
        kind=PARQUET,
    )
    table = {
        "address": pa.array([{"city": "X", "floor": 3}, None]),
        "tags": pa.array([["a", "b"], None]),
    }
    found = read(agreed, table)
    assert values(found.rows) == [["X", '["a","b"]'], [None, None]]
    assert found.rows[0]["_extra"] == '{"address":{"floor":3}}'


def test_a_nested_value_where_a_single_one_is_expected_goes_by_policy(read: Any) -> None:
    table = {"a": pa.array([{"x": 1}, None]), "b": pa.array(["1", "2"])}
    rows = read(contract("a", "b", kind=PARQUET), table)
    assert [(m["code"], m["column"], m["_source_row"]) for m in rows.malformed] == [
        ("NESTED_SHAPE", "a", 1)
    ]
    assert values(rows.rows) == [[None, "2"]]
    assert rows.rows_read == 2
    aside = read(contract("a", "b", kind=PARQUET, nested_shape=DriftPolicy.KEEP_ASIDE), table)
    assert aside.rows[0]["_extra"] == '{"a":{"x":1}}'
    with pytest.raises(FileRefused):
        read(contract("a", "b", kind=PARQUET, nested_shape=DriftPolicy.QUARANTINE_FILE), table)


def test_columns_drift_as_they_do_in_every_format(read: Any) -> None:
    one = pa.array([1])
    aside = read(contract("a", kind=PARQUET), {"b": pa.array([Decimal("1.50")]), "a": one})
    assert aside.rows[0]["_extra"] == '{"b":1.50}'
    with pytest.raises(FileRefused) as caught:
        read(contract("a", "b", kind=PARQUET), {"a": one})
    assert [(f.code.value, f.column) for f in caught.value.findings] == [("COLUMN_MISSING", "b")]


def test_bytes_are_no_text(read: Any) -> None:
    table = {"a": pa.array([b"\xff"]), "b": pa.array([1])}
    with pytest.raises(FileRefused) as caught:
        read(contract("a", "b", kind=PARQUET), table)
    assert caught.value.findings[0].code.value == "TYPE"
    assert caught.value.drift[0].kind.value == "type"
    aside = read(contract("a", "b", kind=PARQUET, type=DriftPolicy.KEEP_ASIDE), table)
    assert values(aside.rows) == [[None, "1"]]
    assert aside.rows[0]["_extra"] == '{"a":"/w=="}'


def test_a_file_without_a_row_is_empty(read: Any) -> None:
    with pytest.raises(FileRefused) as caught:
        read(contract("a", kind=PARQUET), {"a": pa.array([], pa.string())})
    assert caught.value.findings[0].code.value == "EMPTY"


def test_text_that_is_not_utf8_refuses_the_file(read: Any) -> None:
    array = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    with pytest.raises(FileRefused) as caught:
        read(contract("a", kind=PARQUET), {"a": array})
    assert caught.value.findings[0].code.value == "ENCODING"


def test_a_broken_file_is_malformed(read: Any) -> None:
    body = file_of({"a": pa.array(["x" * 100] * 1000)})
    for broken in (b"PAR1PAR1", body[:50] + body[90:], body[:-30] + body[-8:]):
        with pytest.raises(FileRefused) as caught:
            read(contract("a", kind=PARQUET), broken)
        assert caught.value.findings[0].code.value in ("MALFORMED_FILE", "ENCODING")


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_read_or_refused_and_never_raises_anything_else(
    tmp_path: Path, at: int, noise: bytes
) -> None:
    body = bytearray(file_of({"a": pa.array(["x", "y", None]), "n": pa.array([1, 2, 3])}))
    at %= len(body)
    body[at : at + len(noise)] = noise
    try:
        found = Read(contract("a", kind=PARQUET), bytes(body), tmp_path)
    except FileRefused as refused:
        assert refused.findings
        return
    assert found.rows_read == len(found.rows) + len(found.malformed)
