"""Every benchmark, one after the other: a table, and `benchmarks/results.json`.

Each runs in a process of its own, so that none pays for what another left behind. `--quick` makes
them small enough for a look (some minutes); bounds are promised for the whole only, where set-up
costs do not weigh. A benchmark that fails is named and does not keep the others from running.

    python benchmarks/all.py
    python benchmarks/all.py --quick
    python benchmarks/all.py --only ledger

Exit code 1 where a bound does not hold or a benchmark failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _measuring import PROGRESS, ROOT, Figure, progress

#: Of what a benchmark's runs log, shown where it fails.
_LOG_LINES = 100
RESULTS = ROOT / "benchmarks" / "results.json"

#: What is read off a script's last line.
Reading = Callable[[dict[str, Any]], list[dict[str, Any]]]


def _told(said: dict[str, Any]) -> list[dict[str, Any]]:
    return list(said["results"])


def _of_path(form: str) -> Reading:
    def reading(said: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            Figure(
                f"whole path, {form}, CPU against a bare copy", said["cpu_ratio"], "×", 2
            ).told(),
            Figure(f"whole path, {form}, peak memory", said["peak_mb"], "MiB").told(),
        ]

    return reading


def _of_spark(said: dict[str, Any]) -> list[dict[str, Any]]:
    name = "Spark engine against the best hand-written job"
    return [Figure(name, said["wall_ratio"], "×", 0.8).told()]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A script, its arguments, and those of a quick look."""

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    reading: Reading = _told


_FEW = ("--rows", "100000", "--repeats", "1")
BENCHMARKS = (
    Benchmark("path-csv", "path_vs_copy.py", (), _FEW, _of_path("CSV")),
    Benchmark("path-csv-gz", "path_vs_copy.py", ("--format", "csv.gz"), _FEW, _of_path("gzip CSV")),
    Benchmark("path-jsonl", "path_vs_copy.py", ("--format", "jsonl"), _FEW, _of_path("JSON Lines")),
    Benchmark("dlt", "path_vs_dlt.py", (), (*_FEW, "--dlt-rows", "20000")),
    Benchmark("small-files", "small_files.py", (), ("--files", "200", "--single", "5")),
    Benchmark("memory-csv", "peak_memory.py", (), ("--gigabytes", "0.1")),
    Benchmark(
        "memory-jsonl-gz", "peak_memory.py", ("--format", "jsonl.gz"), ("--gigabytes", "0.1")
    ),
    Benchmark("sensor-tick", "sensor_tick.py", (), ("--objects", "100000", "--new", "20")),
    Benchmark("sqs-sensor", "sqs_sensor.py", (), ("--messages", "2000", "--repeats", "1")),
    Benchmark("ledger", "ledger_states.py", (), ("--objects", "1000")),
    Benchmark("publications", "many_publications.py", (), ("--publications", "30")),
    Benchmark("run-overhead", "run_overhead.py", (), ("--repeats", "1", "--contracts", "20")),
    Benchmark("spark", "spark_vs_hand.py", ("--repeats", "2"), _FEW, _of_spark),
)


def main() -> int:
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, for a look")
    parser.add_argument("--only", action="append", choices=names, help="can be given again")
    options = parser.parse_args()
    chosen = [b for b in BENCHMARKS if not options.only or b.name in options.only]
    results: list[dict[str, Any]] = []
    failed: list[str] = []
    for number, benchmark in enumerate(chosen, 1):
        print(f"{number}/{len(chosen)} {benchmark.name}", file=sys.stderr, flush=True)
        figures = _figures(benchmark, quick=options.quick)
        if figures is None:
            failed.append(benchmark.name)
            continue
        results += figures
    print(table(results))
    for name in failed:
        print(f"{name} failed; what it said last is above.")
    if not options.quick:
        RESULTS.write_text(json.dumps(_with_those_before(results), indent=2) + "\n")
        progress(f"Written to {RESULTS.relative_to(ROOT)}")
    return 1 if failed or any(figure["ok"] is False for figure in results) else 0


def _figures(benchmark: Benchmark, *, quick: bool) -> list[dict[str, Any]] | None:
    """What a benchmark found; None where it failed."""
    script = Path(__file__).with_name(benchmark.script)
    arguments = (*benchmark.arguments, *(benchmark.quick if quick else ()))
    logged: deque[str] = deque(maxlen=_LOG_LINES)
    with (
        tempfile.TemporaryFile("w+") as told,
        subprocess.Popen(
            [sys.executable, str(script), *arguments],
            cwd=ROOT,
            stdout=told,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(PROGRESS):
                print(line, end="", file=sys.stderr, flush=True)
            else:
                logged.append(line)
        failed = process.wait()
        told.seek(0)
        lines = told.read().splitlines()
    if failed or not lines:
        print("".join(logged), end="", file=sys.stderr)
        progress(f"{benchmark.script} failed with exit code {failed}")
        return None
    return benchmark.reading(json.loads(lines[-1]))


def _with_those_before(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """These, and what the file holds of benchmarks that did not run this time."""
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    found = {figure["name"]: figure for figure in [*before, *results]}
    return list(found.values())


def table(results: Sequence[dict[str, Any]]) -> str:
    """The figures as people read them."""
    rows = [("what", "value", "bound", "holds")]
    for figure in results:
        bound = "" if figure["bound"] is None else f"{figure['bound']:g} {figure['unit']}"
        holds = {True: "yes", False: "NO", None: ""}[figure["ok"]]
        rows.append((figure["name"], f"{figure['value']:g} {figure['unit']}", bound, holds))
    widths = [max(len(row[place]) for row in rows) for place in range(4)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(r, widths, strict=True)) for r in rows
    ]
    return "\n".join(line.rstrip() for line in [lines[0], "-" * len(lines[0]), *lines[1:]])


if __name__ == "__main__":
    sys.exit(main())
