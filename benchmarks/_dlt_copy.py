"""dlt's part in `path_vs_dlt.py`: a CSV file to typed Parquet. Runs where dlt is installed."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"

import dlt
import pyarrow.parquet as pq
from dlt.sources.filesystem import filesystem, read_csv_duckdb

TYPES = {
    "order_id": "text",
    "customer_id": "text",
    "amount": "decimal",
    "currency": "text",
    "event_ts": "timestamp",
    "status": "text",
    "country": "text",
    "quantity": "bigint",
    "note": "text",
}
CONTRACT: Any = {"tables": "evolve", "columns": "freeze", "data_type": "discard_row"}


def copied(path: Path, folder: Path) -> int:
    """How many rows were written."""
    target = folder / path.stem
    rows = (
        filesystem(bucket_url=path.parent.as_uri(), file_glob=path.name)
        | read_csv_duckdb(all_varchar=True)
    ).with_name("orders")
    rows.apply_hints(
        columns={name: {"data_type": kind} for name, kind in TYPES.items()},
        schema_contract=CONTRACT,
    )
    pipeline = dlt.pipeline(
        pipeline_name=path.stem.replace(".", "_"),
        pipelines_dir=str(folder / "pipelines"),
        destination=dlt.destinations.filesystem(bucket_url=target.as_uri()),
        dataset_name="bench",
    )
    pipeline.run(rows, loader_file_format="parquet")
    return sum(pq.read_metadata(part).num_rows for part in target.glob("bench/orders/*.parquet"))


def main() -> None:
    tiny, big = (Path(name).resolve() for name in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder:
        copied(tiny, Path(folder))
        started = time.perf_counter()
        rows = copied(big, Path(folder))
        print(json.dumps({"rows": rows, "wall": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
