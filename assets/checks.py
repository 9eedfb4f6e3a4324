"""Rules as asset checks: declared from the contract, reported from the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    MetadataValue,
    TableColumn,
    TableRecord,
    TableSchema,
)

from service_core.contract.checks import check_names
from service_core.contract.model import Contract
from service_core.reasons import Severity
from service_core.verdict import CheckOutcome, Verdict


def check_specs(contract: Contract, asset: AssetKey) -> list[AssetCheckSpec]:
    """Every check of a contract. Hard ones block what is downstream in the same run; what holds
    back any other run is the gate."""
    return [
        AssetCheckSpec(
            name=check.name,
            asset=asset,
            description=check.description,
            blocking=check.severity is Severity.ERROR,
        )
        for check in check_names(contract)
    ]


def check_results(verdict: Verdict, asset: AssetKey) -> Iterator[AssetCheckResult]:
    """Every check's result.

    A row rule whose offenders were diverted has failed, but the rows that are left keep it: it is
    shown as a warning. What blocks the batch is an error.
    """
    for outcome in verdict.checks:
        yield AssetCheckResult(
            asset_key=asset,
            check_name=outcome.name,
            passed=outcome.passed,
            severity=(AssetCheckSeverity.ERROR if outcome.blocking else AssetCheckSeverity.WARN),
            description=outcome.detail,
            metadata=_metadata(outcome, verdict),
        )


def absent_checks(
    verdict: Verdict, asset: AssetKey, declared: Iterable[str]
) -> Iterator[AssetCheckResult]:
    """A result for every declared check that the contract of the verdict does not have: Dagster
    fails a step that leaves one out."""
    for name in sorted(set(declared) - {outcome.name for outcome in verdict.checks}):
        yield AssetCheckResult(
            asset_key=asset,
            check_name=name,
            passed=True,
            severity=AssetCheckSeverity.WARN,
            description=f"Not judged: it is not part of version {verdict.contract_version} of the "
            "contract, which the replay names.",
            metadata={"batch_id": verdict.batch_id},
        )


def _metadata(outcome: CheckOutcome, verdict: Verdict) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "rows_failed": outcome.rows_failed,
        "rows_read": verdict.rows_read,
        "severity": outcome.severity.value,
        "batch_id": verdict.batch_id,
    }
    if outcome.expectation:
        metadata["expected"] = outcome.expectation
    if outcome.figure is not None:
        metadata["figure"] = outcome.figure
    if outcome.samples:
        metadata["samples"] = table(outcome.samples)
    return metadata


def table(records: Sequence[Mapping[str, Any]]) -> MetadataValue:
    """Records of like keys as a table; values that Dagster's tables cannot hold become text."""
    names = list(dict.fromkeys(name for record in records for name in record))
    rows = [TableRecord({name: _cell(record.get(name)) for name in names}) for record in records]
    return MetadataValue.table(
        records=rows, schema=TableSchema(columns=[TableColumn(name) for name in names])
    )


def _cell(value: Any) -> str | int | float | bool | None:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
