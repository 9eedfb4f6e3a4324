"""Records: where each record of a delimited text begins and ends, and which have no shape.

The grammar is strict (RFC 4180) and the project's own: a field that begins with a quote ends with
one, quotes inside it are doubled, and no other field holds a quote. A cell parser is only ever
given text that has been proven to follow it, because parsers disagree about everything else:
DuckDB 2.0 gives up on a whole call at mixed line ends or at `"a"b`, and swallows all that follows
an unclosed quote; Python's csv module lets both pass.

A record ends at LF, CRLF or a lone CR outside of quotes; lines are counted the same way, inside of
quotes too. A record that breaks the grammar is one physical line: reading resumes at the next, so
that one missing quote costs one row and not the rest of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service_core.contract.model import Dialect
from service_core.reasons import ReasonCode
from service_core.validation.encoding import RECORD_LIMIT

Positions = npt.NDArray[np.int64]
_LF, _CR = 10, 13


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one block of text, blank lines left out.

    Attributes:
        starts, ends: Byte offsets of each record in the block, its line end not included.
        lines: The line on which each begins, counted from 0 at the block's begin.
        faults: Records that break the grammar, by their index.
        consumed: Bytes dealt with; the rest begins an incomplete record.
        lines_consumed: Line ends among them.
    """

    starts: Positions
    ends: Positions
    lines: Positions
    faults: dict[int, ReasonCode]
    consumed: int
    lines_consumed: int


class Grammar:
    """Finds records and fields under one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._quote = dialect.quote.encode()
        self._delimiter = dialect.delimiter.encode()
        self._escape = dialect.escape.encode()
        #: Whether a quote inside a quoted field is written as two.
        self.doubled = dialect.escape in (dialect.quote, "")
        #: Whether whole blocks can be searched for single bytes.
        self.vectorised = self.doubled and len(self._delimiter) == len(self._quote) == 1
        quote, delimiter = re.escape(self._quote), re.escape(self._delimiter)
        if self.doubled:
            inside = rb"(?:[^%b]++|%b%b)*+" % (quote, quote, quote)
        else:
            escape = re.escape(self._escape)
            inside = rb"(?:[^%b%b]++|%b.)*+" % (quote, escape, escape)
        self._quoted = re.compile(quote + inside + quote, re.DOTALL)
        plain = rb"(?:(?!%b)[^%b\r\n])*+" % (delimiter, quote)
        if len(self._delimiter) == 1:
            plain = rb"[^%b%b\r\n]*+" % (delimiter, quote)
        field = rb"(?:%b%b%b|%b)" % (quote, inside, quote, plain)
        self._field = re.compile(field, re.DOTALL)
        self._record = re.compile(
            rb"%b(?:%b%b)*+(?=[\r\n]|\Z)" % (field, delimiter, field), re.DOTALL
        )
        self._fields_before = re.compile(rb"(?:%b%b)*+" % (field, delimiter), re.DOTALL)

    def records(self, block: bytes, *, final: bool) -> Records:
        """The complete records of a block that begins where a record begins.

        Args:
            final: Whether the text ends with the block, so that its last record is complete.
        """
        if self.vectorised:
            found = self._vectorised(block, final=final)
            if found is not None:
                return found
        return self._one_by_one(block, final=final)

    def first(self, block: bytes, *, final: bool) -> Records:
        """As `records`, but the first record alone."""
        return self._one_by_one(block, final=final, at_most=1)

    def cells(self, record: bytes) -> list[str]:
        """The texts of a record that follows the grammar."""
        cells, at = [], 0
        while True:
            match = self._field.match(record, at)
            assert match is not None
            cells.append(self._text(match.group()))
            if match.end() >= len(record):
                return cells
            at = match.end() + len(self._delimiter)

    def widths(self, block: bytes, records: Records) -> Positions:
        """How many fields each record has; a record with a fault may get any number."""
        if not self.vectorised:
            return np.array(
                [
                    0 if i in records.faults else len(self.cells(block[start:end]))
                    for i, (start, end) in enumerate(
                        zip(records.starts.tolist(), records.ends.tolist(), strict=True)
                    )
                ],
                dtype=np.int64,
            )
        bytes_ = np.frombuffer(block, np.uint8)
        delimiters = np.flatnonzero(bytes_ == self._delimiter[0])
        quotes = np.flatnonzero(bytes_ == self._quote[0])
        if len(quotes):
            delimiters = delimiters[np.searchsorted(quotes, delimiters) % 2 == 0]
        first = np.searchsorted(delimiters, records.starts)
        last = np.searchsorted(delimiters, records.ends)
        return (last - first + 1).astype(np.int64)

    def _text(self, field: bytes) -> str:
        if not field.startswith(self._quote):
            return field.decode()
        inner = field[len(self._quote) : -len(self._quote)]
        if self.doubled:
            return inner.replace(self._quote * 2, self._quote).decode()
        return re.sub(re.escape(self._escape) + rb"(.)", rb"\1", inner, flags=re.DOTALL).decode()

    def _vectorised(self, block: bytes, *, final: bool) -> Records | None:
        """All records at once, or None where the text breaks the grammar."""
        bytes_ = np.frombuffer(block, np.uint8)
        quotes = _places(block, bytes_, self._quote)
        if not self._well_quoted(bytes_, quotes, final=final):
            return None
        line_ends = _line_ends(block, bytes_, final=final)
        inside = _inside(quotes, line_ends)
        record_ends = line_ends if inside is None else line_ends[~inside]
        consumed = int(record_ends[-1]) + 1 if len(record_ends) else 0
        starts = np.concatenate(([0], record_ends + 1))
        ends = record_ends
        if b"\r" in block:
            ends = record_ends - (
                (bytes_[record_ends] == _LF)
                & (record_ends > 0)
                & (bytes_[np.maximum(record_ends - 1, 0)] == _CR)
            )
        if final and consumed < len(block):
            ends = np.append(ends, len(block))
            consumed = len(block)
        elif not final and consumed == 0 and len(block) >= RECORD_LIMIT:
            # Only an unclosed quote keeps that much together.
            return None
        else:
            starts = starts[:-1]
        # Where no line end is inside of quotes, each record is a line.
        lines = np.arange(len(starts)) if inside is None else np.searchsorted(line_ends, starts)
        if (ends == starts).any():
            kept = ends > starts
            starts, ends, lines = starts[kept], ends[kept], lines[kept]
        return Records(
            starts=starts,
            ends=ends,
            lines=lines,
            faults={},
            consumed=consumed,
            lines_consumed=int(np.searchsorted(line_ends, consumed)),
        )

    def _well_quoted(
        self, bytes_: npt.NDArray[np.uint8], quotes: Positions, *, final: bool
    ) -> bool:
        """Whether every opening quote begins a field and every closing one ends it.

        Quotes open and close in turn; a doubled quote closes and opens again at once, so each
        has the other for a neighbour.
        """
        if not len(quotes):
            return True
        if final and len(quotes) % 2:
            return False
        borders = np.zeros(256, dtype=bool)
        borders[[self._delimiter[0], self._quote[0], _LF, _CR]] = True
        opening, closing = quotes[0::2], quotes[1::2]
        if opening[0] == 0:
            opening = opening[1:]
        if len(closing) and closing[-1] == len(bytes_) - 1:
            closing = closing[:-1]
        return bool(borders[bytes_[opening - 1]].all() and borders[bytes_[closing + 1]].all())

    def _one_by_one(self, block: bytes, *, final: bool, at_most: int | None = None) -> Records:
        """Record by record, for text that breaks the grammar somewhere."""
        starts: list[int] = []
        ends: list[int] = []
        lines: list[int] = []
        faults: dict[int, ReasonCode] = {}
        at = line = 0
        while at < len(block) and len(starts) != at_most:
            match = self._record.match(block, at)
            end = match.end() if match else _line_end(block, at)
            following = _after_line_end(block, end)
            # What lies at the end of the block may go on in the next one.
            open_ended = end == len(block) or (following == len(block) and block[end] == _CR)
            fault = None if match else self._fault(block, at, end)
            if fault is ReasonCode.QUOTE_UNCLOSED and self._reaches_end(block, at):
                open_ended = True
            if open_ended and not final and len(block) - at < RECORD_LIMIT:
                break
            if end > at:
                if fault is not None:
                    faults[len(starts)] = fault
                starts.append(at)
                ends.append(end)
                lines.append(line)
            line += _count_line_ends(block, at, following)
            at = following
        return Records(
            starts=np.array(starts, dtype=np.int64),
            ends=np.array(ends, dtype=np.int64),
            lines=np.array(lines, dtype=np.int64),
            faults=faults,
            consumed=at,
            lines_consumed=line,
        )

    def _place_of_fault(self, block: bytes, start: int) -> int:
        match = self._fields_before.match(block, start)
        assert match is not None
        return match.end()

    def _fault(self, block: bytes, start: int, end: int) -> ReasonCode:
        at = self._place_of_fault(block, start)
        if not block.startswith(self._quote, at):
            return ReasonCode.QUOTE_MISPLACED
        quoted = self._quoted.match(block, at)
        # Closed only on a later line, and wrongly there: that quote was meant to open another
        # field, and this one was never closed.
        if quoted is None or quoted.end() > max(end, _line_end(block, at)):
            return ReasonCode.QUOTE_UNCLOSED
        return ReasonCode.QUOTE_MISPLACED

    def _reaches_end(self, block: bytes, start: int) -> bool:
        """Whether the unclosed field runs to the end of the block, or may."""
        at = self._place_of_fault(block, start)
        quoted = self._quoted.match(block, at)
        return quoted is None or quoted.end() == len(block)


def keep(block: bytes, records: Records, kept: npt.NDArray[np.bool_]) -> tuple[bytes, Records]:
    """The text of the records that are kept, each with its line end, and where they lie in it.

    `lines` are still the lines of the block that they came from.
    """
    chosen = np.flatnonzero(kept)
    if not len(chosen):
        nothing = np.array([], dtype=np.int64)
        return b"", Records(nothing, nothing, nothing, {}, 0, 0)
    following = np.append(records.starts[1:], records.consumed)
    # Runs of neighbours are taken in one slice.
    breaks = np.flatnonzero(np.diff(chosen) > 1)
    firsts = chosen[np.concatenate(([0], breaks + 1))]
    lasts = chosen[np.append(breaks, len(chosen) - 1)]
    slices = [
        block[start:end]
        for start, end in zip(
            records.starts[firsts].tolist(), following[lasts].tolist(), strict=True
        )
    ]
    if slices[-1][-1] not in (_LF, _CR):
        slices[-1] += b"\n"
    lengths = np.array([len(s) for s in slices], dtype=np.int64)
    shift = np.cumsum(np.append(0, lengths[:-1])) - records.starts[firsts]
    run_of = np.searchsorted(firsts, chosen, side="right") - 1
    body = b"".join(slices)
    return body, Records(
        starts=records.starts[chosen] + shift[run_of],
        ends=records.ends[chosen] + shift[run_of],
        lines=records.lines[chosen],
        faults={},
        consumed=len(body),
        lines_consumed=records.lines_consumed,
    )


_LINE_END = re.compile(rb"[\r\n]")


def _line_end(block: bytes, at: int) -> int:
    match = _LINE_END.search(block, at)
    return match.start() if match else len(block)


def _after_line_end(block: bytes, end: int) -> int:
    if end >= len(block):
        return len(block)
    return end + 2 if block[end : end + 2] == b"\r\n" else end + 1


def _count_line_ends(block: bytes, start: int, end: int) -> int:
    count = block.count(b"\n", start, end)
    if returns := block.count(b"\r", start, end):
        count += returns - block.count(b"\r\n", start, end)
    return count


def _places(block: bytes, bytes_: npt.NDArray[np.uint8], byte: bytes) -> Positions:
    """Offsets of a byte; most texts have no quote and no CR, which costs next to nothing to see."""
    if byte not in block:
        return np.array([], dtype=np.int64)
    return np.flatnonzero(bytes_ == byte[0])


def _inside(quotes: Positions, line_ends: Positions) -> npt.NDArray[np.bool_] | None:
    """Which line ends stand inside of quotes; None where none does."""
    # Most quoted text is of one line: then as many line ends come before the quote that opens as
    # before the one that closes. Seeing that takes a third of asking each line end.
    before = np.searchsorted(line_ends, quotes)
    opening, closing = before[0::2], before[1::2]
    if len(opening) == len(closing) and not (opening != closing).any():
        return None
    inside: npt.NDArray[np.bool_] = np.searchsorted(quotes, line_ends) % 2 == 1
    return inside if inside.any() else None


def _line_ends(block: bytes, bytes_: npt.NDArray[np.uint8], *, final: bool) -> Positions:
    """Offsets of the last byte of every LF, CRLF and lone CR."""
    feeds = _places(block, bytes_, b"\n")
    returns = _places(block, bytes_, b"\r")
    if not len(returns):
        return feeds
    at_end = returns == len(block) - 1
    before_feed = bytes_[np.minimum(returns + 1, len(block) - 1)] == _LF
    # A CR that ends a block may be half of a CRLF.
    lone = returns[(at_end & final) | (~at_end & ~before_feed)]
    return np.sort(np.concatenate((feeds, lone)))
