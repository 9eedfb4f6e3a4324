"""A published table's schema: what the contract says, changed only in ways that Iceberg can undo.

Columns are added and decimals widened, nothing else; what is in the table stays readable. Every
column is optional in the table, required ones too: the contract's rules have already kept nulls
out, and an optional column is the only kind that can be added to rows that are already there, or
be relaxed later without rewriting them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.update.schema import UpdateSchema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IcebergType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from resources.table_name import TableSchemaError
from service_core import canonical
from service_core.contract.model import Contract, Processing

_PARTITION_FIELD_ID = 1000


#: What the origin columns mean, for those who meet them in the catalog.
_ORIGIN: Mapping[str, str] = {
    canonical.EXTRA: "JSON object of what the file held beyond its contract.",
    canonical.SOURCE_OBJECT_ID: "Id of the landed object's version that the row came from.",
    canonical.SOURCE_KEY: "Key of the landed object in the raw bucket.",
    canonical.SOURCE_ROW: "Ordinal of the row in its file, from 1, header not counted.",
    canonical.SOURCE_LINE: "Line of the file on which the row starts, from 1.",
    canonical.BATCH_ID: "Batch that published the row.",
    canonical.CONTRACT_VERSION: "Version of the contract by which the row was judged.",
    canonical.INGESTED_AT: "When the batch was judged.",
    canonical.PARTITION: "Landing day or hour; the table is partitioned by it.",
}


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column as the contract wants it in the table."""

    name: str
    type: pa.DataType
    doc: str


def table_columns(contract: Contract) -> tuple[TableColumn, ...]:
    """What the table of a data set holds, in order."""
    docs = {**{c.name: c.description for c in contract.columns}, **_ORIGIN}
    schema = (
        canonical.text_schema(contract)
        if contract.processing is Processing.ELT
        else canonical.accepted_schema(contract)
    )
    return tuple(TableColumn(f.name, f.type, docs.get(f.name, "")) for f in schema)


def plain(kind: pa.DataType) -> pa.DataType:
    """An Arrow type without its choice of memory layout, which Parquet does not keep."""
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return kind


_ICEBERG: Mapping[pa.DataType, Callable[[], IcebergType]] = {
    pa.string(): StringType,
    pa.int64(): LongType,
    pa.float64(): DoubleType,
    pa.bool_(): BooleanType,
    pa.date32(): DateType,
    pa.time64("us"): TimeType,
    pa.timestamp("us"): TimestampType,
    pa.timestamp("us", tz="UTC"): TimestamptzType,
}


def iceberg_type(kind: pa.DataType) -> IcebergType:
    """The Iceberg type of a published column's Arrow type."""
    if pa.types.is_decimal(kind):
        return DecimalType(kind.precision, kind.scale)
    return _ICEBERG[kind]()


def arrow_type(kind: IcebergType) -> pa.DataType:
    """The other way round.

    Raises:
        TableSchemaError: no published column has that type.
    """
    if isinstance(kind, DecimalType):
        return pa.decimal128(kind.precision, kind.scale)
    for arrow, iceberg in _ICEBERG.items():
        if iceberg() == kind:
            return arrow
    raise TableSchemaError(f"A published table holds no column of type {kind}.")


def new_schema(contract: Contract) -> Schema:
    """The schema of a table that is being created."""
    return Schema(
        *(
            NestedField(number, c.name, iceberg_type(c.type), required=False, doc=c.doc or None)
            for number, c in enumerate(table_columns(contract), start=1)
        )
    )


def new_spec(schema: Schema) -> PartitionSpec:
    """Partitioned by the landing partition as it stands, so that a partition's files are found
    without reading them."""
    source = schema.find_field(canonical.PARTITION).field_id
    return PartitionSpec(
        PartitionField(source, _PARTITION_FIELD_ID, IdentityTransform(), canonical.PARTITION)
    )


def require_partitioned(table: str, schema: Schema, spec: PartitionSpec) -> None:
    """Refuse a table that somebody has laid out otherwise.

    Raises:
        TableSchemaError: it is not partitioned by `_partition` alone.
    """
    source = schema.find_field(canonical.PARTITION).field_id
    laid_out = [(f.source_id, type(f.transform)) for f in spec.fields]
    if laid_out != [(source, IdentityTransform)]:
        raise TableSchemaError(
            f"Table {table} is partitioned by {[f.name for f in spec.fields]}, and publication "
            f"needs {canonical.PARTITION} alone. Restore its partitioning, or move the table "
            "aside and replay."
        )


@dataclass(frozen=True, slots=True)
class Evolution:
    """What has to be done to a table's schema, decided before anything is touched.

    Attributes:
        added: New columns, each with the name of the column that it follows (None: it is first).
        widened: Columns whose decimals get more digits.
        documented: Columns whose description changes.
    """

    added: tuple[tuple[TableColumn, str | None], ...] = ()
    widened: tuple[TableColumn, ...] = ()
    documented: tuple[TableColumn, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.widened or self.documented)

    def apply(self, update: UpdateSchema) -> None:
        """Stage it."""
        for column, follows in self.added:
            # A tuple, since a name may hold a point.
            update.add_column((column.name,), iceberg_type(column.type), doc=column.doc or None)
            if follows is None:
                update.move_first((column.name,))
            else:
                update.move_after((column.name,), (follows,))
        for column in self.widened:
            update.update_column((column.name,), iceberg_type(column.type))
        for column in self.documented:
            update.update_column((column.name,), doc=column.doc)


def evolution(table: str, schema: Schema, contract: Contract) -> Evolution:
    """What the table lacks to hold the contract's rows.

    A column that the contract no longer has stays, and is null in new rows. A decimal that the
    contract has narrowed stays wide.

    Raises:
        TableSchemaError: a change that would make rows in the table unreadable.
    """
    current = {field.name: field for field in schema.fields}
    added: list[tuple[TableColumn, str | None]] = []
    widened: list[TableColumn] = []
    documented: list[TableColumn] = []
    before: str | None = None
    for column in table_columns(contract):
        field = current.get(column.name)
        if field is None:
            added.append((column, before))
        else:
            wanted = iceberg_type(column.type)
            if _widens(field.field_type, wanted):
                widened.append(column)
            elif field.field_type != wanted and not _widens(wanted, field.field_type):
                raise TableSchemaError(
                    f"Column {column.name} of table {table} is {field.field_type}, and version "
                    f"{contract.version} of contract {contract.dataset} says {wanted}. A table's "
                    "column can gain digits before the point, and change in no other way. Give "
                    "the column another name, or start another data set."
                )
            if column.doc and column.doc != (field.doc or ""):
                documented.append(column)
        before = column.name
    return Evolution(tuple(added), tuple(widened), tuple(documented))


def _widens(narrow: IcebergType, wide: IcebergType) -> bool:
    return (
        isinstance(narrow, DecimalType)
        and isinstance(wide, DecimalType)
        and narrow.scale == wide.scale
        and narrow.precision < wide.precision
    )
