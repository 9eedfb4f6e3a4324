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
    python benchmarks/spark_vs_hand.py --rows 200000 --repeats 1 --way cached --way split

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
from path_vs_copy import CACHE, CONTRACT, ROOT, orders_file

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
        services: The process of the embedded AWS.
    """

    spark: Any
    batch: Any
    store: Any
    s3: Any
    text: Path
    folder: Path
    services: int | None
    _turn: int = field(default=0)

    def ours(self) -> tuple[float, dict[str, Any]]:
        """Seconds, and what was counted."""
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
        start = time.perf_counter()
        verdict = curate_on_spark(self.spark, request, self.store, run)
        seconds = time.perf_counter() - start
        reasons: Counter[str] = Counter()
        for finding in verdict.files[0].findings:
            reasons[f"{finding.code} {finding.column}"] += finding.count
        for zone in (Zone.DQ_RESULTS, Zone.CURATED, Zone.QUARANTINE):
            for key in list(self.store.keys(zone, "")):
                self.s3.delete_object(Bucket=self.store.bucket(zone), Key=key)
        return seconds, _summary(verdict.rows_read, verdict.rows_accepted, reasons)

    def by_hand(self, way: str) -> tuple[float, dict[str, Any]]:
        """The same of the job written by hand."""
        out = self.folder / "by-hand"
        manifest = self.batch.manifest
        batch = {"id": manifest.batch_id, "key": manifest.objects[0].key}
        start = time.perf_counter()
        verdict = curate_by_hand(self.spark, way, str(self.text), str(out), batch)
        seconds = time.perf_counter() - start
        shutil.rmtree(out)
        return seconds, _summary(verdict["rows"], verdict["accepted"], verdict["reasons"])


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
            yield Contest(spark, batch, store, client("s3"), text, folder, aws.pid)
        finally:
            spark.stop()


# --- Memory --------------------------------------------------------------------------------------


class TreeWatch:
    """The most memory that this process and those it started have at one time; those of the
    embedded AWS are left out."""

    def __init__(self, without: int | None) -> None:
        self.peak_mb = 0.0
        self._without = without
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> TreeWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.2):
            self.peak_mb = max(self.peak_mb, sum(map(_size_mb, self._tree())))

    def _tree(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(stat.parent.name))
        found, waiting = [], [os.getpid()]
        while waiting:
            pid = waiting.pop()
            if pid != self._without:
                found.append(pid)
                waiting += children.get(pid, [])
        return found


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
        help="how the job by hand is written; the fastest of several counts",
    )
    options = parser.parse_args()
    if options.rows < 1 or options.repeats < 1:
        parser.error("--rows and --repeats are at least 1")
    ways = options.way or ["cached"]

    with contest(options.rows, options.memory) as held:
        with TreeWatch(without=held.services) as watch:
            held.ours()
            _, wanted = held.ours()
        print(f"{wanted}, peak {watch.peak_mb:.0f} MiB", file=sys.stderr)
        for way in ways:
            _, found = held.by_hand(way)
            if found != wanted:
                raise SystemExit(f"The jobs did not do the same work: {found} by hand ({way}).")
        seconds: dict[str, list[float]] = {"ours": [], **{way: [] for way in ways}}
        for turn in range(1, options.repeats + 1):
            for name, its in seconds.items():
                its.append((held.ours() if name == "ours" else held.by_hand(name))[0])
                print(f"  {turn}/{options.repeats} {name}: {its[-1]:.2f} s", file=sys.stderr)
    medians = {name: statistics.median(its) for name, its in seconds.items()}
    by_hand = min(medians[way] for way in ways)
    print(f"medians: { {n: round(s, 2) for n, s in medians.items()} }", file=sys.stderr)
    ratio = round(medians["ours"] / by_hand, 2)
    print(json.dumps({"wall_ratio": ratio, "peak_mb": round(watch.peak_mb)}))


if __name__ == "__main__":
    main()
