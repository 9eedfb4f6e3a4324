"""Samples of rows that differ, as a person may see them: personal values masked, long ones cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service_core.contract.model import Contract
from service_core.masking import mask
from service_core.platform_columns import EXTRA, SOURCE_KEY, SOURCE_OBJECT_ID, SOURCE_ROW
from service_core.replay.difference import RowSample, SampleKind
from service_core.replay.row_difference import ORIGIN, RowPair

#: Samples of each kind in one partition, and characters of a value in them.
SAMPLES = 20
_TEXT = 200


@dataclass(frozen=True, slots=True)
class Sampling:
    """Shows rows as a person may see them.

    Attributes:
        contracts: The contract that is tried, and the one in force if another: what either calls
            personal is masked, and so is a column that neither knows.
        key: The columns of the key.
        names: Source keys by source object id, where a row itself does not say.
    """

    contracts: Sequence[Contract]
    key: Sequence[str]
    names: Mapping[str, str]

    def of(self, pair: RowPair) -> RowSample:
        """One row that differs."""
        row = pair.after if pair.after is not None else pair.before
        assert row is not None
        if pair.before is not None and pair.after is not None:
            kind = SampleKind.CHANGED
            columns = [
                name
                for name in row
                if name in self.key or _differ(pair.before.get(name), pair.after.get(name))
            ]
        else:
            kind = SampleKind.ADDED if pair.before is None else SampleKind.REMOVED
            columns = [name for name in row if name != EXTRA or row[name] is not None]
        columns = [name for name in columns if name not in ORIGIN]
        return RowSample(
            kind=kind,
            file=str(row.get(SOURCE_KEY) or self.names.get(str(row.get(SOURCE_OBJECT_ID)), "")),
            row=row.get(SOURCE_ROW),
            before=self._shown(pair.before, columns),
            after=self._shown(pair.after, columns),
        )

    def _shown(
        self, row: Mapping[str, Any] | None, columns: Sequence[str]
    ) -> dict[str, Any] | None:
        if row is None:
            return None
        return {
            name: mask(row.get(name)) if self._hidden(name) else _plain(row.get(name))
            for name in columns
        }

    def _hidden(self, name: str) -> bool:
        if name == EXTRA:
            # It can hold anything that a file brings.
            return any(c.personal for contract in self.contracts for c in contract.columns)
        known = [c for contract in self.contracts for c in contract.columns if c.name == name]
        return not known or any(c.personal for c in known)


def _differ(before: Any, after: Any) -> bool:
    # A value that is not a number is none other than itself here.
    return bool(before != after) and not (before != before and after != after)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and value - value == 0:
        return value
    text = str(value)
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
