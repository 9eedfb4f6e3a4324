"""The shapes that data takes between the steps: canonical text, malformed rows, what is accepted
and what is diverted.

Canonical text is the one form in which every engine meets a batch: each landed column as text
exactly as it arrived, and where each row came from. Nothing after it parses CSV or JSON again.
"""

from __future__ import annotations

import pyarrow as pa

from service_core.contract.model import Column, Contract, LogicalType
from service_core.platform_columns import (
    BATCH_ID,
    CONTRACT_VERSION,
    EXTRA,
    INGESTED_AT,
    PARTITION,
    RAW,
    REASONS,
    SOURCE_KEY,
    SOURCE_LINE,
    SOURCE_OBJECT_ID,
    SOURCE_ROW,
)

__all__ = [
    "BATCH_ID",
    "CONTRACT_VERSION",
    "EXTRA",
    "INGESTED_AT",
    "MALFORMED_SCHEMA",
    "PARTITION",
    "RAW",
    "REASONS",
    "REASON_TYPE",
    "SOURCE_KEY",
    "SOURCE_LINE",
    "SOURCE_OBJECT_ID",
    "SOURCE_ROW",
    "accepted_schema",
    "arrow_type",
    "canonical_schema",
    "quarantined_schema",
    "text_schema",
]

REASON_TYPE = pa.struct([("code", pa.string()), ("column", pa.string()), ("message", pa.string())])


def canonical_schema(contract: Contract) -> pa.Schema:
    """Canonical text: every landed column as a string, then `_extra` and the origin.

    A null is a value that is absent (a JSON null, a missing key or column); an empty text is an
    empty text.
    """
    return pa.schema(
        [(c.name, pa.string()) for c in contract.landed_columns]
        + [
            (EXTRA, pa.string()),
            (SOURCE_OBJECT_ID, pa.string()),
            (SOURCE_ROW, pa.int64()),
            (SOURCE_LINE, pa.int64()),
        ]
    )


#: Rows that validation could give no shape: reason and raw text. `column` may be null, and so may
#: the row's ordinal where the parser cannot tell it.
MALFORMED_SCHEMA = pa.schema(
    [
        (SOURCE_OBJECT_ID, pa.string()),
        (SOURCE_ROW, pa.int64()),
        (SOURCE_LINE, pa.int64()),
        ("code", pa.string()),
        ("column", pa.string()),
        ("message", pa.string()),
        (RAW, pa.string()),
    ]
)


def arrow_type(column: Column) -> pa.DataType:
    """The Arrow type of a typed column. Timestamps are in microseconds, as Iceberg's are."""
    kind = column.type
    match kind.logical:
        case LogicalType.STRING | LogicalType.JSON:
            return pa.string()
        case LogicalType.INTEGER:
            return pa.int64()
        case LogicalType.DECIMAL:
            return pa.decimal128(kind.precision, kind.scale)
        case LogicalType.DOUBLE:
            return pa.float64()
        case LogicalType.BOOLEAN:
            return pa.bool_()
        case LogicalType.DATE:
            return pa.date32()
        case LogicalType.TIME:
            return pa.time64("us")
        case LogicalType.TIMESTAMP:
            return pa.timestamp("us")
        case LogicalType.TIMESTAMP_TZ:
            return pa.timestamp("us", tz="UTC")


def accepted_schema(contract: Contract) -> pa.Schema:
    """Accepted rows, as they are published: typed columns, then `_extra` and the origin."""
    return pa.schema(
        [(c.name, arrow_type(c)) for c in contract.columns]
        + [
            (EXTRA, pa.string()),
            (SOURCE_OBJECT_ID, pa.string()),
            (SOURCE_KEY, pa.string()),
            (SOURCE_ROW, pa.int64()),
            (BATCH_ID, pa.string()),
            (CONTRACT_VERSION, pa.string()),
            (INGESTED_AT, pa.timestamp("us", tz="UTC")),
            (PARTITION, pa.string()),
        ]
    )


def text_schema(contract: Contract) -> pa.Schema:
    """Rows of an ELT contract, as they are published: canonical text with the whole origin, so
    that a key's newer version can take the place of the older one's rows here too."""
    return pa.schema(
        [
            *canonical_schema(contract),
            (SOURCE_KEY, pa.string()),
            (BATCH_ID, pa.string()),
            (CONTRACT_VERSION, pa.string()),
            (INGESTED_AT, pa.timestamp("us", tz="UTC")),
            (PARTITION, pa.string()),
        ]
    )


def quarantined_schema(contract: Contract) -> pa.Schema:
    """Diverted rows: all original text, the origin, and the reasons."""
    return pa.schema(
        [(c.name, pa.string()) for c in contract.landed_columns]
        + [
            (EXTRA, pa.string()),
            (RAW, pa.string()),
            (SOURCE_OBJECT_ID, pa.string()),
            (SOURCE_KEY, pa.string()),
            (SOURCE_ROW, pa.int64()),
            (SOURCE_LINE, pa.int64()),
            (BATCH_ID, pa.string()),
            (CONTRACT_VERSION, pa.string()),
            (INGESTED_AT, pa.timestamp("us", tz="UTC")),
            (PARTITION, pa.string()),
            (REASONS, pa.list_(REASON_TYPE)),
        ]
    )
