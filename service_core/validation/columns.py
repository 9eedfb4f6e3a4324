"""Columns: which field of a file is which column of the contract, and what drift that shows.

Names are compared exactly. A name that differs in case or by a space is another name, which is
reported as renamed: what is quietly mended in one place is quietly lost in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service_core.contract.model import Contract, DriftPolicy
from service_core.drift import REASON_OF, Drift, DriftKind, classify_names, match_names
from service_core.validation.record import Finding
from service_core.validation.refusal import FileRefused, against_file

#: For what concerns all rows of a file alike, to refuse the rows is to refuse the file.
REFUSING = frozenset({DriftPolicy.QUARANTINE_ROWS, DriftPolicy.QUARANTINE_FILE})


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a file's fields go.

    Attributes:
        names: All of the file's field names, or as many numbered ones where it names none.
        positions: For each landed column its field's index, or None where the file has none.
        aside: Indices of the fields that are kept in `_extra`.
    """

    names: tuple[str, ...]
    positions: tuple[int | None, ...]
    aside: tuple[int, ...]

    @property
    def width(self) -> int:
        return len(self.names)


def source_names(contract: Contract) -> tuple[str, ...]:
    """What the landed columns are called in a file, in the contract's order."""
    return tuple(c.source or c.name for c in contract.landed_columns)


def layout_by_name(
    contract: Contract,
    names: Sequence[str],
    *,
    line: int | None,
    expected: Sequence[str] | None = None,
) -> tuple[Layout, tuple[Drift, ...]]:
    """Lay out a file by its field names, which must differ from each other.

    Args:
        line: The header's line, for messages.
        expected: The landed columns' names in the file, where these are not simply
            `source_names`.

    Raises:
        FileRefused: by the contract's drift policies.
    """
    expected = source_names(contract) if expected is None else expected
    match = match_names(tuple(dict.fromkeys(expected)), names)
    drift = classify_names(match, contract.drift)
    refused = refusals(drift, line=line)
    if refused:
        raise FileRefused(refused, drift)
    at = {name: i for i, name in enumerate(names)}
    aside = [at[d.column] for d in drift if _kept_aside(d) and d.column in at]
    keep_renamed = (
        contract.drift.renamed is DriftPolicy.KEEP_ASIDE
        or contract.drift.additive is not DriftPolicy.ALLOW
    )
    if keep_renamed:
        aside += [at[other] for _, other in match.renamed]
    return (
        Layout(tuple(names), tuple(at.get(name) for name in expected), tuple(sorted(aside))),
        drift,
    )


def layout_by_position(contract: Contract) -> Layout:
    """The layout of a file without a header: the contract's own order."""
    names = source_names(contract)
    return Layout(names, tuple(range(len(names))), ())


def refusals(drift: Iterable[Drift], *, line: int | None = None) -> tuple[Finding, ...]:
    """The findings against the whole file that drift amounts to under its policies."""
    return tuple(
        against_file(REASON_OF[d.kind], d.detail, line=line, column=d.column)
        for d in drift
        if d.policy in REFUSING
    )


def _kept_aside(drift: Drift) -> bool:
    return drift.kind is DriftKind.ADDITIVE and drift.policy is DriftPolicy.KEEP_ASIDE
