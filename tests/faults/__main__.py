"""`python -m tests.faults --seed 7 --rate 0.1`: the whole path while AWS fails by a seeded plan.

The last line is a JSON object: seeds, calls, faults by kind, and the seeds at which the oracle
found anything; the exit code is 1 where there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import structlog

from dagster_project.session import Session, environment, private_instance
from deploy.bootstrap import bootstrap
from deploy.local import EmbeddedAws
from service_core.contract import load_contract
from service_core.settings import Settings
from tests.faults.house import House, direct, quick_waits, story
from tests.faults.plan import Kind, Plan
from tests.faults.proxy import FaultProxy

_ORDERS = Path(__file__).resolve().parents[2] / "contracts" / "orders.yaml"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many of them, one after another")
    parser.add_argument("--rate", type=float, default=0.1, help="the share of calls that fail")
    parser.add_argument("--attempts", type=int, default=3, help="the clients' tries of a call")
    parser.add_argument("--services", help="only these, such as s3,glue")
    parser.add_argument("--kinds", help=f"only these, of: {', '.join(Kind)}")
    given = parser.parse_args()
    services = frozenset(given.services.split(",")) if given.services else None
    kinds = tuple(map(Kind, given.kinds.split(","))) if given.kinds else None
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    injected: Counter[str] = Counter()
    calls, bad, started = 0, [], time.monotonic()
    with EmbeddedAws() as aws, FaultProxy(aws.endpoint) as proxy, quick_waits():
        for seed in range(given.seed, given.seed + given.seeds):
            plan = Plan(seed, given.rate, services=services, kinds=kinds)
            with _house(aws, proxy, given.attempts, f"seed{seed}") as house:
                began = time.monotonic()
                try:
                    with proxy.failing(plan):
                        story(house)
                    verdict = house.problems()
                except Exception as error:  # noqa: BLE001 - the seed is what matters then
                    verdict = f"{type(error).__name__}: {error}"
                retried = sum(house.failures.values())
            calls += sum(plan.calls.values())
            for (_, kind), count in plan.injected.items():
                injected[kind] += count
            if verdict:
                bad.append(seed)
            print(
                f"{plan.said()}; {retried} ticks and steps tried again; "
                f"{time.monotonic() - began:.0f} s; {verdict or 'nothing lost, nothing doubled'}",
                file=sys.stderr,
                flush=True,
            )
    print(
        json.dumps(
            {
                "seeds": given.seeds,
                "calls": calls,
                "faults": sum(injected.values()),
                "by_kind": dict(sorted(injected.items())),
                "bad_seeds": bad,
                "seconds": round(time.monotonic() - started),
            }
        )
    )
    return 1 if bad else 0


@contextlib.contextmanager
def _house(aws: EmbeddedAws, proxy: FaultProxy, attempts: int, prefix: str) -> Iterator[House]:
    with tempfile.TemporaryDirectory(prefix="lakegate-faults-") as scratch:
        variables = {
            **aws.environment(),
            "AWS_ENDPOINT_URL": proxy.endpoint,
            "LAKEGATE_NAME_PREFIX": prefix,
            "LAKEGATE_SCRATCH": scratch,
            "LAKEGATE_AWS_ATTEMPTS": str(attempts),
            "LAKEGATE_AWS_READ_SECONDS": "2",
        }
        with environment(variables), private_instance() as instance:
            settings = Settings.from_environment(os.environ)
            clients = direct(aws.endpoint)
            bootstrap(settings, clients)
            orders = load_contract(_ORDERS)
            orders = replace(orders, landing=replace(orders.landing, max_batch_files=2))
            yield House(Session([orders], settings, instance), orders, proxy, clients)


if __name__ == "__main__":
    sys.exit(main())
