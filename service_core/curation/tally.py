"""Tallies: what curation counted of one source object, in parts that can be merged.

A tally of two blocks is the merger of theirs, wherever the cut between them fell, so that the
block size and the engine change no figure. The first occurrence is the one with the least row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from service_core.curation.set_rules import Figure, merge_figures
from service_core.reasons import ReasonCode

#: How many offending rows a check shows.
SAMPLES = 20

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Rows at fault in one way, and the first of them.

    Attributes:
        count: How many rows.
        row: The first one's ordinal in its file.
        line: Its line, where the format has lines.
        message: What is wrong with it, without its value.
        sample: The offending text; None where it is personal, or there is none.
    """

    count: int
    row: int
    line: int | None
    message: str
    sample: str | None

    def merged(self, other: Occurrence) -> Occurrence:
        first = self if self.row <= other.row else other
        return Occurrence(
            self.count + other.count, first.row, first.line, first.message, first.sample
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """What is known of one source object's rows.

    Attributes:
        rows: Rows with shape, accepted or not.
        accepted: Rows that no rule of severity error speaks against.
        reasons: Why rows were diverted, by code and column.
        broken: How many rows broke each rule, by the rule's name; warnings among them.
        drifted: Text that was no spelling of its column's type, by column, whatever the policy.
        figures: Set rules' figures of the accepted rows, by the rule's name.
    """

    rows: int = 0
    accepted: int = 0
    reasons: Mapping[tuple[ReasonCode, str | None], Occurrence] = field(default_factory=dict)
    broken: Mapping[str, int] = field(default_factory=dict)
    drifted: Mapping[str, Occurrence] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)

    @property
    def diverted(self) -> int:
        return self.rows - self.accepted

    def merged(self, other: Tally) -> Tally:
        return Tally(
            self.rows + other.rows,
            self.accepted + other.accepted,
            _merge(self.reasons, other.reasons, Occurrence.merged),
            _merge(self.broken, other.broken, int.__add__),
            _merge(self.drifted, other.drifted, Occurrence.merged),
            merge_figures(self.figures, other.figures),
        )


Samples = Mapping[str, tuple[dict[str, Any], ...]]


def merge_samples(before: Samples, after: Samples) -> Samples:
    """The first offending rows of each rule, of two runs of rows that follow each other."""
    return _merge(before, after, lambda one, two: (one + two)[:SAMPLES])


def merge_tallies(before: Mapping[str, Tally], after: Mapping[str, Tally]) -> Mapping[str, Tally]:
    """Tallies by source object id."""
    return _merge(before, after, Tally.merged)


def _merge(
    one: Mapping[_Key, _Value],
    two: Mapping[_Key, _Value],
    both: Callable[[_Value, _Value], _Value],
) -> Mapping[_Key, _Value]:
    if not one or not two:
        return one or two
    merged = dict(one)
    for key, value in two.items():
        merged[key] = both(merged[key], value) if key in merged else value
    return merged
