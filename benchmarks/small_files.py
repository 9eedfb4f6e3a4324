"""10,000 files of 200 rows, against one file of the same rows, and against one run for each file.

The path is the one that `lakegate ingest` takes, from the moment the files have landed until they
are published: sensor ticks, manifests, runs of the ingest job. The CPU of its process is compared
with that for one file (the embedded AWS is a process of its own and stands for a service that is
not ours). One run for each file is measured on 50 files, by the clock and in this process, so
without the seconds that a run's own process takes to start, and scaled to 10,000.

    python benchmarks/small_files.py
    python benchmarks/small_files.py --files 1000 --single 10

The last line of stdout is one JSON object with the results.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from _measuring import CACHE, Cost, Figure, Meter, in_a_process, progress, tell, tell_cost
from path_vs_copy import CONTRACT, orders_file

_WARM_UP = 900_000_000


def small_files(files: int, rows: int) -> list[Path]:
    """Files of so many rows each, cut from one file; made once and kept."""
    folder = CACHE / f"small_{files}_{rows}"
    paths = [folder / f"orders_{number}.csv" for number in range(files)]
    if not paths[-1].exists():
        folder.mkdir(parents=True, exist_ok=True)
        with orders_file(files * rows).open("rb") as whole:
            head = whole.readline()
            for path in paths:
                path.write_bytes(head + b"".join(whole.readline() for _ in range(rows)))
    return paths


def cost_of_path(paths: list[Path], **landing: Any) -> Cost:
    """Take files all the way, after a warm-up on others."""
    import logging

    logging.disable(logging.ERROR)
    from dagster_project.ingest import Progress, ingest_files
    from dagster_project.session import embedded_session
    from service_core.contract import load_contract

    contract = load_contract(CONTRACT)
    contract = replace(contract, landing=replace(contract.landing, **landing))
    with embedded_session([contract]) as session:
        ingest_files(session, contract, [orders_file(1_000, _WARM_UP)])
        meter = Meter()
        left = len(paths)

        def landed(files: int) -> None:
            nonlocal left
            left -= files
            if left == 0:
                meter.start()

        costs: list[Cost] = []
        told = Progress(landed=landed, judged=lambda _: costs.append(meter.read()))
        report = ingest_files(session, contract, paths, progress=told)
    if not report.all_published or len(report.files) != len(paths):
        raise SystemExit(f"Not every file was published: {report.to_json()[:2000]}")
    return costs[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=200, help="of each file")
    parser.add_argument("--single", type=int, default=50, help="files that get a run each")
    parser.add_argument("--contestant", choices=("many", "one", "single"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    files, rows = options.files, options.rows
    match options.contestant:
        case "many":
            return tell_cost(cost_of_path(small_files(files, rows)))
        case "one":
            return tell_cost(cost_of_path([orders_file(files * rows)]))
        case "single":
            paths = small_files(files, rows)[: options.single]
            return tell_cost(cost_of_path(paths, max_batch_files=1))
    asked = ("--files", str(files), "--rows", str(rows), "--single", str(options.single))
    costs = {}
    for name in ("many", "one", "single"):
        costs[name] = Cost(**in_a_process(__file__, *asked, "--contestant", name))
        progress(f"{name}: cpu {costs[name].cpu:.1f} s, wall {costs[name].wall:.1f} s")
    scaled = costs["single"].wall * files / options.single
    tell(
        [
            Figure(
                "small files: CPU against one file", costs["many"].cpu / costs["one"].cpu, "×", 2
            ),
            Figure(
                "small files: faster than a run each",
                scaled / costs["many"].wall,
                "×",
                100,
                at_least=True,
            ),
            Figure("small files: wall time", costs["many"].wall, "s"),
        ]
    )
    return None


if __name__ == "__main__":
    sys.exit(main())
