"""Check outcomes: what became of every check that a contract declares, whatever was read.

Pure: from what was counted and settled, in the order of the declarations. A check that had nothing
to judge reports so; none is ever left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service_core.contract.checks import (
    ROWS_CONSERVED,
    SOURCE_OBJECTS_ACCEPTED,
    CheckDeclaration,
    CheckKind,
    check_names,
    unique_check_name,
)
from service_core.contract.model import Contract, Expectation, SetRule, SetScope
from service_core.curation.settlement import JudgedFigure, Settlement, shown
from service_core.curation.tally import SAMPLES, Samples, Tally
from service_core.platform_columns import SOURCE_KEY, SOURCE_OBJECT_ID
from service_core.reasons import Severity
from service_core.verdict import CheckOutcome


@dataclass(frozen=True, slots=True)
class Conservation:
    """Rows as they were counted independently of each other.

    Attributes:
        read: By validation.
        accepted: By the footers of the staged files.
        quarantined: By the footers of quarantined rows.
        whole: Rows of files that went whole.
    """

    read: int
    accepted: int
    quarantined: int
    whole: int

    @property
    def held(self) -> bool:
        return self.read == self.accepted + self.quarantined + self.whole


@dataclass(frozen=True, slots=True)
class Findings:
    """What the outcomes are made of.

    Attributes:
        tallies: By source object id.
        settlement: None where no row was judged (an ELT contract).
        conservation: See there.
        accepted: Files that are published if nothing blocks the batch.
        whole: Files that went whole to quarantine.
        delivered: Files of the manifest.
        samples: By check name; rows as the kernel shows them.
        keys: Source key by source object id.
    """

    tallies: Mapping[str, Tally]
    settlement: Settlement | None
    conservation: Conservation
    accepted: int
    whole: int
    delivered: int
    samples: Samples
    keys: Mapping[str, str]


def check_outcomes(contract: Contract, findings: Findings) -> tuple[CheckOutcome, ...]:
    """One outcome for each of `check_names`, in that order."""
    rules = {rule.name: rule for rule in contract.set_rules}
    uniques = {unique_check_name(key): key for key in contract.unique_keys}
    outcomes = []
    for check in check_names(contract):
        match check.kind:
            case CheckKind.BUILT_IN:
                outcome = _built_in(check, findings)
            case CheckKind.ROW:
                broken = sum(t.broken.get(check.name, 0) for t in findings.tallies.values())
                outcome = _of_rows(check, broken, findings)
            case CheckKind.UNIQUE:
                repeated = findings.settlement.repeated if findings.settlement else ()
                lost = sum(one.count for one in repeated if one.key == uniques[check.name])
                outcome = _of_rows(check, lost, findings)
            case CheckKind.SET:
                outcome = _of_set(check, rules[check.name], findings)
        outcomes.append(outcome)
    return tuple(outcomes)


def _built_in(check: CheckDeclaration, findings: Findings) -> CheckOutcome:
    if check.name == ROWS_CONSERVED:
        rows = findings.conservation
        passed, blocking = rows.held, not rows.held
        detail = (
            f"{rows.read} rows read; {rows.accepted} accepted, {rows.quarantined} in row "
            f"quarantine, {rows.whole} in files that were quarantined whole."
        )
    else:
        assert check.name == SOURCE_OBJECTS_ACCEPTED, check.name
        # One file in quarantine does not keep the others back.
        blocking = not findings.accepted
        passed = not blocking and not findings.whole
        detail = (
            f"{findings.accepted} of {findings.delivered} files accepted, "
            f"{findings.whole} quarantined whole."
        )
    return CheckOutcome(
        name=check.name,
        severity=check.severity,
        passed=passed,
        blocking=blocking,
        expectation=check.description,
        detail=detail,
    )


def _of_rows(check: CheckDeclaration, broken: int, findings: Findings) -> CheckOutcome:
    judged = sum(tally.rows for tally in findings.tallies.values())
    fate = "diverted" if check.severity is Severity.ERROR else "recorded"
    if not judged:
        detail = "No row was judged."
    elif broken:
        detail = f"{broken} of {judged} rows broke it and were {fate}."
    else:
        detail = f"All {judged} rows kept it."
    return CheckOutcome(
        name=check.name,
        severity=check.severity,
        passed=not broken,
        rows_failed=broken,
        expectation=check.description,
        detail=detail,
        samples=tuple(
            _with_key(sample, findings.keys) for sample in findings.samples.get(check.name, ())
        ),
    )


def _of_set(check: CheckDeclaration, rule: SetRule, findings: Findings) -> CheckOutcome:
    settlement = findings.settlement
    assert settlement is not None
    batch = settlement.of_batch.get(rule.name)
    by_batch = SetScope.BATCH in rule.scopes
    apart = settlement.of_objects.get(rule.name, {})
    failed = {owner: judged for owner, judged in apart.items() if not judged.held}
    held = not by_batch or batch is None or batch.held
    return CheckOutcome(
        name=check.name,
        severity=check.severity,
        passed=held and not failed,
        blocking=not held and check.severity is Severity.ERROR,
        scope=SetScope.BATCH if by_batch else SetScope.SOURCE_OBJECT,
        rows_failed=sum(findings.tallies.get(owner, Tally()).rows for owner in failed),
        figure=batch.figure if batch is not None else None,
        expectation=check.description,
        detail=_figures(rule, batch if by_batch else None, failed, len(apart)),
        samples=tuple(
            {SOURCE_KEY: findings.keys[owner], "figure": judged.figure}
            for owner, judged in list(failed.items())[:SAMPLES]
        ),
    )


def _figures(
    rule: SetRule, batch: JudgedFigure | None, failed: Mapping[str, JudgedFigure], files: int
) -> str:
    said = []
    if batch is not None:
        said.append(f"The batch's figure is {shown(batch.figure)}.")
    if failed:
        said.append(f"{len(failed)} of {files} files failed by themselves.")
    elif files:
        said.append(f"None of {files} files failed by itself.")
    if failed or (batch is not None and not batch.held):
        said.append(f"A figure must be {_wanted(rule.expectation)}.")
    return " ".join(said) or "No file was judged."


def _wanted(expectation: Expectation) -> str:
    """What a figure must be, in words."""
    bounds = (
        ("above" if expectation.exclusive_minimum else "at least", expectation.minimum),
        ("below" if expectation.exclusive_maximum else "at most", expectation.maximum),
        ("exactly", expectation.equal),
        ("other than", expectation.unequal),
    )
    said = [f"{words} {shown(bound)}" for words, bound in bounds if bound is not None]
    if expectation.outside is not None:
        said.append("not between {} and {}".format(*map(shown, expectation.outside)))
    return " and ".join(said)


def _with_key(sample: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """A sample that names its file by key, which says more to a person than an id."""
    shown_row = {SOURCE_KEY: keys.get(sample.get(SOURCE_OBJECT_ID, ""), "")}
    shown_row |= {name: value for name, value in sample.items() if name != SOURCE_OBJECT_ID}
    return shown_row
