"""The closed list of reasons for which a file or a row is refused.

Every rejection carries one of these codes and nothing else (DESIGN, invariant 5). Each code says
once, here, at which stage it arises, whether the file or the row goes, what it means and what to
do about it; `docs/reason-codes.md` is generated from this list.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """Where in the way of a file a reason arises."""

    ARRIVAL = "arrival"
    VALIDATION = "validation"
    CURATION = "curation"


class Scope(StrEnum):
    """What a rejection takes out: the whole file, or single rows of it."""

    FILE = "file"
    ROW = "row"


class Severity(StrEnum):
    """`error` blocks publication of what it touches; `warning` is recorded."""

    ERROR = "error"
    WARNING = "warning"


class ReasonCode(StrEnum):
    """The code of a rejection, as it stands in ledgers, records, verdicts and events."""

    UNKNOWN_PREFIX = "UNKNOWN_PREFIX"
    NAME_PATTERN = "NAME_PATTERN"
    PARTITION_INVALID = "PARTITION_INVALID"
    LATE = "LATE"
    UNSUPPORTED_EXTENSION = "UNSUPPORTED_EXTENSION"
    TOO_SMALL = "TOO_SMALL"
    TOO_LARGE = "TOO_LARGE"
    EMPTY = "EMPTY"
    OBJECT_MISSING = "OBJECT_MISSING"
    ENCODING = "ENCODING"
    COMPRESSION = "COMPRESSION"
    TRUNCATED = "TRUNCATED"
    DECOMPRESSION_BOMB = "DECOMPRESSION_BOMB"
    DUPLICATE_CONTENT = "DUPLICATE_CONTENT"
    DELIMITER = "DELIMITER"
    HEADER_MISSING = "HEADER_MISSING"
    HEADER_DUPLICATE = "HEADER_DUPLICATE"
    COLUMN_MISSING = "COLUMN_MISSING"
    COLUMN_RENAMED = "COLUMN_RENAMED"
    COLUMN_UNEXPECTED = "COLUMN_UNEXPECTED"
    COLUMN_ORDER = "COLUMN_ORDER"
    MALFORMED_FILE = "MALFORMED_FILE"
    ROW_TOO_SHORT = "ROW_TOO_SHORT"
    ROW_TOO_LONG = "ROW_TOO_LONG"
    QUOTE_UNCLOSED = "QUOTE_UNCLOSED"
    QUOTE_MISPLACED = "QUOTE_MISPLACED"
    JSON_MALFORMED = "JSON_MALFORMED"
    JSON_NOT_OBJECT = "JSON_NOT_OBJECT"
    NESTED_SHAPE = "NESTED_SHAPE"
    TYPE = "TYPE"
    REQUIRED = "REQUIRED"
    PATTERN = "PATTERN"
    RANGE = "RANGE"
    LENGTH = "LENGTH"
    NOT_ALLOWED = "NOT_ALLOWED"
    RULE = "RULE"
    DERIVATION = "DERIVATION"
    DUPLICATE_KEY = "DUPLICATE_KEY"
    SET_RULE = "SET_RULE"
    BATCH_BLOCKED = "BATCH_BLOCKED"
    TOO_MANY_DIVERTED = "TOO_MANY_DIVERTED"
    PROCESSING_FAILURE = "PROCESSING_FAILURE"


@dataclass(frozen=True, slots=True)
class Reason:
    """What the project knows about one reason code.

    Attributes:
        code: The code itself.
        stage: Where it arises.
        scope: Whether it takes the file or the row. A drift policy can move a code from one to
            the other; this is the scope where the contract says nothing.
        severity: `error` where the file or row goes, `warning` where it is only recorded.
        meaning: One sentence for a person who sees the code for the first time.
        remedy: What that person can do about it.
    """

    code: ReasonCode
    stage: Stage
    scope: Scope
    severity: Severity
    meaning: str
    remedy: str


def _table(*rows: tuple[ReasonCode, Stage, Scope, str, str]) -> dict[ReasonCode, Reason]:
    return {
        code: Reason(code, stage, scope, Severity.ERROR, meaning, remedy)
        for code, stage, scope, meaning, remedy in rows
    }


_C, _FILE, _ROW = ReasonCode, Scope.FILE, Scope.ROW
_ARRIVAL, _VALIDATION, _CURATION = Stage.ARRIVAL, Stage.VALIDATION, Stage.CURATION

REASONS: dict[ReasonCode, Reason] = _table(
    (
        _C.UNKNOWN_PREFIX,
        _ARRIVAL,
        _FILE,
        "The key lies under no contract's landing prefix.",
        "Land the file under a contract's prefix, or write a contract for this one.",
    ),
    (
        _C.NAME_PATTERN,
        _VALIDATION,
        _FILE,
        "The file's name does not match the contract's file name pattern.",
        "Rename the file at its producer, or widen landing.fileNamePattern.",
    ),
    (
        _C.PARTITION_INVALID,
        _VALIDATION,
        _FILE,
        "The key's path names no partition of the data set: no such date, or out of range.",
        "Land the file under the contract's partition path.",
    ),
    (
        _C.LATE,
        _VALIDATION,
        _FILE,
        "The file arrived after its partition's window had closed.",
        "Set landing.late to allow and materialise the partition again.",
    ),
    (
        _C.UNSUPPORTED_EXTENSION,
        _VALIDATION,
        _FILE,
        "The file's extension is not one of the contract's format.",
        "Deliver the declared format, or correct format in the contract.",
    ),
    (
        _C.TOO_SMALL,
        _VALIDATION,
        _FILE,
        "The file has fewer bytes than the contract's lower bound.",
        "Check whether the upload was cut short; otherwise lower landing.minBytes.",
    ),
    (
        _C.TOO_LARGE,
        _VALIDATION,
        _FILE,
        "The file has more bytes than the contract's upper bound.",
        "Split the file at its producer, or raise landing.maxBytes.",
    ),
    (
        _C.EMPTY,
        _VALIDATION,
        _FILE,
        "The file holds no bytes, or no row.",
        "Check the producer's export; an empty delivery needs no file.",
    ),
    (
        _C.OBJECT_MISSING,
        _VALIDATION,
        _FILE,
        "The object was deleted, or another put in its place, before it could be read.",
        "Land the file again if its rows are wanted; what took its place is processed by itself.",
    ),
    (
        _C.ENCODING,
        _VALIDATION,
        _FILE,
        "The file's bytes are not the declared character encoding.",
        "Export in the declared encoding, or correct dialect.encoding.",
    ),
    (
        _C.COMPRESSION,
        _VALIDATION,
        _FILE,
        "The file is not compressed in the way that it claims.",
        "Correct the extension, or format.compression in the contract.",
    ),
    (
        _C.TRUNCATED,
        _VALIDATION,
        _FILE,
        "The file ends in the middle of its data.",
        "Land the whole file again.",
    ),
    (
        _C.DECOMPRESSION_BOMB,
        _VALIDATION,
        _FILE,
        "The file unpacks to more than the contract's bound.",
        "Raise landing.maxUnpackedBytes if the size is honest.",
    ),
    (
        _C.DUPLICATE_CONTENT,
        _VALIDATION,
        _FILE,
        "The same content has already been taken under another key.",
        "Nothing, if it was sent twice; set landing.duplicates to allow if it is meant.",
    ),
    (
        _C.DELIMITER,
        _VALIDATION,
        _FILE,
        "The file is delimited by another character than the contract says.",
        "Export with the declared delimiter, or correct dialect.delimiter.",
    ),
    (
        _C.HEADER_MISSING,
        _VALIDATION,
        _FILE,
        "The first line is data where a header was expected.",
        "Export with a header, or set dialect.header to false.",
    ),
    (
        _C.HEADER_DUPLICATE,
        _VALIDATION,
        _FILE,
        "The header names one column twice.",
        "Give each column a name of its own.",
    ),
    (
        _C.COLUMN_MISSING,
        _VALIDATION,
        _FILE,
        "A column of the contract is not in the file.",
        "Deliver the column, or set drift.missing to allow.",
    ),
    (
        _C.COLUMN_RENAMED,
        _VALIDATION,
        _FILE,
        "A column of the contract is missing and one of nearly its name is there.",
        "Restore the name, or name the new one as the column's source.",
    ),
    (
        _C.COLUMN_UNEXPECTED,
        _VALIDATION,
        _FILE,
        "The file has a column that the contract does not know.",
        "Add the column to the contract, or set drift.additive to keep_aside.",
    ),
    (
        _C.COLUMN_ORDER,
        _VALIDATION,
        _FILE,
        "The columns stand in another order than the contract's.",
        "Restore the order, or set drift.order to allow.",
    ),
    (
        _C.MALFORMED_FILE,
        _VALIDATION,
        _FILE,
        "The file cannot be read as its format at all.",
        "Open it with another reader of that format and mend the producer.",
    ),
    (
        _C.ROW_TOO_SHORT,
        _VALIDATION,
        _ROW,
        "The row has fewer fields than the header.",
        "Quote or complete the row at its producer.",
    ),
    (
        _C.ROW_TOO_LONG,
        _VALIDATION,
        _ROW,
        "The row has more fields than the header.",
        "Quote fields that hold the delimiter.",
    ),
    (
        _C.QUOTE_UNCLOSED,
        _VALIDATION,
        _ROW,
        "A quoted field is never closed.",
        "Double quotes inside quoted fields, and close them.",
    ),
    (
        _C.QUOTE_MISPLACED,
        _VALIDATION,
        _ROW,
        "Text follows a closing quote, or a quote stands inside an unquoted field.",
        "Quote the whole field and double the quotes inside it.",
    ),
    (
        _C.JSON_MALFORMED,
        _VALIDATION,
        _ROW,
        "The line, or the document, is not JSON.",
        "Mend it at the line and column given.",
    ),
    (
        _C.JSON_NOT_OBJECT,
        _VALIDATION,
        _ROW,
        "The JSON value is not an object.",
        "Deliver one object for each row.",
    ),
    (
        _C.NESTED_SHAPE,
        _VALIDATION,
        _ROW,
        "A nested value has another shape than the contract's path expects.",
        "Restore the shape, or change the column's source.",
    ),
    (
        _C.TYPE,
        _CURATION,
        _ROW,
        "The text is no spelling of the column's type.",
        "Deliver an accepted spelling (docs/types.md), or change the type.",
    ),
    (
        _C.REQUIRED,
        _CURATION,
        _ROW,
        "A required column is null.",
        "Deliver the value, or make the column optional.",
    ),
    (
        _C.PATTERN,
        _CURATION,
        _ROW,
        "The value does not match the column's pattern.",
        "Correct the value, or the pattern.",
    ),
    (
        _C.RANGE,
        _CURATION,
        _ROW,
        "The value lies outside the column's range.",
        "Correct the value, or the range.",
    ),
    (
        _C.LENGTH,
        _CURATION,
        _ROW,
        "The text is shorter or longer than the column allows.",
        "Correct the value, or the bounds.",
    ),
    (
        _C.NOT_ALLOWED,
        _CURATION,
        _ROW,
        "The value is not one of the allowed values.",
        "Correct the value, or add it to the list.",
    ),
    (
        _C.RULE,
        _CURATION,
        _ROW,
        "The row breaks a rule of the contract.",
        "Correct the row, or the rule.",
    ),
    (
        _C.DERIVATION,
        _CURATION,
        _ROW,
        "A derived column could not be computed for the row.",
        "Correct the row, or the column's transformLogic.",
    ),
    (
        _C.DUPLICATE_KEY,
        _CURATION,
        _ROW,
        "Another row, of this batch or already published, has the same key.",
        "Deliver each key once; the first row is kept.",
    ),
    (
        _C.SET_RULE,
        _CURATION,
        _FILE,
        "The file alone breaks a rule on the whole of its rows.",
        "See the check's figures; correct the delivery, or the rule.",
    ),
    (
        _C.BATCH_BLOCKED,
        _CURATION,
        _FILE,
        "The batch as a whole breaks a rule, so none of it is published.",
        "See the check's figures; correct the delivery or the rule, and replay.",
    ),
    (
        _C.TOO_MANY_DIVERTED,
        _CURATION,
        _FILE,
        "More of the file's rows were diverted than the contract tolerates.",
        "Mend the rows' reasons, or raise tolerance.divertedShare.",
    ),
    (
        _C.PROCESSING_FAILURE,
        _VALIDATION,
        _FILE,
        "Processing this file failed, or killed or hung its worker each time, for a reason that is "
        "not known to be the data's.",
        "See the recorded failure; once its cause is gone, release the file from quarantine.",
    ),
)
