"""What a person sees beside an asset and beside each of its materialisations."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from dagster import (
    AssetKey,
    BetaWarning,
    CodeReferencesMetadataValue,
    LocalFileCodeReference,
    MetadataValue,
    TableColumn,
    TableColumnConstraints,
    TableSchema,
)

from assets.checks import table
from service_core.contract.model import Contract
from service_core.layout import Zone, manifest_key, verdict_key
from service_core.manifest import Manifest
from service_core.ports import ObjectStore, Publication
from service_core.reasons import REASONS
from service_core.validation.record import FileValidation, Finding, ValidationRecord
from service_core.verdict import FileOutcome, Verdict

#: Rows of any table that a materialisation carries: enough to see what is wrong, little enough
#: for the event log, which has no retention of its own.
_TABLE_ROWS = 20


def column_schema(contract: Contract, *, text: bool = False) -> TableSchema:
    """The contract's columns as Dagster shows them; as text before curation."""
    columns = contract.landed_columns if text else contract.columns
    return TableSchema(
        columns=[
            TableColumn(
                column.name,
                "text" if text else column.type.logical.value,
                description=column.description or None,
                constraints=TableColumnConstraints(
                    nullable=text or not column.required,
                    unique=not text and (column.name,) in contract.unique_keys,
                ),
                tags={"classification": column.classification} if column.classification else {},
            )
            for column in columns
        ]
    )


def definition_metadata(contract: Contract, *, text: bool = False) -> dict[str, Any]:
    """Metadata of an asset itself: schema, contract and where that is written."""
    return {
        "dagster/column_schema": column_schema(contract, text=text),
        "contract_version": contract.version,
        "contract_hash": contract.hash,
        "producer": contract.producer,
        "dagster/code_references": _contract_file(contract),
    }


def _contract_file(contract: Contract) -> CodeReferencesMetadataValue:
    with warnings.catch_warnings():
        # Dagster calls code references beta and says so once for each asset.
        warnings.simplefilter("ignore", BetaWarning)
        return CodeReferencesMetadataValue(
            code_references=[
                LocalFileCodeReference(
                    file_path=str(contract.path.resolve()), line_number=1, label="contract"
                )
            ]
        )


def raw_metadata(manifest: Manifest, store: ObjectStore, next_step: AssetKey) -> dict[str, Any]:
    """What was taken inventory of."""
    return {
        **_batch(manifest, store),
        "source_objects": len(manifest.objects),
        "bytes": manifest.size,
        "late": sum(o.late for o in manifest.objects),
        "objects": table(
            [
                {"key": o.key, "bytes": o.size, "landed": o.last_modified.isoformat(),
                 "late": o.late, "source_object": o.id}
                for o in manifest.objects[:_TABLE_ROWS]
            ]
        ),
        "next_step": MetadataValue.asset(next_step),
    }  # fmt: skip


def validated_metadata(
    record: ValidationRecord, manifest: Manifest, store: ObjectStore, next_step: AssetKey
) -> dict[str, Any]:
    """What validation found in the files that went on."""
    good = [f for f in record.files if f.accepted]
    metadata = {
        **_batch(manifest, store),
        "dagster/partition_row_count": sum(p.rows for p in record.parts),
        "files_accepted": len(good),
        "files_quarantined": len(record.files) - len(good),
        "rows_read": sum(f.rows_read for f in record.files),
        "rows_malformed": sum(f.rows_malformed for f in record.files),
        "bytes": sum(p.bytes for p in record.parts),
        "next_step": MetadataValue.asset(next_step),
        **_uris("canonical_text", [p.uri for p in record.parts]),
        **_reasons(record.files),
    }
    drift = [
        {"key": f.source_object.key, "kind": d.kind.value, "column": d.column,
         "policy": d.policy.value, "rows": d.rows, "detail": d.detail}
        for f in record.files for d in f.drift
    ][:_TABLE_ROWS]  # fmt: skip
    return {**metadata, "drift": table(drift)} if drift else metadata


def quarantined_files_metadata(
    files: Sequence[FileValidation | FileOutcome], manifest: Manifest, store: ObjectStore
) -> dict[str, Any]:
    """Which files went to quarantine, and why."""
    return {
        **_batch(manifest, store),
        "files": len(files),
        "bytes": sum(f.source_object.size for f in files),
        **_reasons(files),
        "refused": table(
            [
                {"key": f.source_object.key, "code": finding.code.value, "line": finding.line,
                 "column": finding.column, "message": finding.message,
                 "what_to_do": REASONS[finding.code].remedy}
                for f in files for finding in f.findings[:3]
            ][:_TABLE_ROWS]
        ),
    }  # fmt: skip


def curated_metadata(
    verdict: Verdict, manifest: Manifest, store: ObjectStore, next_step: AssetKey
) -> dict[str, Any]:
    """The verdict in short."""
    return {
        **_batch(manifest, store),
        "verdict": "passed" if verdict.passed else "failed",
        "verdict_document": MetadataValue.url(
            store.uri(
                Zone.DQ_RESULTS,
                verdict_key(verdict.dataset, verdict.partition, verdict.batch_id),
            )
        ),
        "dagster/partition_row_count": verdict.rows_accepted,
        "rows_read": verdict.rows_read,
        "rows_accepted": verdict.rows_accepted,
        "rows_quarantined": verdict.rows_quarantined,
        "engine": verdict.engine,
        "bytes": sum(s.bytes for s in verdict.staged),
        "next_step": MetadataValue.asset(next_step),
        **({"blocked_by": ", ".join(verdict.blocked_by)} if verdict.blocked_by else {}),
        **_uris("staged", [s.uri for s in verdict.staged]),
        **_reasons(verdict.files),
    }


def quarantined_rows_metadata(
    verdict: Verdict, manifest: Manifest, store: ObjectStore, preview: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Diverted rows: how many for which reason, and the first of them, masked."""
    return {
        **_batch(manifest, store),
        "dagster/partition_row_count": sum(s.rows for s in verdict.quarantined_rows),
        "bytes": sum(s.bytes for s in verdict.quarantined_rows),
        **_uris("rows", [s.uri for s in verdict.quarantined_rows]),
        **_reasons(verdict.files),
        **({"preview": table(preview[:_TABLE_ROWS])} if preview else {}),
    }


def published_metadata(
    publication: Publication, verdict: Verdict, manifest: Manifest, store: ObjectStore
) -> dict[str, Any]:
    """What the commit did."""
    return {
        **_batch(manifest, store),
        "dagster/table_name": publication.table,
        "dagster/partition_row_count": verdict.rows_accepted,
        "rows_added": publication.rows_added,
        "rows_removed": publication.rows_removed,
        "source_objects_superseded": len(publication.superseded),
        "committed_now": publication.committed,
        "snapshot_id": str(publication.snapshot_id),
        "metadata_location": MetadataValue.path(publication.metadata_location or ""),
    }


def _batch(manifest: Manifest, store: ObjectStore) -> dict[str, Any]:
    key = manifest_key(manifest.dataset, manifest.partition, manifest.batch_id)
    return {
        "batch_id": manifest.batch_id,
        "manifest": MetadataValue.url(store.uri(Zone.MANIFESTS, key)),
        "contract_version": manifest.contract_version,
    }


def _uris(name: str, uris: Sequence[str]) -> dict[str, Any]:
    if not uris:
        return {}
    first = {"dagster/uri": uris[0]}
    return first if len(uris) == 1 else {**first, name: MetadataValue.json(uris[:_TABLE_ROWS])}


def _reasons(files: Iterable[FileValidation | FileOutcome]) -> dict[str, Any]:
    counts: Counter[tuple[str, str]] = Counter()
    for finding in _findings(files):
        counts[(finding.code.value, finding.scope.value)] += finding.count
    if not counts:
        return {}
    return {
        "reasons": table(
            [
                {"code": code, "scope": scope, "count": count}
                for (code, scope), count in counts.most_common()
            ]
        )
    }


def _findings(files: Iterable[FileValidation | FileOutcome]) -> Iterable[Finding]:
    return (finding for file in files for finding in file.findings)
