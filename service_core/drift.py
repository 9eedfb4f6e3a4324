"""Drift: the ways in which a file differs from its contract, each by a name of its own.

What a difference is called depends on the names alone, never on the policy; the policy only says
what happens then. So the same file shows the same drift under a lenient contract and a strict one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from service_core.contract.model import DriftPolicies, DriftPolicy
from service_core.reasons import ReasonCode


class DriftKind(StrEnum):
    ADDITIVE = "additive"
    TYPE = "type"
    MISSING = "missing"
    RENAMED = "renamed"
    ORDER = "order"
    NESTED_SHAPE = "nested_shape"


class Drift(BaseModel):
    """One difference between one file, or many files of a batch, and the contract.

    Attributes:
        kind: Which kind.
        column: The column or path it concerns; None for `order`.
        detail: A sentence for a person.
        policy: What the contract says is to happen.
        rows: How many rows it touches, where rows are concerned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: DriftKind
    column: str | None = None
    detail: str
    policy: DriftPolicy
    rows: int | None = None


#: The reason that a file or row is refused with, where the policy refuses that kind of drift.
REASON_OF: Mapping[DriftKind, ReasonCode] = {
    DriftKind.ADDITIVE: ReasonCode.COLUMN_UNEXPECTED,
    DriftKind.TYPE: ReasonCode.TYPE,
    DriftKind.MISSING: ReasonCode.COLUMN_MISSING,
    DriftKind.RENAMED: ReasonCode.COLUMN_RENAMED,
    DriftKind.ORDER: ReasonCode.COLUMN_ORDER,
    DriftKind.NESTED_SHAPE: ReasonCode.NESTED_SHAPE,
}

#: How alike two names must be (difflib's ratio) for one to be taken for the other's new name.
#: `amount` and `total_amount` reach 0.67, `id` and `note` 0.
CLOSE_MATCH = 0.6


@dataclass(frozen=True, slots=True)
class NameMatch:
    """How the names in a file stand to the names in its contract.

    Attributes:
        matched: Contract's names that the file has.
        missing: Contract's names that it has not, and nothing like them.
        renamed: (contract's name, file's name) where one is missing and the other is close.
        unexpected: The file's names that the contract does not know, renamed ones not among them.
        reordered: Whether the matched names stand in another order than the contract's.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    unexpected: tuple[str, ...]
    reordered: bool


def match_names(
    expected: Sequence[str], found: Sequence[str], *, close: float = CLOSE_MATCH
) -> NameMatch:
    """Match a file's names with a contract's, exactly first and then, for what is left, closely.

    Each name is used once. The closest pairs are matched first, so that the outcome does not
    depend on the order of the names.
    """
    present = set(found)
    wanted = set(expected)
    matched = tuple(name for name in expected if name in present)
    absent = [name for name in expected if name not in present]
    strange = [name for name in dict.fromkeys(found) if name not in wanted]

    pairs = sorted(
        ((_likeness(a, s), a, s) for a in absent for s in strange),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    renamed: dict[str, str] = {}
    taken: set[str] = set()
    for likeness, a, s in pairs:
        if likeness >= close and a not in renamed and s not in taken:
            renamed[a] = s
            taken.add(s)

    return NameMatch(
        matched=matched,
        missing=tuple(name for name in absent if name not in renamed),
        renamed=tuple((name, renamed[name]) for name in absent if name in renamed),
        unexpected=tuple(name for name in strange if name not in taken),
        reordered=tuple(name for name in found if name in wanted) != matched,
    )


def classify_names(match: NameMatch, policies: DriftPolicies) -> tuple[Drift, ...]:
    """The drift that a match of names shows, each with the contract's policy for it."""
    return (
        *(
            Drift(
                kind=DriftKind.MISSING,
                column=name,
                detail=f"column {name!r} of the contract is not in the file",
                policy=policies.missing,
            )
            for name in match.missing
        ),
        *(
            Drift(
                kind=DriftKind.RENAMED,
                column=name,
                detail=f"column {name!r} of the contract is not in the file; "
                f"did {_shown(other)} take its place?",
                policy=policies.renamed,
            )
            for name, other in match.renamed
        ),
        *(
            Drift(
                kind=DriftKind.ADDITIVE,
                column=name,
                detail=f"the contract knows no column {_shown(name)}",
                policy=policies.additive,
            )
            for name in match.unexpected
        ),
        *(
            (
                Drift(
                    kind=DriftKind.ORDER,
                    detail="the columns stand in another order than the contract's: "
                    + ", ".join(match.matched),
                    policy=policies.order,
                ),
            )
            if match.reordered
            else ()
        ),
    )


def _likeness(a: str, b: str) -> float:
    """1 where only case, spaces or separators differ; else difflib's ratio without regard to
    these."""
    first, second = _folded(a), _folded(b)
    if first == second:
        return 1.0
    # Hostile headers can be megabytes long and difflib is quadratic.
    if len(first) > 200 or len(second) > 200:
        return 0.0
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def _folded(name: str) -> str:
    return "".join(c for c in name.casefold() if c not in " \t_-.")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else name[:100] + "…")
