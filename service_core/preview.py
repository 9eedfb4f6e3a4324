"""A first look at quarantined rows, safe to show: personal columns are masked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from service_core.contract.model import Contract
from service_core.masking import mask
from service_core.platform_columns import EXTRA, RAW, REASONS, SOURCE_KEY, SOURCE_LINE
from service_core.ports import ObjectStore
from service_core.verdict import Verdict


def preview_rows(
    contract: Contract, verdict: Verdict, store: ObjectStore, scratch: Path, *, limit: int = 20
) -> list[dict[str, Any]]:
    """Up to `limit` of a batch's diverted rows: file, line, reasons, and the text that arrived.

    `_extra` and the text of rows without shape can hold anything, so both are masked wherever the
    contract has a personal column at all.
    """
    import pyarrow.parquet as pq

    if not verdict.quarantined_rows:
        return []
    path = scratch / "preview.parquet"
    store.download(verdict.quarantined_rows[0].uri, path)
    with pq.ParquetFile(path) as file:
        batch = next(file.iter_batches(batch_size=limit), None)
    rows = [] if batch is None else batch.to_pylist()
    hidden = {c.name for c in contract.columns if c.personal}
    if hidden:
        hidden |= {EXTRA, RAW}
    shown = [c.name for c in contract.landed_columns] + [EXTRA, RAW]
    return [
        {
            "file": row[SOURCE_KEY],
            "line": row[SOURCE_LINE],
            "reasons": "; ".join(
                reason["code"] + (f" ({reason['column']})" if reason["column"] else "")
                for reason in row[REASONS]
            ),
            **{
                name: mask(row[name]) if name in hidden else row[name]
                for name in shown
                if any(other[name] is not None for other in rows)
            },
        }
        for row in rows
    ]
