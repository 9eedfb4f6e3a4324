"""How many notifications a second become batches, by the clock and end to end: from the queue to
durable manifests, pending marks and receptions in the ledger, and the messages deleted.

What is measured is what the sensor's ticks do, one look at the queue after another, with the real
queue client, store, ledger and boto3, in one process, until the queue is empty. SQS, S3 and
DynamoDB are a stand-in on loopback (`_stand_in_aws.py`) that speaks their HTTP and does with
messages, manifests and items what they do, each request after the time that the service takes for
one within a region: 15 ms SQS, 30 ms S3, 6 ms DynamoDB. It stands for services that keep up: it has
no limits of its own on requests a second, and no other writer. It has one core of the machine's two
for itself; the embedded AWS, a Python process that does far more for each request, gives out at a
third of the rate, and says nothing about the sensor.

The bucket holds a million objects that the ledger knows; the messages are of others, among the
first in no order. The rate is the median of `--repeats`.

    python benchmarks/sqs_sensor.py
    python benchmarks/sqs_sensor.py --messages 2000 --repeats 1

Progress goes to stderr. The last line of stdout is one JSON object: {"results": [{"name", "value",
"unit", "bound", "ok"}]}.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from _measuring import ROOT, Cost, Figure, Meter, progress, tell
from _stand_in_aws import requests, stand_in

sys.path.insert(0, str(ROOT))

BOUND = 1_000
_OBJECTS = 1_000_000
#: Milliseconds before an answer.
_DELAYS = {"sqs": 15.0, "s3": 30.0, "dynamodb": 6.0}


@dataclass(frozen=True, slots=True)
class Heard:
    """What emptying the queue took.

    Attributes:
        new: Objects in manifests.
        left: Messages that were not deleted.
    """

    messages: int
    new: int
    batches: int
    looks: int
    left: int
    cost: Cost


def empty_the_queue(messages: int) -> Heard:
    """Look at a queue of so many messages until there are none."""
    from resources.aws import client
    from resources.ledger import DynamoLedger
    from resources.notifications import NotificationsResource
    from service_core.arrival import hear_notifications
    from service_core.contract import load_contract
    from service_core.s3_store import S3ObjectStore
    from service_core.settings import NotificationRoute, Settings

    contract = load_contract(ROOT / "contracts" / "orders.yaml")
    # Nobody ends the runs that are asked for.
    pace = replace(contract.pace, max_runs=10_000, max_files_per_second=1_000_000)
    contract = replace(contract, pace=pace)
    with stand_in(_OBJECTS, messages, "days", **_DELAYS) as endpoint:
        settings = Settings(
            endpoint_url=endpoint, name_prefix="bench", notifications=NotificationRoute.SQS
        ).in_a_hurry()
        store = S3ObjectStore(client(settings, "s3"), settings)
        ledger = DynamoLedger(client(settings, "dynamodb"), settings.ledger_table)
        queue = NotificationsResource.of(settings).queue()
        new = heard = batches = looks = 0
        since: datetime | None = None
        # A code server has its clients and has loaded its libraries.
        queue.depth(), ledger.pending_batches("nobody"), store.list_versions("nobody/")
        meter = Meter()
        while (depth := queue.depth()).ready:
            look = hear_notifications(
                [contract], store, ledger, queue, clock=lambda: datetime.now(UTC), since=since
            )
            since, looks = look.mark, looks + 1
            heard += look.messages
            new += look.figures[contract.dataset].new
            batches += len(look.batches)
        cost = meter.read()
        progress(f"{requests(endpoint)}")
    return Heard(heard, new, batches, looks, depth.in_hand + depth.postponed, cost)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "nobody")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "none")
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    found = []
    for turn in range(options.repeats):
        found.append(one := empty_the_queue(options.messages))
        progress(
            f"{turn + 1}/{options.repeats} {one.messages:,} messages, {one.new:,} objects in "
            f"{one.batches} batches by {one.looks} looks: {one.cost.wall:.1f} s, "
            f"{one.cost.cpu:.1f} s of CPU, {one.cost.services_cpu:.1f} s of the stand-in's"
        )
    unit = "messages/s"
    by_wall = statistics.median(one.messages / one.cost.wall for one in found)
    by_cpu = statistics.median(one.messages / one.cost.cpu for one in found)
    lost = max(options.messages - one.new + one.left for one in found)
    tell(
        [
            Figure("SQS sensor, into manifests", by_wall, unit, BOUND, at_least=True),
            Figure("SQS sensor, by its own CPU", by_cpu, unit),
            Figure("SQS sensor, messages not in manifests", lost, "messages", 0),
        ]
    )


if __name__ == "__main__":
    main()
