"""A contract as typed, frozen objects: what a data set is, and when its rows may be published.

Nothing here reads a file; `service_core.contract.load` builds these from ODCS documents and
refuses what cannot be built.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

from service_core.reasons import ReasonCode, Severity


class LogicalType(StrEnum):
    """The types a column can have; `service_core.lexical` says which spellings belong to each."""

    STRING = "string"
    INTEGER = "integer"
    DECIMAL = "decimal"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMP_TZ = "timestamp_tz"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A logical type with its parameters.

    Attributes:
        logical: Which lexical space.
        precision: Digits in all, for `decimal` (1 to 38).
        scale: Digits after the point, for `decimal`.
        allow_special: Whether `NaN` and the infinities are numbers, for `double`.
    """

    logical: LogicalType
    precision: int = 18
    scale: int = 6
    allow_special: bool = False


class Case(StrEnum):
    UPPER = "upper"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What is done to a column's text before its type is tested, in this order.

    Attributes:
        trim: Take ASCII white space off both ends.
        case: Fold to upper or lower case.
        null_if: Spellings that mean null, compared after trim and case, beside the dialect's.
    """

    trim: bool = False
    case: Case | None = None
    null_if: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the published table.

    Attributes:
        name: The column's name in the table.
        type: Its type.
        source: Where its text comes from: a column name in the file, or for JSON a path such as
            `$.address.city`. None for a derived column.
        required: Whether null diverts the row.
        unique: Whether a value may stand only once among the partition's rows.
        primary_key: Its position in the primary key, from 1; None outside of it.
        classification: The standard's classification, such as `public` or `personal`.
        normalisation: See `Normalisation`.
        derived: An SQL expression over the row (Polars' dialect), or None.
        description: One sentence.
        line: Its line in the contract file, for messages and code references.
    """

    name: str
    type: ColumnType
    source: str | None = None
    required: bool = False
    unique: bool = False
    primary_key: int | None = None
    classification: str | None = None
    normalisation: Normalisation = Normalisation()
    derived: str | None = None
    description: str = ""
    line: int = 0

    @property
    def personal(self) -> bool:
        """Whether its values are masked wherever a person can see them."""
        return (self.classification or "").lower() in PERSONAL_CLASSIFICATIONS


#: Classifications whose columns are masked. The standard leaves the words open; these are the
#: ones in common use for data about people.
PERSONAL_CLASSIFICATIONS = frozenset({"personal", "pii", "sensitive", "confidential", "restricted"})


# --- Rules on a row ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Required:
    """The value is not null."""


@dataclass(frozen=True, slots=True)
class Typed:
    """The text is a spelling of the column's type."""


@dataclass(frozen=True, slots=True)
class Matches:
    """The whole text matches a regular expression (Rust's syntax, as Polars runs it)."""

    pattern: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value is one of these, spelled as the column's type spells them."""

    values: tuple[str, ...]


Bound = int | float | Decimal | date | datetime | time


@dataclass(frozen=True, slots=True)
class Within:
    """The value lies in a range; a bound that is None is open."""

    minimum: Bound | None = None
    maximum: Bound | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False


@dataclass(frozen=True, slots=True)
class LengthWithin:
    """The text's length in characters lies in a range."""

    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Holds:
    """An SQL expression over the typed row (Polars' dialect) is true. Null counts as true,
    as in an SQL CHECK constraint."""

    expression: str


RowTest = Required | Typed | Matches | OneOf | Within | LengthWithin | Holds


@dataclass(frozen=True, slots=True)
class RowRule:
    """A rule that each row keeps or breaks by itself.

    Attributes:
        name: The name of its check, unique in the contract: letters, digits and `_`.
        columns: The columns it speaks of; the first is named in reasons.
        test: What must hold.
        code: The reason of a row that breaks it.
        severity: `error` diverts the row, `warning` records it.
    """

    name: str
    columns: tuple[str, ...]
    test: RowTest
    code: ReasonCode
    severity: Severity = Severity.ERROR
    description: str = ""
    dimension: str | None = None


# --- Rules on a set of rows ----------------------------------------------------------------------


class Metric(StrEnum):
    """A figure of a set of accepted rows."""

    ROW_COUNT = "row_count"
    NULL_VALUES = "null_values"
    INVALID_VALUES = "invalid_values"
    DUPLICATE_VALUES = "duplicate_values"
    DISTINCT_COUNT = "distinct_count"
    SUM = "sum"
    FRESHNESS = "freshness"


class Unit(StrEnum):
    ROWS = "rows"
    PERCENT = "percent"
    SECONDS = "seconds"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a figure must be; every part that is not None must hold.

    Attributes:
        minimum, maximum: Bounds, inclusive unless the matching `exclusive_` is set.
        equal, unequal: Exact values.
        outside: The figure must not lie between these two.
    """

    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    equal: float | None = None
    unequal: float | None = None
    outside: tuple[float, float] | None = None

    def holds(self, figure: float) -> bool:
        """Whether `figure` is as expected; NaN never is."""
        if figure != figure:
            return False
        below = self.minimum is not None and (
            figure < self.minimum or (self.exclusive_minimum and figure == self.minimum)
        )
        above = self.maximum is not None and (
            figure > self.maximum or (self.exclusive_maximum and figure == self.maximum)
        )
        return not (
            below
            or above
            or (self.equal is not None and figure != self.equal)
            or (self.unequal is not None and figure == self.unequal)
            or (self.outside is not None and self.outside[0] <= figure <= self.outside[1])
        )


class SetScope(StrEnum):
    """Over which rows a set rule is judged."""

    SOURCE_OBJECT = "source_object"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class SetRule:
    """A rule on a figure of many rows.

    Attributes:
        name: The name of its check, unique in the contract.
        metric: The figure.
        columns: The columns it is taken of; empty for `row_count`. More than one only for
            `duplicate_values` and `distinct_count`, where the tuple counts.
        expectation: What the figure must be.
        unit: Rows, percent of rows, or seconds (freshness: age of the latest value when the
            batch is judged).
        invalid_if: For `invalid_values`, the test whose failures are counted.
        scopes: Judged per source object, per batch, or both.
    """

    name: str
    metric: Metric
    columns: tuple[str, ...]
    expectation: Expectation
    unit: Unit = Unit.ROWS
    severity: Severity = Severity.ERROR
    scopes: frozenset[SetScope] = frozenset(SetScope)
    invalid_if: Matches | OneOf | None = None
    description: str = ""
    dimension: str | None = None


# --- Landing, format, drift, publication ---------------------------------------------------------


class Grain(StrEnum):
    """How long a landing partition is."""

    DAY = "day"
    HOUR = "hour"


class FilePolicy(StrEnum):
    """What happens to a file that arrived late, or whose content was seen before."""

    ALLOW = "allow"
    QUARANTINE_FILE = "quarantine_file"


@dataclass(frozen=True, slots=True)
class Landing:
    """Where a data set's files land and which of them it takes.

    Attributes:
        prefix: Starts every key of the data set and ends in `/`.
        partition_path: The `strftime` path that follows the prefix, such as `dt=%Y-%m-%d` or
            `%Y/%m/%d/%H`; sub-folders may follow it, then the file's name.
        grain: Day or hour, from the path.
        first_partition: The first day that can be landed.
        file_name: The whole file name (after the last `/`) must match it.
        min_bytes, max_bytes: Size bounds of the object as landed.
        max_unpacked_bytes: Size bound after decompression.
        window: How long after its end a partition stays open; None for ever. An object that
            arrives later is late.
        late, duplicates: What happens to such files.
        max_batch_files, max_batch_bytes: Bounds of a micro-batch.
    """

    prefix: str
    partition_path: str
    grain: Grain
    first_partition: date
    file_name: re.Pattern[str]
    min_bytes: int = 1
    max_bytes: int = 5 * 1024**3
    max_unpacked_bytes: int = 50 * 1024**3
    window: timedelta | None = timedelta(days=3)
    late: FilePolicy = FilePolicy.ALLOW
    duplicates: FilePolicy = FilePolicy.QUARANTINE_FILE
    max_batch_files: int = 5000
    max_batch_bytes: int = 1024**3


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a data set's arrivals are taken, and how long they may wait for one another.

    Attributes:
        max_runs: Runs in flight, those that wait for their turn included. At so many, arrivals
            wait in the bucket or in the queue.
        max_queued_bytes: Bytes of batches whose runs have not begun.
        max_files_per_second: New files that are written to the ledger, on average.
        max_wait: The window in which files gather to a batch that is not full; nothing: every
            look takes what is there.
    """

    # What four runs at a time do between two ticks, and no more than that often again.
    max_runs: int = 50
    max_queued_bytes: int = 20 * 1024**3
    max_files_per_second: int = 1000
    max_wait: timedelta = timedelta(0)


class FileFormat(StrEnum):
    CSV = "csv"
    TSV = "tsv"
    JSON_LINES = "jsonl"
    JSON_ARRAY = "json"
    PARQUET = "parquet"


class Compression(StrEnum):
    """`auto` goes by the file's extension and requires its content to agree."""

    AUTO = "auto"
    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text file is written.

    Attributes:
        delimiter, quote, escape: One character each, for CSV and TSV.
        encoding: A Python codec name.
        null_values: Spellings that mean null in every column. The empty text is one of them
            unless the contract says otherwise.
        header: Whether the first line names the columns; without it, the contract's order rules.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'
    encoding: str = "utf-8"
    null_values: tuple[str, ...] = ("",)
    header: bool = True


@dataclass(frozen=True, slots=True)
class Format:
    type: FileFormat
    compression: Compression = Compression.AUTO
    dialect: Dialect = Dialect()


class DriftPolicy(StrEnum):
    """What happens when a file differs from the contract in one way.

    For missing columns and a missing column's close match, `allow` reads null; for additive
    columns `allow` drops the column and `keep_aside` keeps it in `_extra`; for types `allow`
    and `keep_aside` publish null, and `keep_aside` keeps the raw text in `_extra`.
    """

    ALLOW = "allow"
    KEEP_ASIDE = "keep_aside"
    QUARANTINE_ROWS = "quarantine_rows"
    QUARANTINE_FILE = "quarantine_file"


@dataclass(frozen=True, slots=True)
class DriftPolicies:
    """One policy for each kind of drift."""

    additive: DriftPolicy = DriftPolicy.KEEP_ASIDE
    type: DriftPolicy = DriftPolicy.QUARANTINE_ROWS
    missing: DriftPolicy = DriftPolicy.QUARANTINE_FILE
    renamed: DriftPolicy = DriftPolicy.QUARANTINE_FILE
    order: DriftPolicy = DriftPolicy.ALLOW
    nested_shape: DriftPolicy = DriftPolicy.QUARANTINE_ROWS


class PublicationMode(StrEnum):
    """`append`: versions of a key stand beside each other, each a delivery of its own.
    `replace`: a newer version's rows take the place of the older one's."""

    APPEND = "append"
    REPLACE = "replace"


class Processing(StrEnum):
    """ELT stops at validated and leaves typing to SQL downstream."""

    ETL = "etl"
    ELT = "elt"


class Engine(StrEnum):
    AUTO = "auto"
    IN_PROCESS = "in_process"
    SPARK = "spark"
    GLUE = "glue"
    STEP_FUNCTIONS = "step_functions"


@dataclass(frozen=True, slots=True)
class Contract:
    """One data set's contract.

    Attributes:
        dataset: Its name: lower-case letters, digits and `_`.
        version: The contract document's version, as its author counts.
        hash: 16 hexadecimal characters of the document's meaning: comments and layout do not
            change it. It is the code version of the assets and part of every batch id.
        path: The file it was loaded from.
        tolerated_share: The share of a file's rows (0 to 1) that may be diverted before the
            file goes whole.
        engine, engine_threshold_bytes: Which engine curates; `auto` leaves the process above
            the threshold.
        freshness: How old the latest publication may be; None where nothing is promised.
        pace: How fast arrivals are taken.
        text: The document itself, as it was loaded.
    """

    dataset: str
    version: str
    hash: str
    path: Path
    landing: Landing
    format: Format
    columns: tuple[Column, ...]
    row_rules: tuple[RowRule, ...] = ()
    set_rules: tuple[SetRule, ...] = ()
    drift: DriftPolicies = DriftPolicies()
    publication: PublicationMode = PublicationMode.REPLACE
    processing: Processing = Processing.ETL
    engine: Engine = Engine.AUTO
    engine_threshold_bytes: int = 5 * 1024**3
    tolerated_share: float = 1.0
    owner: str = ""
    producer: str = ""
    freshness: timedelta | None = None
    pace: Pace = Pace()
    description: str = ""
    tags: tuple[str, ...] = field(default=())
    text: str = field(default="", repr=False, compare=False)

    @property
    def landed_columns(self) -> tuple[Column, ...]:
        """The columns that come from the file, in the contract's order."""
        return tuple(c for c in self.columns if c.derived is None)

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The names of the primary key's columns, in its order."""
        keyed = [(c.primary_key, c.name) for c in self.columns if c.primary_key is not None]
        return tuple(name for _, name in sorted(keyed))

    @property
    def unique_keys(self) -> tuple[tuple[str, ...], ...]:
        """Every set of columns whose values may stand only once: the primary key first."""
        keys = [self.primary_key] if self.primary_key else []
        keys += [(c.name,) for c in self.columns if c.unique and (c.name,) not in keys]
        return tuple(keys)

    def column(self, name: str) -> Column:
        """The column called `name`.

        Raises:
            KeyError: no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)
