"""The header of a delimited text: read on its own and judged before any row.

A parser that is told its columns takes whatever the first line says for granted; a file with its
columns in another order would go through with every value in the wrong place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from service_core.contract.model import Contract, Dialect, FileFormat
from service_core.drift import Drift, match_names
from service_core.masking import MASK
from service_core.reasons import ReasonCode
from service_core.validation.columns import (
    Layout,
    layout_by_name,
    layout_by_position,
    source_names,
)
from service_core.validation.content import Content
from service_core.validation.encoding import RECORD_LIMIT
from service_core.validation.records import Grammar
from service_core.validation.refusal import cut, refuse

_HEAD = 64 * 1024
_DELIMITERS = ",;\t|:^~"


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before a delimited text's rows.

    Attributes:
        layout: Where its fields go.
        drift: What the header shows.
        offset: Bytes before the first row.
        line: The line that follows them, from 1.
    """

    layout: Layout
    drift: tuple[Drift, ...]
    offset: int
    line: int


def dialect_of(contract: Contract) -> Dialect:
    """The contract's dialect; a TSV without a delimiter of its own is delimited by tabs."""
    dialect = contract.format.dialect
    if contract.format.type is FileFormat.TSV and dialect.delimiter == ",":
        return replace(dialect, delimiter="\t")
    return dialect


def read_head(contract: Contract, grammar: Grammar, content: Content) -> Head:
    """Read and judge the header, or the first record of a file that should have none.

    Raises:
        FileRefused: EMPTY where there is no row; DELIMITER, HEADER_MISSING, HEADER_DUPLICATE; a
            quote out of place in the header; drift, by the contract's policies.
    """
    dialect = dialect_of(contract)
    record, fault, line, offset, next_line = _first_record(grammar, content)
    if not dialect.header:
        _judge_first_row(contract, dialect, grammar, record, fault, line)
        return Head(layout_by_position(contract), (), 0, 1)
    if fault is not None:
        raise refuse(fault, "the header breaks the rules of quoting", line=line)
    names = grammar.cells(record)
    expected = source_names(contract)
    _judge_delimiter(dialect, expected, record, names, line)
    if _is_data(expected, names):
        raise refuse(
            ReasonCode.HEADER_MISSING,
            f"line {line} names none of the contract's columns; a header was expected there: "
            + cut(dialect.delimiter.join(expected)),
            line=line,
            sample=_shown(contract, record),
        )
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise refuse(
            ReasonCode.HEADER_DUPLICATE,
            f"the header names column {cut(twice)!r} {names.count(twice)} times",
            line=line,
            column=cut(twice),
        )
    layout, drift = layout_by_name(contract, names, line=line)
    if not _has_rows(content, offset):
        raise refuse(ReasonCode.EMPTY, "the file holds a header and no row", line=line)
    return Head(layout, drift, offset, next_line)


class Heads:
    """Heads of one batch's files, most of which begin with the very same bytes: judging those
    once spares a file of 200 rows half of its preparation."""

    def __init__(self, contract: Contract, grammar: Grammar) -> None:
        self._contract = contract
        self.grammar = grammar
        self._last: tuple[bytes, Head] | None = None

    def of(self, content: Content) -> Head:
        """As `read_head`."""
        if self._last is not None:
            text, head = self._last
            same = next(content.blocks(len(text)), b"") == text
            if same and _has_rows(content, head.offset):
                return head
        head = read_head(self._contract, self.grammar, content)
        text = next(content.blocks(head.offset), b"") if head.offset else b""
        # After a CR, another file may have the LF that belongs to it.
        if text.endswith(b"\n"):
            self._last = (text, head)
        return head


def _has_rows(content: Content, offset: int) -> bool:
    return any(block.strip(b"\r\n") for block in content.blocks(1 << 20, offset=offset))


def _first_record(
    grammar: Grammar, content: Content
) -> tuple[bytes, ReasonCode | None, int, int, int]:
    """The first record: its text, its fault, its line, and offset and line of what follows."""
    size = _HEAD
    while True:
        block = next(content.blocks(size), b"")
        final = len(block) >= content.size
        records = grammar.first(block, final=final)
        if len(records.starts):
            start, end = int(records.starts[0]), int(records.ends[0])
            return (
                block[start:end],
                records.faults.get(0),
                int(records.lines[0]) + 1,
                records.consumed,
                records.lines_consumed + 1,
            )
        if final:
            raise refuse(ReasonCode.EMPTY, "the file holds no row")
        if size > RECORD_LIMIT:
            raise refuse(
                ReasonCode.MALFORMED_FILE,
                f"no record ends within the first {RECORD_LIMIT} bytes",
                line=1,
            )
        size *= 8


def _judge_delimiter(
    dialect: Dialect, expected: tuple[str, ...], record: bytes, names: list[str], line: int
) -> None:
    """Refuse a header that another delimiter would make out better.

    A quote out of place under the other delimiter says that it is not the one.
    """
    known = set(expected)
    seen = len(known & set(names))
    best, best_delimiter = seen, ""
    for delimiter in _DELIMITERS:
        if delimiter != dialect.delimiter and delimiter.encode() in record:
            found = len(known & set(_split(dialect, delimiter, record)))
            if found > best and (found > 1 or len(known) == 1):
                best, best_delimiter = found, delimiter
    if best_delimiter:
        raise refuse(
            ReasonCode.DELIMITER,
            f"the header is delimited by {best_delimiter!r}; the contract says "
            f"{dialect.delimiter!r}",
            line=line,
            sample=record.decode(),
        )


def _judge_first_row(
    contract: Contract,
    dialect: Dialect,
    grammar: Grammar,
    record: bytes,
    fault: ReasonCode | None,
    line: int,
) -> None:
    wanted = len(contract.landed_columns)
    if fault is not None or wanted < 2 or len(grammar.cells(record)) != 1:
        return
    for delimiter in _DELIMITERS:
        if delimiter != dialect.delimiter and len(_split(dialect, delimiter, record)) == wanted:
            raise refuse(
                ReasonCode.DELIMITER,
                f"the first row is delimited by {delimiter!r}; the contract says "
                f"{dialect.delimiter!r}",
                line=line,
                sample=_shown(contract, record),
            )


def _split(dialect: Dialect, delimiter: str, record: bytes) -> list[str]:
    other = Grammar(replace(dialect, delimiter=delimiter))
    if other.records(record, final=True).faults:
        return []
    return other.cells(record)


def _is_data(expected: tuple[str, ...], names: list[str]) -> bool:
    """Whether a first line that should be a header is a row: it has no name of the contract's,
    and fewer than half of its fields are even like one."""
    if set(expected) & set(names):
        return False
    return 2 * len(match_names(expected, names).renamed) < min(len(expected), len(names)) or (
        len(names) == 1 < len(expected)
    )


def _shown(contract: Contract, record: bytes) -> str:
    return MASK if any(c.personal for c in contract.columns) else record.decode()
