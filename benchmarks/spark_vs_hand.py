"""What our Spark job costs, against the same work written by hand in Spark SQL.

Both take the same canonical text of the orders contract, two rows of a hundred at fault and one of
a thousand a repeat, to accepted rows, quarantined rows with reasons, and a verdict. Both run in one
Spark of two threads, warmed up, in turns, and the medians of their wall times are compared. What
they come to must be the same, row for row of every reason.

The job written by hand reads and writes local files; ours goes through the object store, whose
embedded server competes for the same two cores. Ours also does what a job by hand leaves out; see
`_hand_written_spark`.

`peak_mb` is the most memory that all processes of our job have at one time, in MiB: the driver, its
JVM and its Python workers, by their proportional sizes, without the embedded AWS. It is taken
before the other job first runs, because a JVM keeps what it once had.

    python benchmarks/spark_vs_hand.py
    python benchmarks/spark_vs_hand.py --rows 200000 --repeats 1 --way cached --way "keys first"

Progress goes to stderr. The last line of stdout is one JSON object: {"wall_ratio", "peak_mb"}.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _hand_written_spark import WAYS, curate_by_hand
from _measuring import CACHE, ROOT, progress
from path_vs_copy import CONTRACT, orders_file

PARTITION = "2026-11-21"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
#: Part of the cached file's name: raise it when `_FAULTS` changes.
_GENERATION = 1

_FAULTS = """
COPY (
    SELECT
        CASE WHEN i % 1000 = 7 THEN printf('O%09d', i - 7) ELSE order_id END AS order_id,
        CASE WHEN i % 300 = 6 THEN '' ELSE customer_id END AS customer_id,
        CASE WHEN i % 200 = 1 THEN amount || '5' ELSE amount END AS amount,
        CASE WHEN i % 200 = 3 THEN 'XXX' WHEN i % 50 = 8 THEN ' ' || lower(currency) || ' '
            ELSE currency END AS currency,
        CASE WHEN i % 250 = 4 THEN 'yesterday' ELSE event_ts END AS event_ts,
        CASE WHEN i % 100 = 9 THEN upper(status) ELSE status END AS status,
        CASE WHEN i % 250 = 5 THEN 'Germany' WHEN i % 40 = 10 THEN '' ELSE country END AS country,
        CASE WHEN i % 200 = 2 THEN '0' ELSE quantity END AS quantity,
        note
    FROM (SELECT *, CAST(substr(order_id, 2) AS BIGINT) AS i
          FROM read_csv('{given}', all_varchar = true))
) TO '{path}' (FORMAT csv, HEADER)
"""


def faulty_orders_file(rows: int) -> Path:
    """The orders of `path_vs_copy`, some of them at fault; made once and kept."""
    import duckdb

    given = orders_file(rows)
    path = CACHE / f"faulty_{given.stem}_{_GENERATION}.csv"
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        with duckdb.connect() as connection:
            connection.execute(_FAULTS.format(given=given, path=unfinished))
        unfinished.rename(path)
    return path


@dataclass
class Contest:
    """A validated batch and a Spark that is warm.

    Attributes:
        spark: The session of both jobs.
        batch: For ours.
        text: The same text as local files, for the other.
        folder: Where it writes.
        tree: The processes of whichever job runs.
    """

    spark: Any
    batch: Any
    store: Any
    s3: Any
    text: Path
    folder: Path
    tree: Tree
    _turn: int = field(default=0)

    def ours(self) -> tuple[Cost, dict[str, Any]]:
        """What it cost, and what was counted."""
        from service_core.curation.request import CurationRequest
        from service_core.layout import Zone, manifest_key
        from service_core.run import Run
        from service_core.spark import curate_on_spark

        self._turn += 1
        run = Run(id="run-1", attempt=f"turn-{self._turn}", clock=lambda: NOON, scratch=self.folder)
        manifest = self.batch.manifest
        place = (manifest.dataset, manifest.partition, manifest.batch_id)
        request = CurationRequest.of(
            self.batch.contract,
            manifest,
            self.store,
            run,
            manifest_uri=self.store.uri(Zone.MANIFESTS, manifest_key(*place)),
            published=None,
            engine="spark",
        )
        with self.tree.metered() as cost:
            verdict = curate_on_spark(self.spark, request, self.store, run)
        reasons: Counter[str] = Counter()
        for finding in verdict.files[0].findings:
            reasons[f"{finding.code} {finding.column}"] += finding.count
        for zone in (Zone.DQ_RESULTS, Zone.CURATED, Zone.QUARANTINE):
            for key in list(self.store.keys(zone, "")):
                self.s3.delete_object(Bucket=self.store.bucket(zone), Key=key)
        return cost, _summary(verdict.rows_read, verdict.rows_accepted, reasons)

    def by_hand(self, way: str) -> tuple[Cost, dict[str, Any]]:
        """The same of the job written by hand."""
        out = self.folder / "by-hand"
        manifest = self.batch.manifest
        batch = {"id": manifest.batch_id, "key": manifest.objects[0].key}
        with self.tree.metered() as cost:
            verdict = curate_by_hand(self.spark, way, str(self.text), str(out), batch)
        shutil.rmtree(out)
        return cost, _summary(verdict["rows"], verdict["accepted"], verdict["reasons"])


def _summary(rows: int, accepted: int, reasons: Mapping[str, int]) -> dict[str, Any]:
    return {"rows": rows, "accepted": accepted, "reasons": dict(sorted(reasons.items()))}


@contextlib.contextmanager
def contest(rows: int, memory: str) -> Iterator[Contest]:
    """Land the orders in an embedded AWS, validate them, and start Spark."""
    sys.path.insert(0, str(ROOT))
    from deploy.bootstrap import bootstrap
    from deploy.local import EmbeddedAws
    from resources.aws import clients
    from resources.ledger import DynamoLedger
    from service_core.contract import load_contract
    from service_core.curation.workbench import Batch
    from service_core.layout import Zone, manifest_key
    from service_core.manifest import Manifest, Origin
    from service_core.run import Run
    from service_core.s3_store import S3ObjectStore
    from service_core.settings import Settings
    from service_core.spark.session import local_session
    from service_core.validation.batch import validate_batch

    contract = load_contract(CONTRACT)
    with EmbeddedAws() as aws, tempfile.TemporaryDirectory(prefix="contest-") as name:
        folder = Path(name)
        os.environ.update(aws.environment())
        settings = Settings.from_environment(os.environ)
        client = clients(settings)
        bootstrap(settings, client)
        store = S3ObjectStore(client("s3"), settings)
        ledger = DynamoLedger(client("dynamodb"), settings.ledger_table)
        key = f"{contract.landing.prefix}dt={PARTITION}/orders_many.csv"
        store.upload(faulty_orders_file(rows), Zone.RAW, key)
        listed = next(o for o in store.list_versions(key).objects if o.is_latest)
        manifest = Manifest(
            dataset=contract.dataset,
            partition=PARTITION,
            contract_version=contract.version,
            contract_hash=contract.hash,
            origin=Origin.PERSON,
            objects=(listed.filed_under(store.bucket(Zone.RAW), PARTITION, valid=True),),
            created_at=NOON,
        )
        place = (manifest.dataset, manifest.partition, manifest.batch_id)
        store.write(Zone.MANIFESTS, manifest_key(*place), manifest.model_dump_json().encode())
        ledger.receive(manifest, run_id="run-1", at=NOON)
        run = Run(id="run-1", attempt="validation", clock=lambda: NOON, scratch=folder)
        record = validate_batch(contract, manifest, store, ledger, run)
        text = folder / "text"
        text.mkdir()
        for number, part in enumerate(record.parts):
            store.download(part.uri, text / f"part-{number:05d}.parquet")
        spark = local_session(
            folder / "spark",
            cores=2,
            memory=memory,
            configuration={"spark.sql.session.timeZone": "UTC"},
        )
        try:
            batch = Batch(contract, manifest, record)
            yield Contest(spark, batch, store, client("s3"), text, folder, Tree(aws.pid))
        finally:
            spark.stop()


# --- What it costs -------------------------------------------------------------------------------


@dataclass
class Cost:
    """Seconds of a job: by the clock, and of CPU in all its processes."""

    wall: float = 0.0
    cpu: float = 0.0


class Tree:
    """This process and those that it started, but for the embedded AWS, which is a service."""

    def __init__(self, without: int | None) -> None:
        self._without = without

    @contextlib.contextmanager
    def metered(self) -> Iterator[Cost]:
        """What passes while it is open."""
        cost, start, used = Cost(), time.perf_counter(), self._cpu()
        yield cost
        cost.wall = time.perf_counter() - start
        # A worker that ended since took its own with it.
        cost.cpu = sum(seconds - used.get(pid, 0.0) for pid, seconds in self._cpu().items())

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[float]]:
        """The MiB of all processes together, five times a second."""
        sizes: list[float] = []
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.2):
                sizes.append(sum(map(_size_mb, self._pids())))

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield sizes
        finally:
            done.set()
            thread.join()

    def _pids(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                children.setdefault(int(_fields(stat)[1]), []).append(int(stat.parent.name))
        found, waiting = [], [os.getpid()]
        while waiting:
            pid = waiting.pop()
            if pid != self._without:
                found.append(pid)
                waiting += children.get(pid, [])
        return found

    def _cpu(self) -> dict[int, float]:
        """Seconds that each has used."""
        used = {}
        for pid in self._pids():
            with contextlib.suppress(OSError):
                ticks = sum(map(int, _fields(Path(f"/proc/{pid}/stat"))[11:13]))
                used[pid] = ticks / os.sysconf("SC_CLK_TCK")
        return used


def _fields(stat: Path) -> list[str]:
    """What follows a process's name, which may hold anything."""
    return stat.read_text().rpartition(")")[2].split()


def _size_mb(pid: int) -> float:
    """A process's share of memory: what it has with others is divided among them."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


# --- The contest ---------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", default="2g", help="the JVM's heap")
    parser.add_argument(
        "--way",
        choices=list(WAYS),
        action="append",
        help="how the job by hand is written (the fastest was `keys first`); of several, the "
        "fastest counts",
    )
    options = parser.parse_args()
    if options.rows < 1 or options.repeats < 1:
        parser.error("--rows and --repeats are at least 1")
    ways = options.way or ["keys first"]

    with contest(options.rows, options.memory) as held:
        with held.tree.watched() as sizes:
            held.ours()
            _, wanted = held.ours()
        progress(f"{wanted}, peak {max(sizes):.0f} MiB")
        for way in ways:
            _, found = held.by_hand(way)
            if found != wanted:
                raise SystemExit(f"The jobs did not do the same work: {found} by hand ({way}).")
        costs: dict[str, list[Cost]] = {"ours": [], **{way: [] for way in ways}}
        for turn in range(1, options.repeats + 1):
            for name, its in costs.items():
                its.append((held.ours() if name == "ours" else held.by_hand(name))[0])
                progress(
                    f"{turn}/{options.repeats} {name}: wall {its[-1].wall:.2f} s, "
                    f"cpu {its[-1].cpu:.2f} s"
                )
    walls = {name: statistics.median(cost.wall for cost in its) for name, its in costs.items()}
    ratio = round(walls["ours"] / min(walls[way] for way in ways), 2)
    print(json.dumps({"wall_ratio": ratio, "peak_mb": round(max(sizes))}))


if __name__ == "__main__":
    main()
