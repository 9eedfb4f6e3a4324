"""The ledger, with 10,000 source objects moved through all states of a file that is published.

Batches of a thousand are received, validated, curated and published, as a run does it, against the
embedded AWS, which is a process of its own. Requests are counted where boto3 sends them.

    python benchmarks/ledger_states.py
    python benchmarks/ledger_states.py --objects 1000

The last line of stdout is one JSON object with the results.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime

from _measuring import ROOT, Figure, progress, tell

sys.path.insert(0, str(ROOT))

#: What one request may be asked for: a transaction holds so many objects at two writes each.
_OBJECTS_A_REQUEST = 25
_BATCH = 1_000
_DAY = "2026-11-21"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=10_000)
    options = parser.parse_args()

    from dagster_project.session import environment
    from deploy.bootstrap import bootstrap
    from deploy.local import EmbeddedAws
    from resources.aws import clients
    from resources.ledger import DynamoLedger
    from service_core.ledger import Move, State
    from service_core.manifest import Manifest, Origin
    from service_core.settings import Settings
    from service_core.source_object import SourceObject

    now = datetime.now(UTC)

    def manifest(first: int, count: int) -> Manifest:
        return Manifest(
            dataset="orders",
            partition=_DAY,
            contract_version="1.0.0",
            contract_hash="0123456789abcdef",
            origin=Origin.SENSOR,
            created_at=now,
            objects=tuple(
                SourceObject(
                    bucket="raw",
                    key=f"orders/dt={_DAY}/orders_{number}.csv",
                    version_id=f"v{number}",
                    etag="e",
                    size=1_000,
                    last_modified=now,
                    partition=_DAY,
                )
                for number in range(first, first + count)
            ),
        )

    with EmbeddedAws() as aws, environment(aws.environment()):
        settings = Settings.from_environment(os.environ)
        of = clients(settings)
        bootstrap(settings, of)
        client = of("dynamodb")
        requests = 0

        def count(**_: object) -> None:
            nonlocal requests
            requests += 1

        client.meta.events.register("before-send.dynamodb", count)
        ledger = DynamoLedger(client, settings.ledger_table)
        states = (State.VALIDATED, State.CURATED, State.PUBLISHED)
        started = time.perf_counter()
        for first in range(0, options.objects, _BATCH):
            batch = manifest(first, min(_BATCH, options.objects - first))
            ledger.receive(batch, run_id="run", at=now)
            for state in states:
                moves = [Move(object_id=o.id, to=state, rows_read=200) for o in batch.objects]
                ledger.move(batch.batch_id, moves, run_id="run", at=now)
            progress(f"{first + len(batch.objects):,} objects, {requests:,} requests")
        seconds = time.perf_counter() - started
    allowed = options.objects / _OBJECTS_A_REQUEST * (1 + len(states)) + 100
    tell(
        [
            Figure("ledger: all states", seconds, "s", 60 * options.objects / 10_000),
            Figure("ledger: requests", requests, "requests", allowed),
        ]
    )


if __name__ == "__main__":
    main()
