"""A lakegate of one's own, for as long as a `with` block lasts: embedded AWS, Dagster instance,
and the real sensors, jobs and assets of some contracts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.collecting import keep_what_is_loaded
from dagster_project.definitions import build_definitions
from deploy.bootstrap import bootstrap
from deploy.local.embedded import EmbeddedAws
from resources.aws import clients
from service_core.contract.model import Contract, Engine, Processing
from service_core.naming import arrivals_sensor, curation_config, ingest_job
from service_core.settings import Settings


@dataclass(frozen=True, slots=True)
class Tick:
    """What one evaluation of a sensor asked for and said."""

    requests: tuple[dg.RunRequest, ...]
    said: str


class Session:
    """Ticks sensors and executes what they request, in this process.

    Args:
        contracts: The data sets.
        settings: Where everything is; already bootstrapped.
        instance: The Dagster instance that runs are recorded in.
        engine: What curates, whatever the contracts name; None leaves it to them.
    """

    def __init__(
        self,
        contracts: Sequence[Contract],
        settings: Settings,
        instance: dg.DagsterInstance,
        *,
        engine: Engine | None = None,
    ) -> None:
        self.contracts = tuple(contracts)
        self.settings = settings
        self.instance = instance
        self.engine = engine
        self.definitions = build_definitions(contracts, settings)
        self._cursors: dict[str, str | None] = {}

    def tick(self, dataset: str) -> Tick:
        """Evaluate a data set's arrivals sensor once, as the daemon does."""
        return self.tick_named(arrivals_sensor(dataset))

    def tick_named(self, name: str) -> Tick:
        """Evaluate any sensor once; its cursor is kept for the next time."""
        sensor = self.definitions.get_repository_def().get_sensor_def(name)
        there = self.definitions.resources or {}
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self._cursors.get(name),
            definitions=self.definitions,
            sensor_name=name,
            resources={key: there[key] for key in sensor.required_resource_keys},
        ) as context:
            data = sensor.evaluate_tick(context)
        self._cursors[name] = data.cursor
        return Tick(tuple(data.run_requests or ()), data.skip_message or "")

    def execute(self, dataset: str, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Execute a requested run to its end; a failed run is a result, not an exception."""
        job = request.job_name or ingest_job(dataset)
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            tags=dict(request.tags),
            run_config=self._run_config(dataset) if job == ingest_job(dataset) else {},
            raise_on_error=False,
        )

    def _run_config(self, dataset: str) -> dict[str, Any]:
        curated = any(
            c.dataset == dataset and c.processing is Processing.ETL for c in self.contracts
        )
        return curation_config(dataset, self.engine) if curated and self.engine else {}


@contextmanager
def embedded_session(
    contracts: Sequence[Contract], *, engine: Engine | None = None, durable: Path | None = None
) -> Iterator[Session]:
    """A session on an embedded AWS that ends with the block. Nothing has to run beforehand.

    Args:
        contracts: The data sets.
        engine: What curates, whatever the contracts name; None leaves it to them.
        durable: A folder to keep the embedded AWS's state in, on S3's own server; in memory where
            None.
    """
    with ExitStack() as stack:
        aws = stack.enter_context(EmbeddedAws(durable=durable))
        stack.enter_context(environment(aws.environment()))
        settings = Settings.from_environment(os.environ)
        bootstrap(settings, clients(settings))
        instance = stack.enter_context(private_instance())
        session = Session(contracts, settings, instance, engine=engine)
        keep_what_is_loaded()
        yield session


def private_instance() -> dg.DagsterInstance:
    """A Dagster instance in memory. One on disk spends, on a small batch, more time on SQLite's
    commits than the batch's own steps take."""
    return dg.DagsterInstance.ephemeral(settings={"telemetry": {"enabled": False}})


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the length of a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
