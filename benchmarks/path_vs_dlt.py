"""The whole path, against dlt's filesystem source to typed Parquet, on the same CSV file.

dlt reads the file as text by its DuckDB reader, types every column by hints, discards rows whose
values are of another type (`data_type: discard_row`), and writes Parquet to a local folder: the
nearest that it offers to a contract. It checks no rule, keeps nothing of what it discards, and
publishes no snapshot. It runs in an environment of its own (`make bench` sets it up), in turns with
the path; the medians of their wall times are compared. For a look, `--dlt-rows` gives dlt a part of
the rows and scales its time, which flatters the path: a second of it is dlt's whatever the rows.

    python benchmarks/path_vs_dlt.py
    python benchmarks/path_vs_dlt.py --rows 200000 --dlt-rows 50000 --repeats 1

The last line of stdout is one JSON object with the results.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from _measuring import ROOT, Cost, Figure, in_a_process, progress, tell
from path_vs_copy import _TINY_FIRST, _TINY_ROWS, measured, orders_file

#: Where `make bench` puts dlt, which is no part of the project.
PYTHON = ROOT / ".venv" / "dlt" / "bin" / "python"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--dlt-rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--python", default=str(PYTHON), help="a Python that has dlt")
    options = parser.parse_args()
    if not Path(options.python).exists():
        raise SystemExit(f"{options.python} is not there; `make bench` installs dlt into it.")
    big, part = orders_file(options.rows), orders_file(options.dlt_rows)
    tiny = orders_file(_TINY_ROWS, _TINY_FIRST)
    paths: list[Cost] = []
    others: list[float] = []
    script = str(Path(__file__).with_name("_dlt_copy.py"))
    for turn in range(1, options.repeats + 1):
        paths.append(measured("path", "csv", tiny, big))
        said = in_a_process(script, str(tiny), str(part), python=options.python)
        if said["rows"] != options.dlt_rows:
            raise SystemExit(f"dlt wrote {said['rows']} rows of {options.dlt_rows}.")
        others.append(said["wall"] * options.rows / options.dlt_rows)
        progress(
            f"{turn}/{options.repeats} path {paths[-1].wall:.1f} s, dlt {said['wall']:.1f} s for "
            f"{options.dlt_rows:,} rows, which makes {others[-1]:.0f} s"
        )
    path, other = statistics.median(cost.wall for cost in paths), statistics.median(others)
    tell([Figure("faster than dlt's typed Parquet", other / path, "×", 10.0, at_least=True)])


if __name__ == "__main__":
    sys.exit(main())
