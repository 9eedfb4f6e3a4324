"""Outcomes: what an engine left of a batch, and every cell in which two of them differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from service_core.verdict import CheckOutcome, FileOutcome, FileStatus, Verdict

#: What may differ between engines, by the place in an outcome, and why it cannot be removed.
#: None of it is anything that a contract can express.
KNOWN_DIFFERENCES: Mapping[str, str] = {
    "verdict.engine": "It names the engine.",
    "verdict.staged": "Engines cut files where their tasks end; their rows are compared instead.",
    "verdict.quarantined_rows": "As for staged files.",
}


#: A row, a record, or a part of one.
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that an engine left.

    Attributes:
        verdict: As it was read back from `dq-results`.
        accepted, quarantined: Rows of staged files and of row quarantine, in the files' order.
        accepted_schema, quarantined_schema: Of the files, name by name.
        whole: The record and the copy of each file in quarantine, by source key.
    """

    verdict: Verdict
    accepted: tuple[Row, ...]
    quarantined: tuple[Row, ...]
    accepted_schema: Mapping[str, str]
    quarantined_schema: Mapping[str, str]
    whole: Mapping[str, tuple[Row, bytes]]

    def file(self, name: str) -> FileOutcome:
        """What became of the file of that name."""
        return next(f for f in self.verdict.files if f.source_object.key.endswith(f"/{name}"))

    def status(self) -> dict[str, FileStatus]:
        """By file name."""
        return {f.source_object.key.rsplit("/", 1)[1]: f.status for f in self.verdict.files}

    def check(self, name: str) -> CheckOutcome:
        return next(c for c in self.verdict.checks if c.name == name)

    def values(self, name: str) -> list[Any]:
        """A column of the accepted rows."""
        return [row[name] for row in self.accepted]

    def reasons(self) -> list[list[tuple[str, str | None]]]:
        """Code and column of each reason of each quarantined row."""
        return [[(r["code"], r["column"]) for r in row["_reasons"]] for row in self.quarantined]

    def codes(self, name: str) -> list[tuple[str, str | None, int]]:
        """Code, column and count of the findings of the file of that name."""
        return [(f.code.value, f.column, f.count) for f in self.file(name).findings]

    def sampled(self, check: str) -> list[tuple[str, int]]:
        """File name and number of the rows that a check shows."""
        return origins(self.check(check).samples)


def origins(rows: Iterable[Row]) -> list[tuple[str, int]]:
    """File name and number of rows."""
    return [(row["_source_key"].rsplit("/", 1)[1], row["_source_row"]) for row in rows]


def assert_complete(outcome: Outcome) -> None:
    """What holds of the outcome of any engine: rows are conserved and nothing is in two places."""
    verdict = outcome.verdict
    for file in verdict.files:
        assert file.rows_read == file.rows_accepted + file.rows_quarantined
    whole = {
        f.source_object.id for f in verdict.files if any(x.scope == "file" for x in f.findings)
    }
    assert len(outcome.accepted) == verdict.rows_accepted
    gone = sum(f.rows_read for f in verdict.files if f.source_object.id in whole)
    assert len(outcome.quarantined) + gone == verdict.rows_quarantined
    assert verdict.rows_read == verdict.rows_accepted + verdict.rows_quarantined
    places = [
        (row["_source_object_id"], row["_source_row"] or 0, row.get("_source_line"))
        for row in (*outcome.accepted, *outcome.quarantined)
    ]
    assert len(set(places)) == len(places)
    assert not whole & {owner for owner, _, _ in places}


def differences(one: Outcome, other: Outcome) -> list[str]:
    """Every place in which two outcomes differ and should not."""
    found = []
    for name in ("accepted_schema", "quarantined_schema"):
        found += _compared(name, getattr(one, name), getattr(other, name))
    for name in ("accepted", "quarantined"):
        found += _compared(name, _by_origin(getattr(one, name)), _by_origin(getattr(other, name)))
        mine, theirs = ([_origin(r) for r in getattr(o, name)] for o in (one, other))
        if sorted(mine) == sorted(theirs) and mine != theirs:
            place = next(i for i, pair in enumerate(zip(mine, theirs, strict=True))
                         if pair[0] != pair[1])  # fmt: skip
            found.append(f"{name}: the order of rows, from row {place} on")
    found += _compared("verdict", _known(one.verdict), _known(other.verdict))
    found += _compared("whole", one.whole, other.whole)
    return found


def _known(verdict: Verdict) -> Mapping[str, Any]:
    """A verdict without what may differ."""
    left = verdict.model_dump(mode="json")
    for place in KNOWN_DIFFERENCES:
        noun, _, name = place.partition(".")
        if noun == "verdict":
            del left[name]
    return left


def _origin(row: Row) -> str:
    line = row.get("_source_line") or 0
    return f"{row['_source_key']} row {row['_source_row'] or 0:09d} line {line:09d}"


def _by_origin(rows: Iterable[Row]) -> Mapping[str, Row]:
    return {_origin(row): row for row in sorted(rows, key=_origin)}


def _compared(place: str, one: Any, other: Any) -> list[str]:
    """Differences between two values made of mappings and sequences."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        found = []
        if list(one) != list(other) and sorted(one) == sorted(other):
            found.append(f"{place}: the order of names: {list(one)} | {list(other)}")
        for name in dict.fromkeys([*one, *other]):
            if name in one and name in other:
                found += _compared(f"{place} › {name}", one[name], other[name])
            else:
                found.append(
                    f"{place} › {name}: only {'first' if name in one else 'second'} has it"
                )
        return found
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{place}: {len(one)} | {len(other)} items: {one!r:.300} | {other!r:.300}"]
        return [
            difference
            for number, pair in enumerate(zip(one, other, strict=True))
            for difference in _compared(f"{place} › {number}", *pair)
        ]
    return [] if cell(one) == cell(other) else [f"{place}: {cell(one)} | {cell(other)}"]


def cell(value: Any) -> str:
    """A value so that what must not be taken for equal is not: `1` and `1.0`, `0.0` and `-0.0`,
    `1.5` and `1.50`; and so that NaN is itself."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC)
    if isinstance(value, Decimal):
        return f"Decimal {value}"
    return f"{type(value).__name__} {value!r}"
