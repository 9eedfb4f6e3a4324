"""A publication's commit, and the planning of a read, after many publications against after a few.

One data set with a unique key gets batches of one small file each, all into the partition of one
day, which is the worst case: nothing of it can be passed over. Upkeep runs as its schedule would
have it with a hundred publications an hour. A commit is timed as publishers see it, with a catalog
that has just been opened for each; so is the planning of a read of the partition. The embedded AWS
is a process of its own. At the end, the rows are counted.

    python benchmarks/many_publications.py
    python benchmarks/many_publications.py --publications 200
    python benchmarks/many_publications.py --no-upkeep      # what it would be without

The last line of stdout is one JSON object with the results.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from statistics import median

from _measuring import ROOT, Figure, progress, tell

sys.path.insert(0, str(ROOT))

_FEW = 10
#: So many commits are timed, up to each point.
_TIMED = 10
_BETWEEN_UPKEEPS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--publications", type=int, default=1_000)
    parser.add_argument("--upkeep-every", type=int, default=_BETWEEN_UPKEEPS)
    parser.add_argument("--no-upkeep", action="store_true")
    options = parser.parse_args()

    from pyiceberg.expressions import EqualTo

    from dagster_project.session import environment
    from deploy.bootstrap import bootstrap
    from deploy.local import EmbeddedAws
    from resources.aws import clients
    from resources.catalog import IcebergCatalog
    from service_core.canonical import PARTITION as PARTITION_COLUMN
    from service_core.settings import Settings
    from service_core.upkeep import Retention
    from tests.judged_batches import PARTITION, Judged, contract, landed

    of = contract()

    with EmbeddedAws() as aws, environment(aws.environment()):
        settings = Settings.from_environment(os.environ)
        clients_of = clients(settings)
        bootstrap(settings, clients_of)
        judged = Judged(clients_of("s3"), settings)
        commits: list[float] = []

        def publish(number: int) -> None:
            # Names come in no order, so that no file's bounds keep the others' keys out.
            name = f"{number * 7_919 % 1_000_003:07d}.csv"
            verdict = judged(of, {landed(name): range(number * 10, number * 10 + 10)})
            catalog = IcebergCatalog(settings)
            catalog.current_snapshot(of)
            started = time.perf_counter()
            catalog.publish(of, verdict, frozenset())
            commits.append(time.perf_counter() - started)

        def planning() -> float:
            took = []
            for _ in range(_TIMED):
                catalog = IcebergCatalog(settings)
                table = catalog.table(of)
                assert table is not None
                started = time.perf_counter()
                list(table.scan(row_filter=EqualTo(PARTITION_COLUMN, PARTITION)).plan_files())
                took.append(time.perf_counter() - started)
            return median(took)

        def tend() -> None:
            catalog = IcebergCatalog(settings)
            retention = Retention(timedelta(days=settings.snapshot_days), settings.snapshots)
            tended = catalog.tend(of, retention, settled=lambda ids: ids, now=datetime.now(UTC))
            assert tended is not None
            progress(f"upkeep: {tended.before} to {tended.after}")

        for number in range(_FEW + _TIMED):
            publish(number)
            if number + 1 == _FEW:
                few_planned = planning()
        # Of the first, a commit also makes the table and warms the process.
        few = median(commits[_FEW : _FEW + _TIMED])
        for number in range(_FEW + _TIMED, options.publications):
            publish(number)
            # Last some time before the end: the figures are not those of a table just tended.
            if not options.no_upkeep and number % options.upkeep_every == 0:
                tend()
            if (number + 1) % 100 == 0:
                progress(f"{number + 1:,} publications, the last {commits[-1] * 1000:.0f} ms")
        many = median(commits[-_TIMED:])
        many_planned = planning()
        rows = IcebergCatalog(settings).scan(of, columns=["id"]).read_all().num_rows
        if rows != options.publications * 10:
            raise SystemExit(f"{rows:,} rows are there, of {options.publications * 10:,}.")
    progress(
        f"A commit: {few * 1000:.0f} ms, then {many * 1000:.0f} ms. "
        f"Planning: {few_planned * 1000:.0f} ms, then {many_planned * 1000:.0f} ms."
    )
    tell(
        [
            Figure("publications: commit after many against after few", many / few, "×", 3),
            Figure("publications: planning a read, likewise", many_planned / few_planned, "×", 3),
            Figure("publications: commit after many", many * 1000, "ms"),
            Figure("publications: planning after many", many_planned * 1000, "ms"),
        ]
    )


if __name__ == "__main__":
    main()
