"""How many notifications a second become batches: from the queue to durable manifests, pending
marks and receptions in the ledger, and the messages deleted.

What is measured is a look at the queue as the sensor takes it, with the real queue client, store
and ledger. SQS, S3 and DynamoDB are the embedded AWS, which answers in one process of its own and
stands for services that scale: so two figures are given. `wall` is messages by seconds, in which
the embedded AWS has its share; `cpu` is messages by the seconds of CPU that this process took,
which is what one code server can do where the services keep up.

The files are landed in a bucket that sends notifications; then a look is taken at the queue.

    python benchmarks/sqs_sensor.py
    python benchmarks/sqs_sensor.py --messages 2000

Progress goes to stderr. The last line of stdout is one JSON object: {"results": [{"name", "value",
"unit", "bound", "ok"}]}.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

from _measuring import ROOT, Figure, tell

sys.path.insert(0, str(ROOT))

BOUND = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=5_000)
    options = parser.parse_args()

    from dagster_project.session import environment
    from deploy.bootstrap import bootstrap
    from deploy.local import EmbeddedAws
    from resources.aws import client, clients
    from resources.ledger import LedgerResource
    from resources.notifications import NotificationsResource
    from resources.object_store import ObjectStoreResource
    from service_core.arrival import Heard, Hearing, hear_notifications
    from service_core.contract import load_contract
    from service_core.layout import Zone
    from service_core.settings import Settings

    contract = load_contract(ROOT / "contracts" / "orders.yaml")
    contract = replace(
        contract, pace=replace(contract.pace, max_runs=10_000, max_files_per_second=100_000)
    )
    with EmbeddedAws() as aws, environment({**aws.environment(), "LAKEGATE_NOTIFICATIONS": "sqs"}):
        settings = Settings.from_environment(os.environ)
        bootstrap(settings, clients(settings))
        s3, bucket = client(settings, "s3"), settings.bucket(Zone.RAW)
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        store = ObjectStoreResource.of(settings).store()
        ledger = LedgerResource.of(settings).ledger()
        queue = NotificationsResource.of(settings).queue()

        since: datetime | None = None

        def hear() -> Heard:
            nonlocal since
            heard = hear_notifications(
                [contract],
                store,
                ledger,
                queue,
                clock=lambda: datetime.now(UTC),
                since=since,
                hearing=Hearing(seconds=600, wait_seconds=1),
            )
            since = heard.mark
            return heard

        def land(number: int) -> None:
            s3.put_object(Bucket=bucket, Key=f"orders/dt={day}/orders_{number:07d}.csv", Body=b"x")

        # A code server has its clients and has loaded its libraries.
        land(9_000_000)
        hear()
        print(f"Landing {options.messages:,} files ...", file=sys.stderr)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(land, range(options.messages)))
        print(f"{queue.depth()}", file=sys.stderr)
        began, cpu = time.perf_counter(), time.process_time()
        messages = new = batches = 0
        # As the sensor's ticks do, one after another.
        while queue.depth().ready:
            heard = hear()
            messages += heard.messages
            new += heard.figures[contract.dataset].new
            batches += len(heard.batches)
        seconds, spent = time.perf_counter() - began, time.process_time() - cpu
        left = queue.depth()
    print(
        f"{messages:,} messages, {new:,} objects in {batches} batches, {seconds:.1f} s, "
        f"{spent:.1f} s of CPU; {left}",
        file=sys.stderr,
    )
    by_wall, by_cpu = messages / seconds, messages / spent
    unit = "messages/s"
    tell(
        [
            Figure("SQS sensor, by its own CPU", by_cpu, unit, BOUND, at_least=True),
            Figure("SQS sensor, on the embedded AWS", by_wall, unit),
            Figure("SQS sensor, objects not in manifests", options.messages - new, "objects", 0),
        ]
    )


if __name__ == "__main__":
    main()
