"""Engines: whichever curates a batch, what it leaves is the same, and its verdict is read back.

A batch that has a verdict is not handed to an engine again. An engine outside of this process is
asked by a request that is durable before anything is started, under an identity that every retry
and every later run derives alike, so that work in flight is found again and never doubled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster import AssetCheckResult, AssetExecutionContext, Config, Failure, MetadataValue
from pydantic import Field

from assets.checks import table
from assets.working import Work
from resources.engines import EnginesResource
from resources.remote_run import RemoteRun, RemoteRunFailed, RemoteWork
from resources.spark import SparkResource, SparkUnavailableError
from service_core.contract.model import Contract, Engine
from service_core.curation.conclusion import record_in_ledger, standing_verdict, still_holds
from service_core.curation.request import CurationRequest, RequestError, write_request
from service_core.engine_choice import EngineChoice, Prices, choose_engine
from service_core.layout import Zone, manifest_key
from service_core.ports import Catalog, Ledger
from service_core.validation.record import ValidationRecord
from service_core.verdict import Verdict


class CurationConfig(Config):
    """What a run may say about its curation, in the UI's launchpad for instance."""

    engine: str = Field(
        default="",
        description="in_process, spark, glue or step_functions, whatever the contract names; auto "
        "for the batch's size to decide; empty for the contract.",
    )

    def named(self) -> Engine | None:
        """The engine that the run names.

        Raises:
            Failure: there is no such engine.
        """
        if not self.engine:
            return None
        try:
            return Engine(self.engine)
        except ValueError:
            raise Failure(
                f"The run's configuration names the engine {self.engine!r}; expected one of "
                f"{', '.join(Engine)}.",
                allow_retries=False,
            ) from None


@dataclass(frozen=True, slots=True)
class Curated:
    """A batch that an engine has judged.

    Attributes:
        verdict: As it lies in dq-results.
        metadata: What to show of the engine's work.
    """

    verdict: Verdict
    metadata: Mapping[str, Any] = field(default_factory=dict)


class EngineFailed(Exception):
    """An engine outside of this process did not judge the batch.

    Attributes:
        checks: What it had reported by then.
        failure: What the step ends with.
    """

    def __init__(self, failed: RemoteRunFailed) -> None:
        super().__init__(failed.cause)
        self.checks: tuple[AssetCheckResult, ...] = failed.checks
        self.failure = Failure(
            failed.cause, metadata=dict(failed.metadata), allow_retries=failed.retryable
        )


def curate(
    context: AssetExecutionContext,
    contract: Contract,
    work: Work,
    record: ValidationRecord,
    ledger: Ledger,
    catalog: Catalog,
    engines: EnginesResource,
    *,
    override: Engine | None = None,
    force: bool = False,
) -> Curated:
    """Have a batch judged by the engine that is chosen for it.

    Args:
        override: The engine that the run names.
        force: Judge again, against what is published now.

    Raises:
        EngineFailed: an engine outside of this process did not judge it.
    """
    accepted = [f.source_object for f in record.files if f.accepted]
    settings = engines.settings()
    choice = choose_engine(
        contract,
        bytes=sum(o.size for o in accepted),
        files=len(accepted),
        override=override,
        default=settings.engine,
        prices=Prices.of(settings),
    )
    earlier = standing_verdict(contract, work.manifest, work.store)
    if earlier is not None and not force and still_holds(earlier, record, work.store):
        record_in_ledger(earlier, record, work.store, ledger, work.run)
        return Curated(earlier, {"judged_before": True})
    context.log.info(f"Engine {choice.engine}: {choice.reason}")
    if choice.engine is Engine.IN_PROCESS or not record.parts:
        # Loaded with the first batch, and not with the code location.
        from service_core.curation.batch import curate_batch

        verdict = curate_batch(
            contract, work.manifest, record, work.store, ledger, catalog, work.run, force=force
        )
        return Curated(verdict, _shown(choice))
    judgement = _Judgement(contract, work, choice.engine, len(accepted), earlier, force)
    try:
        metadata = judgement.ask(context, catalog, engines)
    except RemoteRunFailed as failed:
        raise EngineFailed(failed) from failed
    verdict = judgement.verdict()
    record_in_ledger(verdict, record, work.store, ledger, work.run)
    return Curated(verdict, {**_shown(choice), **metadata})


def _shown(choice: EngineChoice) -> dict[str, Any]:
    """Why this engine, and what either would take."""
    estimates = {"in_process": choice.in_process, "glue": choice.glue}
    return {
        "engine_chosen_because": choice.reason,
        "estimates": table(
            [
                {
                    "engine": name,
                    "seconds": round(one.seconds, 1),
                    "hours": f"{one.hours:.4f} {'DPU' if name == 'glue' else 'vCPU'}",
                    "cost": round(one.cost, 6),
                }
                for name, one in estimates.items()
            ]
        ),
    }


@dataclass(frozen=True, slots=True)
class _Judgement:
    """One judgement of a batch by an engine that is not the kernel in this step.

    Attributes:
        accepted: How many source objects validation accepted.
        earlier: The verdict that it is to take the place of.
    """

    contract: Contract
    work: Work
    engine: Engine
    accepted: int
    earlier: Verdict | None
    force: bool

    def ask(
        self, context: AssetExecutionContext, catalog: Catalog, engines: EnginesResource
    ) -> Mapping[str, Any]:
        """Have it made; returns what to show of it.

        Raises:
            RemoteRunFailed: it was not made.
        """
        work, manifest = self.work, self.work.manifest
        place = (manifest.dataset, manifest.partition, manifest.batch_id)
        request = CurationRequest.of(
            self.contract,
            manifest,
            work.store,
            work.run,
            manifest_uri=work.store.uri(Zone.MANIFESTS, manifest_key(*place)),
            published=catalog.published_files(self.contract, manifest.partition),
            engine=self.engine,
            force=self.force,
        )
        request_uri = write_request(work.store, request)
        if self.engine is Engine.SPARK:
            return self._on_spark(request, engines.spark)
        asked = RemoteWork(*place, judgement=self._name(), request_uri=request_uri)
        if self.engine is Engine.GLUE:
            return _told(engines.glue.run(context, asked))
        return _told(engines.step_functions.run(context, asked, accepted=self.accepted))

    def _on_spark(self, request: CurationRequest, spark: SparkResource) -> Mapping[str, Any]:
        from service_core.spark import curate_on_spark
        from service_core.spark.crew import TaskFailedError

        try:
            session = spark.session()
            curate_on_spark(session, request, self.work.store, self.work.run)
        except (SparkUnavailableError, RequestError) as refused:
            raise RemoteRunFailed(str(refused), retryable=False) from refused
        except TaskFailedError as failed:
            raise RemoteRunFailed(str(failed)) from failed
        of = session.sparkContext
        return {"spark_master": of.master, "spark_application": of.applicationId}

    def _name(self) -> str:
        """Alike for all who ask for this judgement; another for the next one."""
        if self.earlier is None:
            return "first"
        return f"after-{self.earlier.judged_at:%Y%m%dT%H%M%S%f}"

    def verdict(self) -> Verdict:
        """What it came to.

        Raises:
            Failure: nothing that can be read.
        """
        manifest = self.work.manifest
        verdict = standing_verdict(self.contract, manifest, self.work.store)
        if verdict is None:
            raise Failure(
                f"The engine {self.engine} reported success for batch {manifest.batch_id} of "
                f"{manifest.dataset}, and left no verdict that can be read. Look at its log; its "
                "version of service_core may be another than the orchestrator's."
            )
        return verdict


def _told(run: RemoteRun) -> Mapping[str, Any]:
    return {**run.metadata, "run_url": MetadataValue.url(run.url), "engine_seconds": run.seconds}
