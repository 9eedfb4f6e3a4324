"""The most memory that the whole path takes for one large file, from its arrival to publication.

The file is 5 GB of plain orders, as CSV, or as JSON Lines that land compressed by gzip. What is
counted is the process of the path, Python and libraries included, from its start on; S3 and the
rest of AWS are processes of their own and not counted. S3 is a real server here, which keeps its
objects on disk: with the file's plain text and that of the path, 20 GB of it are needed.

    python benchmarks/peak_memory.py --format csv
    python benchmarks/peak_memory.py --format jsonl.gz --gigabytes 1

The last line of stdout is one JSON object with the results.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import sys
import tempfile
from pathlib import Path

from _measuring import CACHE, Cost, Figure, in_a_process, progress, tell, tell_cost
from path_vs_copy import _TINY_FIRST, _TINY_ROWS, cost_of_path, orders_file

#: The shipped contract refuses so large a file.
_NO_LIMITS = {"max_bytes": 2**40, "max_unpacked_bytes": 2**40}
_ROW_BYTES = {"csv": 67.5, "jsonl.gz": 180.0}


def landing_file(form: str, rows: int, first: int = 0) -> Path:
    """A file of so many rows; made once and kept."""
    plain, packed = form.removesuffix(".gz"), form.endswith(".gz")
    if not packed:
        return orders_file(rows, first, plain)
    path = orders_file(1, first, plain).with_name(f"orders_{first}_{rows}_1.{form}")
    if not path.exists():
        source = orders_file(rows, first, plain)
        unfinished = path.with_name(f"{path.name}.unfinished")
        with source.open("rb") as read, gzip.open(unfinished, "wb", compresslevel=1) as written:
            shutil.copyfileobj(read, written, 1 << 20)
        unfinished.rename(path)
        if first == 0:
            source.unlink()
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--format", choices=_ROW_BYTES, default="csv")
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--contestant", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    form = options.format
    rows = int(options.gigabytes * 1e9 / _ROW_BYTES[form])
    big, tiny = landing_file(form, rows), landing_file(form, _TINY_ROWS, _TINY_FIRST)
    if options.contestant:
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            return tell_cost(
                cost_of_path(
                    form.removesuffix(".gz"), tiny, big, durable=Path(folder), **_NO_LIMITS
                )
            )
    asked = ("--format", form, "--gigabytes", str(options.gigabytes), "--contestant")
    cost = Cost(**in_a_process(__file__, *asked))
    progress(f"{rows:,} rows: cpu {cost.cpu:.0f} s, wall {cost.wall:.0f} s")
    name = f"peak memory, {options.gigabytes:g} GB {form}"
    tell([Figure(name, cost.peak_mb / 1024, "GiB", 1.5)])
    return None


if __name__ == "__main__":
    sys.exit(main())
