"""Places: where the lines of a block stand, and where their values do.

Everything is found for all lines of a block at once, by numpy. A line's values are only told where
every byte around them has been compared with what was expected, and every quote in it accounted
for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from service_core.validation.arrays import Mask, Numbers
from service_core.validation.json_pattern import LONGEST_LITERAL, Pattern

_LF, _CR, _SPACE, _QUOTE, _BACKSLASH, _BRACE = b'\n\r "\\{'
_WORD = 8
#: What follows a block's text, for more is read than may stand there, and quotes looked for.
PADDING = b'""' + bytes(4 * LONGEST_LITERAL)
#: Words that are looked through for the end of a value before all quotes of a block are.
_REACH = 4
#: Texts of one length in a whole block are looked for up to this one.
_LONGEST_OF_ONE_LENGTH = 64
#: Stands for any byte in a text that is looked for; no plain line has it.
_ANY = b"\0"
_MATTERS = bytes([0, *(255 for _ in range(255))])
_LONGEST_NUMBER = 32
#: RFC 8259, section 6, as a machine: for each state the one that a digit, and other characters,
#: lead to. What leads nowhere is no number.
_PAST_END = 6
_KIND_OF_BYTE = np.full(256, 7, np.uint8)
for _kind, _characters in enumerate((b"0", b"123456789", b"-", b"+", b".", b"eE")):
    _KIND_OF_BYTE[list(_characters)] = _kind
_NEXT_STATE = np.array(
    [  # 0  1-9 -  +  .  e past other
        [2, 3, 1, 9, 9, 9, 9, 9],  # 0: at its begin
        [2, 3, 9, 9, 9, 9, 9, 9],  # 1: -
        [9, 9, 9, 9, 4, 6, 2, 9],  # 2: 0
        [3, 3, 9, 9, 4, 6, 3, 9],  # 3: 12
        [5, 5, 9, 9, 9, 9, 9, 9],  # 4: 12.
        [5, 5, 9, 9, 9, 6, 5, 9],  # 5: 12.3
        [8, 8, 7, 7, 9, 9, 9, 9],  # 6: 12e
        [8, 8, 9, 9, 9, 9, 9, 9],  # 7: 12e+
        [8, 8, 9, 9, 9, 9, 8, 9],  # 8: 12e3
        [9, 9, 9, 9, 9, 9, 9, 9],  # 9: no number
    ],
    np.uint8,
)
_IS_NUMBER = np.isin(np.arange(len(_NEXT_STATE)), [2, 3, 5, 8])


class Lines:
    """A block of whole lines, and where in it everything stands.

    Args:
        text: Lines, the last one with its line feed; then anything, such as the begin of another
            line, which saves a copy; then `PADDING`.
        size: Bytes of the lines.

    Attributes:
        starts, ends: Of each line, its end (CR LF or LF) not counted.
        plain: Lines without escapes and control characters that are not empty.
    """

    def __init__(self, text: bytes, size: int) -> None:
        self.text = text
        self.size = size
        self.bytes = np.frombuffer(text, np.uint8)
        body = self.bytes[:size]
        control = np.flatnonzero(body < _SPACE)
        feeds = control[body[control] == _LF]
        self.starts = np.concatenate(([0], feeds[:-1] + 1))
        self.ends = feeds - ((feeds > self.starts) & (body[feeds - 1] == _CR))
        self.plain = self.ends > self.starts
        if len(feeds) < len(control):
            others = control[body[control] != _LF]
            self._unmark(np.setdiff1d(others, self.ends, assume_unique=True))
        if text.find(_BACKSLASH, 0, size) >= 0:
            self._unmark(np.flatnonzero(body == _BACKSLASH))

    def _unmark(self, places: Numbers) -> None:
        self.plain[np.searchsorted(self.starts, places, side="right") - 1] = False

    def blank(self) -> Mask:
        """Lines of white space alone."""
        empty: Mask = self.ends == self.starts
        # A document begins with `{`; only what begins otherwise has to be looked at.
        for index in np.flatnonzero(~empty & (self.bytes[self.starts] != _BRACE)).tolist():
            empty[index] = not self.line(index).strip(b" \t\r")
        return empty

    def line(self, index: int) -> bytes:
        """The text of one line, without its end."""
        return self.text[int(self.starts[index]) : int(self.ends[index])]

    def matched(
        self, pattern: Pattern, lines: Numbers, widths: Sequence[int | None] | None = None
    ) -> tuple[Numbers, list[Spans]]:
        """Those of some plain lines that are written in one way, and where their values stand.

        Args:
            widths: For each value, how long it is in the lines that are looked for, where they
                all have a text there and of one length. Sparing its end the search is what makes
                a line cheap.
        """
        at, ends = self.starts[lines], self.ends[lines]
        # What a line is compared with is never longer than the line, so nor is the copy of it.
        long = ends - at >= pattern.least(widths)
        if not long.all():
            lines, at, ends = lines[long], at[long], ends[long]
        good = np.ones(len(lines), bool)
        always = np.broadcast_to(np.True_, good.shape)
        quotes: int | Numbers = sum(literal.count(b'"') for literal in pattern.literals)
        spans: list[Spans] = []
        expected = b""
        for column, (literal, following) in enumerate(itertools.pairwise(pattern.literals)):
            expected += literal
            width = None if widths is None else widths[column]
            if width is not None and len(expected) <= LONGEST_LITERAL:
                begin = at + (len(expected) + 1)
                spans.append(Spans(begin, begin + width, always))
                expected += b'"%b"' % (_ANY * width)
                quotes = quotes + 2
                continue
            good &= self._stands(at, expected)
            if not good.any():
                return lines[:0], []
            at = np.minimum(at + len(expected), self.size - 1)
            is_text = self.bytes[at] == _QUOTE
            begin = at + is_text
            # No number has in it what may follow one: a comma, a bracket, a space.
            if is_text.all():
                end = self._first(begin, np.broadcast_to(np.uint64(_QUOTE), begin.shape))
                quotes = quotes + 2
            else:
                wanted = np.where(is_text, np.uint64(_QUOTE), np.uint64(following[0]))
                end = self._first(begin, wanted)
                good &= is_text | (end > begin)
                quotes = quotes + 2 * is_text
            spans.append(Spans(begin, end, is_text))
            at, expected = np.minimum(end + is_text, self.size - 1), b""
        expected += pattern.literals[-1]
        good &= self._stands(at, expected)
        # Places only ever grow, so a line that ends where it should has all its values in itself.
        good &= at + len(expected) == ends
        self._without_other_quotes(lines, good, np.broadcast_to(quotes, good.shape))
        if good.all():
            return lines, spans
        return lines[good], [span.where(good) for span in spans]

    def _first(self, begins: Numbers, wanted: npt.NDArray[np.uint64]) -> Numbers:
        """Where the first byte of a kind stands, from each place on."""
        ones, highs = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
        found, at, kinds = begins, begins, wanted * ones
        left: Numbers | None = None
        for _ in range(_REACH):
            # The lowest high bit is set where the first byte is zero, and so is of the kind.
            seen = self._words(at, 1)[:, 0] ^ kinds
            hit = (seen - ones) & ~seen & highs
            steps = np.bitwise_count((hit - np.uint64(1)) & ~hit) >> 3
            if left is None:
                found, left = begins + steps, np.flatnonzero(steps == _WORD)
            else:
                found[left] += steps
                left = left[steps == _WORD]
            if not len(left):
                return found
            at, kinds = found[left], wanted[left] * ones
        assert left is not None
        texts = left[wanted[left] == _QUOTE]
        found[texts] = self._quotes[np.searchsorted(self._quotes, found[texts])]
        return found

    @cached_property
    def _quotes(self) -> Numbers:
        """Where quotes stand, those of the padding among them."""
        return np.flatnonzero(self.bytes == _QUOTE)

    @cached_property
    def _quotes_of_lines(self) -> Numbers:
        """How many quotes each line has."""
        body = self.bytes[: self.size] == _QUOTE
        return np.add.reduceat(body, self.starts, dtype=np.int64)

    def _without_other_quotes(self, lines: Numbers, good: Mask, quotes: Numbers) -> None:
        """Take from the good lines those that have more quotes than are accounted for."""
        others = np.ones(len(self.starts), bool)
        others[lines[good]] = False
        more = np.flatnonzero(others)
        if len(more) <= len(others) // 16:
            spent = sum(
                self.text.count(_QUOTE, start, end)
                for start, end in zip(
                    self.starts[more].tolist(), self.ends[more].tolist(), strict=True
                )
            )
            # No line has fewer, so where the sum is right each of them is.
            if (
                np.count_nonzero(self.bytes[: self.size] == _QUOTE)
                == int(quotes[good].sum()) + spent
            ):
                return
        good &= self._quotes_of_lines[lines] == quotes

    def say(self, spans: Spans, word: bytes) -> Mask:
        """Which of the values are a word."""
        said: Mask = spans.ends - spans.begins == len(word)
        if said.any():
            said[said] = self._stands(spans.begins[said], word)
        return said

    def are_numbers(self, spans: Spans) -> Mask:
        """Which of the values are numbers as RFC 8259 spells them, and not absurdly long."""
        lengths = spans.ends - spans.begins
        state = np.zeros(len(lengths), np.uint8)
        for place in range(min(int(lengths.max(initial=0)), _LONGEST_NUMBER)):
            kinds = _KIND_OF_BYTE[self.bytes[spans.begins + place]]
            kinds[lengths <= place] = _PAST_END
            state = _NEXT_STATE[state, kinds]
        return _IS_NUMBER[state] & (lengths <= _LONGEST_NUMBER)

    def _stands(self, at: Numbers, literal: bytes) -> Mask:
        """Whether a text, in which `_ANY` is any byte, stands at each place."""
        words = -(-len(literal) // _WORD)
        seen = self._words(at, words)
        found = np.ones(len(at), bool)
        for word in range(words):
            wanted = literal[_WORD * word : _WORD * (word + 1)]
            mask = int.from_bytes(wanted.translate(_MATTERS), "little")
            if mask:
                expected = np.uint64(int.from_bytes(wanted, "little"))
                found &= (seen[:, word] & np.uint64(mask)) == expected
        return found

    def _words(self, at: Numbers, count: int) -> npt.NDArray[np.uint64]:
        """So many words from each place on."""
        return self.everywhere(_WORD * count)[at].view("<u8").reshape(-1, count)

    def everywhere(self, width: int) -> npt.NDArray[np.void]:
        """The so many bytes that begin at each place."""
        return np.ndarray((len(self.bytes) - width,), f"V{width}", self.bytes.data, strides=(1,))


@dataclass(frozen=True, slots=True)
class Spans:
    """Where the values of one column stand, a row each, and which of them are strings."""

    begins: Numbers
    ends: Numbers
    texts: Mask

    @property
    def width(self) -> int | None:
        """The length of all the values, if they are texts and have but one."""
        length = int(self.ends[0] - self.begins[0])
        alike = length <= _LONGEST_OF_ONE_LENGTH and self.texts.all()
        return length if alike and (self.ends - self.begins == length).all() else None

    def where(self, chosen: Mask) -> Spans:
        return Spans(self.begins[chosen], self.ends[chosen], self.texts[chosen])
