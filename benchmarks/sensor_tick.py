"""What a tick of an arrivals sensor costs in a bucket of a million objects, of which 100 are new.

One tick is what the sensor does: look at what is on its way, list, ask the ledger, cut batches,
write manifests, mark and receive. The store, the ledger and their boto3 clients are the real ones;
S3 and DynamoDB are a stand-in on loopback with computed keys (`_stand_in_aws.py`), because filling
a real server takes longer than anybody waits. It counts requests where they arrive.

| layout | where the million lies | where the 100 lie |
|---|---|---|
| days | over a year of daily partitions | in today's, under random names |
| one_day_by_time | in today's, named by time | behind the others |
| one_day_random | in today's, named by time | in random places between them |
| flood | over a year of daily partitions | 100,000 of them, in today's, under random names |

`missed` is what is still unknown after one tick; of `one_day_random`, which listing alone cannot
find in one, it is after as many ticks as one pass over the partition takes, `ticks` says how many,
and a tenth of the objects has to do. A flood is taken in as many ticks as their bound of new
objects makes of it, while its runs end as fast as they are asked for. Requests and seconds are
those of the dearest tick. The layouts of one day begin with a cursor as a day's ticks have left it:
the partition has been listed to its end before. Memory is what the process holds at most, Python
and libraries included.

    python benchmarks/sensor_tick.py
    python benchmarks/sensor_tick.py --objects 100000

Progress goes to stderr. The last line of stdout is one JSON object: {"results": [{"name", "value",
"unit", "bound", "ok"}]}.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from _measuring import ROOT, Figure, in_a_process, progress, tell
from _stand_in_aws import requests, stand_in

sys.path.insert(0, str(ROOT))

_S3 = ("ListObjectVersions", "PutObject", "GetObject")


@dataclass(frozen=True, slots=True)
class Cost:
    """What the ticks of one layout cost; requests and seconds of the dearest of them."""

    s3_requests: int
    dynamodb_requests: int
    seconds: float
    cpu_seconds: float
    new: int
    ticks: int
    peak_mb: float


def peak_mb() -> float:
    """The most that this process has held. `ru_maxrss` begins with what its parent held."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tick(layout: str, objects: int, new: int, most: int) -> Cost:
    """Tick until everything new is taken, at most so many times."""
    from resources.aws import client
    from resources.ledger import DynamoLedger
    from service_core.arrival import ArrivalCursor, look_for_arrivals
    from service_core.arrival.listing import Walk
    from service_core.contract import load_contract
    from service_core.s3_store import S3ObjectStore
    from service_core.settings import Settings

    contract = load_contract(ROOT / "contracts" / "orders.yaml")
    if layout == "flood":
        # What is measured is not how long a flood is held back.
        contract = replace(contract, pace=replace(contract.pace, max_files_per_second=1_000_000))
    with stand_in(objects, new, "days" if layout == "flood" else layout) as endpoint:
        settings = Settings(endpoint_url=endpoint, name_prefix="bench")
        store = S3ObjectStore(client(settings, "s3"), settings)
        ledger = DynamoLedger(client(settings, "dynamodb"), settings.ledger_table)
        cursor = ArrivalCursor(ticked_at=datetime.now(UTC))
        if layout.startswith("one_day"):
            today = f"orders/dt={datetime.now(UTC):%Y-%m-%d}/"
            last = f"{today}orders_{objects - 1:08d}.csv"
            middle = f"{today}orders_{objects // 2:08d}.csv"
            cursor = cursor.model_copy(
                update={"tails": {today: last}, "open": Walk(prefix=today, resume=(middle, ""))}
            )
        taken = ticks = 0
        dearest_s3 = dearest_dynamodb = 0
        longest = cpu = 0.0
        while taken < new and ticks < most:
            before, began = requests(endpoint), time.perf_counter()
            cpu_began = time.process_time()
            found = look_for_arrivals(
                contract, store, ledger, cursor, clock=lambda: datetime.now(UTC)
            )
            longest = max(longest, time.perf_counter() - began)
            cpu = max(cpu, time.process_time() - cpu_began)
            spent = {k: n - before.get(k, 0) for k, n in requests(endpoint).items()}
            dearest_s3 = max(dearest_s3, sum(spent.get(k, 0) for k in _S3))
            dearest_dynamodb = max(
                dearest_dynamodb, sum(n for k, n in spent.items() if k not in _S3)
            )
            cursor, taken, ticks = found.cursor, taken + found.new, ticks + 1
            for batch in found.batches:
                ledger.close_batch(contract.dataset, batch.batch_id)
    return Cost(dearest_s3, dearest_dynamodb, longest, cpu, taken, ticks, peak_mb())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=100)
    parser.add_argument("--layout", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "nobody")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "none")
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    objects, new = options.objects, options.new
    if options.layout:
        # A pass over one partition, at the pages that a tick gives it at least, and a few more.
        most = {"one_day_random": objects // 9_000 + 3, "flood": new // 10_000 + 3}.get(
            options.layout, 1
        )
        print(json.dumps(asdict(tick(options.layout, objects, new, most))))
        return
    figures: list[Figure] = []
    for layout in ("days", "one_day_by_time", "one_day_random", "flood"):
        objects = options.objects // 10 if layout == "one_day_random" else options.objects
        new = options.new * 1_000 if layout == "flood" else options.new
        # Each in a process of its own, whose memory is its own.
        asked = ("--layout", layout, "--objects", str(objects), "--new", str(new))
        cost = Cost(**in_a_process(__file__, *asked))
        progress(f"{layout}: {cost}")
        missed, most = new - cost.new, new / 1000 + 20
        name = f"sensor tick, {objects:,} objects ({layout}), {new:,} new"
        # What is promised of a tick's length and size is promised of a hundred new objects.
        few = layout != "flood"
        figures += [
            Figure(f"{name}: S3 requests", cost.s3_requests, "requests", most),
            Figure(f"{name}: seconds", cost.seconds, "s", 5 if few else 60),
            Figure(f"{name}: CPU", cost.cpu_seconds, "s"),
            Figure(f"{name}: memory", cost.peak_mb, "MB", 200 if few else None),
            Figure(f"{name}: missed", missed, "objects", 0),
            Figure(f"{name}: ticks", cost.ticks, "ticks"),
        ]
    tell(figures)


if __name__ == "__main__":
    main()
