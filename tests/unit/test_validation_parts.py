"""Parts of canonical text: whole row groups, whatever the tables that they are given in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service_core.canonical import canonical_schema
from service_core.full_columns import full_columns
from service_core.validation import parts
from service_core.validation.parts import PartWriter
from tests.canonical_batches import canonical, landed, orders, row, shape

OBJECTS = [landed(f"{n}.csv") for n in range(3)]


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., list[pq.ParquetFile]]:
    """Writes tables, and gives the parts that came of it."""

    def write(*tables: pa.Table) -> list[pq.ParquetFile]:
        shipped: list[Path] = []

        def ship(number: int, path: Path) -> str:
            shipped.append(shutil.copy(path, tmp_path / f"shipped-{number}"))
            return str(shipped[-1])

        writer = PartWriter(
            canonical_schema(orders()), lambda number: tmp_path / f"part-{number}", ship
        )
        for table in tables:
            writer.add(table)
        staged = writer.finish()
        files = [pq.ParquetFile(path) for path in shipped]
        assert [part.rows for part in staged] == [file.metadata.num_rows for file in files]
        return files

    return write


def rows(count: int, number: int = 0) -> pa.Table:
    """Canonical rows of one object."""
    return canonical(orders(), {OBJECTS[number]: [row(n) for n in range(count)]})


def groups(file: pq.ParquetFile) -> list[int]:
    metadata = file.metadata
    return [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]


def test_a_row_group_is_whole_whatever_the_tables(
    monkeypatch: pytest.MonkeyPatch, written: Callable[..., list[pq.ParquetFile]]
) -> None:
    monkeypatch.setattr(parts, "ROW_GROUP_ROWS", 100)
    tables = [rows(count) for count in (60, 60, 1, 250, 100, 30)]
    (file,) = written(*tables)
    assert groups(file) == [100, 100, 100, 100, 100, 1]
    assert file.read().to_pylist() == pa.concat_tables(tables).to_pylist()


def test_wide_rows_are_written_before_they_fill_memory(
    monkeypatch: pytest.MonkeyPatch, written: Callable[..., list[pq.ParquetFile]]
) -> None:
    monkeypatch.setattr(parts, "_ROW_GROUP_BYTES", 1_000)
    (file,) = written(*[rows(10) for _ in range(4)])
    assert groups(file) == [10, 10, 10, 10]


def test_objects_ids_are_stored_once_and_read_as_text(
    written: Callable[..., list[pq.ParquetFile]],
) -> None:
    """However each table has them, and whatever dictionaries the tables bring."""
    plain, first, second = (rows(50, number) for number in range(3))
    place = plain.column_names.index("_source_object_id")
    encoded = [
        table.set_column(
            place, "_source_object_id", table.column("_source_object_id").dictionary_encode()
        )
        for table in (first, second)
    ]
    (file,) = written(plain, *encoded)
    assert shape(file.schema_arrow) == shape(canonical_schema(orders()))
    ids = file.metadata.row_group(0).column(place)
    assert ids.has_dictionary_page
    assert ids.total_uncompressed_size < 50 * 64
    assert file.read().to_pylist() == pa.concat_tables([plain, first, second]).to_pylist()


def test_a_column_is_required_until_a_null_comes_and_then_never_again(
    written: Callable[..., list[pq.ParquetFile]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "ROW_GROUP_ROWS", 20)
    full = rows(20)
    tables = [full, full, _without_currency(full), full, _without_currency(full)]

    files = written(*tables)

    assert [("currency" in _required(f), groups(f)) for f in files] == [
        (True, [20, 20]),
        (False, [20, 20, 20]),
    ]
    assert {"_source_row", "_source_object_id"} < _required(files[1])
    read = [file.read().to_pylist() for file in files]
    assert [line for part in read for line in part] == pa.concat_tables(tables).to_pylist()


def test_a_null_in_a_dictionary_is_a_null() -> None:
    indices = pa.array([0, 1], pa.int32())
    pointing = pa.DictionaryArray.from_arrays(indices, pa.array(["a", None]))
    meant = pa.DictionaryArray.from_arrays(indices, pa.array(["a", "b"]))
    assert full_columns(pa.table({"pointing": pointing, "meant": meant})) == {"meant"}


def _without_currency(table: pa.Table) -> pa.Table:
    place = table.column_names.index("currency")
    return table.set_column(place, "currency", pa.nulls(table.num_rows, pa.string()))


def _required(file: pq.ParquetFile) -> set[str]:
    return {field.name for field in file.schema_arrow if not field.nullable}
