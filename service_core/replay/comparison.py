"""What verdicts said of source objects before against what they say now, and all of it as one.

Pure: a difference is a function of two sets of verdicts and of rows that have been counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from service_core.drift import DriftKind
from service_core.reasons import ReasonCode, Scope
from service_core.replay.difference import (
    BatchOutcome,
    CheckChange,
    CheckState,
    CodeChange,
    Difference,
    DriftChange,
    ReasonChange,
    Rows,
    RowSample,
    Total,
)
from service_core.verdict import CheckOutcome, FileOutcome, Verdict

#: Files with their reasons in one partition, those that change most first; all are counted.
_REASONS = 100


@dataclass(frozen=True, slots=True)
class Said:
    """What verdicts, or the ledger alone, say of some source objects.

    Attributes:
        reasons: Counts by source key, code and scope.
        drift: Files by kind and column.
        checks: Of each verdict.
    """

    reasons: Counter[tuple[str, ReasonCode, Scope]]
    drift: Counter[tuple[DriftKind, str | None]]
    checks: tuple[tuple[CheckOutcome, ...], ...]

    @classmethod
    def of(cls, files: Iterable[FileOutcome], checks: Iterable[tuple[CheckOutcome, ...]]) -> Said:
        """Of the outcomes of files, and the checks of their batches."""
        reasons: Counter[tuple[str, ReasonCode, Scope]] = Counter()
        drift: Counter[tuple[DriftKind, str | None]] = Counter()
        for file in files:
            for finding in file.findings:
                reasons[file.source_object.key, finding.code, finding.scope] += finding.count
            drift.update({(one.kind, one.column) for one in file.drift})
        return cls(reasons, drift, tuple(checks))


def reason_changes(before: Said, after: Said) -> tuple[ReasonChange, ...]:
    """File by file, those that change most first."""
    changes = [
        ReasonChange(
            file=file, code=code, scope=scope,
            before=before.reasons[file, code, scope], after=after.reasons[file, code, scope],
        )
        for file, code, scope in before.reasons.keys() | after.reasons.keys()
        if before.reasons[file, code, scope] != after.reasons[file, code, scope]
    ]  # fmt: skip
    return tuple(sorted(changes, key=lambda c: (-abs(c.after - c.before), c.file, c.code, c.scope)))


def code_changes(before: Said, after: Said) -> tuple[CodeChange, ...]:
    """Over all files, those that grow most first."""
    counts: dict[tuple[ReasonCode, Scope], list[int]] = {}
    for place in before.reasons.keys() | after.reasons.keys():
        had, has = before.reasons[place], after.reasons[place]
        sums = counts.setdefault(place[1:], [0, 0, 0, 0])
        for position, figure in enumerate((had, has, max(has - had, 0), max(had - has, 0))):
            sums[position] += figure
    return _ordered_codes(
        CodeChange(code=code, scope=scope, before=had, after=has, gained=gained, lost=lost)
        for (code, scope), (had, has, gained, lost) in counts.items()
        if gained or lost
    )


def check_changes(before: Said, after: Said) -> tuple[CheckChange, ...]:
    """Checks whose outcome changes: of several verdicts, the worst counts.

    Where nothing was judged before, there is nothing that could change, and only what does not pass
    is told.
    """
    had, has = _by_name(before.checks), _by_name(after.checks)
    changes = []
    for name in dict.fromkeys((*has, *had)):
        state_before, failed_before, _ = had.get(name, (None, 0, ""))
        state_after, failed, detail = has.get(name, (None, 0, ""))
        if state_before is state_after or (not had and state_after is CheckState.PASSED):
            continue
        changes.append(
            CheckChange(
                name=name, before=state_before, after=state_after,
                rows_failed_before=failed_before, rows_failed=failed, detail=detail,
            )
        )  # fmt: skip
    return tuple(changes)


def drift_changes(before: Said, after: Said) -> tuple[DriftChange, ...]:
    """Ways of differing that more files, or fewer, show."""
    return tuple(
        DriftChange(
            kind=kind, column=column,
            files_before=before.drift[kind, column], files_after=after.drift[kind, column],
        )
        for kind, column in sorted(
            before.drift.keys() | after.drift.keys(), key=lambda d: (d[0], d[1] or "")
        )
        if before.drift[kind, column] != after.drift[kind, column]
    )  # fmt: skip


_WORSE = (CheckState.PASSED, CheckState.FAILED, CheckState.BLOCKS)


def _by_name(
    verdicts: Iterable[Iterable[CheckOutcome]],
) -> dict[str, tuple[CheckState, int, str]]:
    found: dict[str, tuple[CheckState, int, str]] = {}
    for checks in verdicts:
        for check in checks:
            state = (
                CheckState.PASSED if check.passed
                else CheckState.BLOCKS if check.blocking else CheckState.FAILED
            )  # fmt: skip
            worst, rows, detail = found.get(check.name, (state, 0, check.detail))
            if _WORSE.index(state) > _WORSE.index(worst):
                worst, detail = state, check.detail
            found[check.name] = (worst, rows + check.rows_failed, detail)
    return found


def difference(
    partition: str,
    *,
    verdicts: Sequence[Verdict],
    withheld: Mapping[str, frozenset[str]],
    before: Said,
    rows: Rows,
    changed_columns: Mapping[str, int],
    samples: Sequence[RowSample],
) -> Difference:
    """One partition's difference.

    Args:
        verdicts: What its batches would come to.
        withheld: Source objects that would be kept out, by batch.
        before: What is said of their source objects now.
    """
    after = Said.of(
        (file for verdict in verdicts for file in verdict.files), (v.checks for v in verdicts)
    )
    reasons = reason_changes(before, after)
    return Difference(
        partition=partition,
        batches=tuple(
            BatchOutcome(
                batch_id=v.batch_id,
                source_objects=len(v.files),
                withheld=len(withheld.get(v.batch_id, ())),
                passed=v.passed,
                blocked_by=v.blocked_by,
                rows_read=v.rows_read,
                rows_accepted=v.rows_accepted,
                rows_quarantined=v.rows_quarantined,
            )
            for v in verdicts
        ),
        rows=rows,
        changed_columns=dict(changed_columns),
        codes=code_changes(before, after),
        reasons=reasons[:_REASONS],
        reasons_left_out=len(reasons[_REASONS:]),
        checks=check_changes(before, after),
        drift=drift_changes(before, after),
        samples=tuple(samples),
    )


def total(partitions: Sequence[Difference]) -> Total:
    """All partitions together."""
    batches = [batch for one in partitions for batch in one.batches]
    columns: Counter[str] = Counter()
    for one in partitions:
        columns.update(one.changed_columns)
    return Total(
        partitions=len(partitions),
        source_objects=sum(batch.source_objects for batch in batches),
        batches=len(batches),
        blocked=sum(not batch.passed for batch in batches),
        rows=sum((one.rows for one in partitions), Rows()),
        changed_columns=dict(columns.most_common()),
        codes=_ordered_codes(
            _merged(
                (code for one in partitions for code in one.codes),
                lambda c: (c.code, c.scope),
                ("before", "after", "gained", "lost"),
            )
        ),
        checks=tuple(
            # What one partition's sentence counts is not what all of them come to.
            check if check.partitions == 1 else check.model_copy(update={"detail": ""})
            for check in _merged(
                (check for one in partitions for check in one.checks),
                lambda c: (c.name, c.before, c.after),
                ("rows_failed_before", "rows_failed", "partitions"),
            )
        ),
        drift=tuple(
            _merged(
                (drift for one in partitions for drift in one.drift),
                lambda d: (d.kind, d.column),
                ("files_before", "files_after"),
            )
        ),
    )


_Model = TypeVar("_Model", bound=BaseModel)


def _merged(
    parts: Iterable[_Model], place: Callable[[_Model], Hashable], sums: Sequence[str]
) -> list[_Model]:
    """Parts of one place as one, with their figures summed up."""
    merged: dict[Hashable, _Model] = {}
    for part in parts:
        where = place(part)
        if (first := merged.get(where)) is None:
            merged[where] = part
        else:
            merged[where] = first.model_copy(
                update={name: getattr(first, name) + getattr(part, name) for name in sums}
            )
    return list(merged.values())


def _ordered_codes(codes: Iterable[CodeChange]) -> tuple[CodeChange, ...]:
    return tuple(sorted(codes, key=lambda c: (-c.gained, -c.lost, c.code, c.scope)))
