"""A rehearsal's report as a person sees it on an asset: figures to plot, tables to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dagster import MetadataValue

from assets.checks import table
from service_core.layout import Zone, replay_prefix
from service_core.ports import ObjectStore
from service_core.replay.difference import Report, RowSample, SampleKind
from service_core.replay.folder import DIFFERENCE

#: Rows of one table: the event log has no retention of its own. The report itself holds more.
_PARTITIONS = 100
_ROWS = 20


def report_metadata(report: Report, store: ObjectStore) -> dict[str, Any]:
    """The report in figures and tables; those that would be empty are left out."""
    total = report.total
    metadata: dict[str, Any] = {
        "outcome": report.outcome,
        "contract_version": report.contract_version,
        "contract_hash": report.contract_hash,
        "rows_published": total.rows.published,
        "rows_that_would_be": total.rows.would_be,
        "rows_added": total.rows.added,
        "rows_removed": total.rows.removed,
        "rows_changed": total.rows.changed,
        "source_objects": total.source_objects,
        "batches": total.batches,
        "batches_blocked": total.blocked,
    }
    if report.replay_id is not None:
        uri = store.uri(Zone.MANIFESTS, replay_prefix(report.replay_id) + DIFFERENCE)
        metadata |= {"replay_id": report.replay_id, "report": MetadataValue.url(uri)}
    if report.refusal is not None:
        metadata["table_refuses"] = report.refusal
    tables = {
        "partitions": _partitions(report),
        "changed_columns": [
            {"column": name, "rows": rows} for name, rows in total.changed_columns.items()
        ],
        "reasons": [
            {"code": c.code.value, "scope": c.scope.value, "before": c.before, "after": c.after,
             "gained": c.gained, "lost": c.lost}
            for c in total.codes
        ],
        "reasons_by_file": [
            {"file": r.file, "code": r.code.value, "scope": r.scope.value, "before": r.before,
             "after": r.after}
            for one in report.partitions for r in one.reasons
        ],
        "checks": [
            {"check": c.name, "before": c.before and c.before.value,
             "after": c.after and c.after.value, "rows_failed_before": c.rows_failed_before,
             "rows_failed": c.rows_failed, "partitions": c.partitions, "found": c.detail}
            for c in total.checks
        ],
        "drift": [
            {"kind": d.kind.value, "column": d.column, "files_before": d.files_before,
             "files": d.files_after}
            for d in total.drift
        ],
    }  # fmt: skip
    metadata |= {
        name: table(rows[: _PARTITIONS if name == "partitions" else _ROWS])
        for name, rows in tables.items()
        if rows
    }
    for kind in SampleKind:
        chosen = [s for one in report.partitions for s in one.samples if s.kind is kind][:_ROWS]
        if chosen:
            metadata[f"sample_{kind}"] = table(sample_rows(chosen))
    return metadata


def _partitions(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "partition": one.partition,
            "published": one.rows.published,
            "would_be": one.rows.would_be,
            "added": one.rows.added,
            "removed": one.rows.removed,
            "changed": one.rows.changed,
            "blocked_by": ", ".join(
                dict.fromkeys(name for batch in one.batches for name in batch.blocked_by)
            ),
        }
        for one in report.partitions
    ]


def sample_rows(samples: Sequence[RowSample]) -> list[dict[str, Any]]:
    """Samples of one kind as rows of one table; a changed value as `before → after`."""
    return [{"file": sample.file, "row": sample.row, **sample.values} for sample in samples]
