"""The isolation sensor: one for the platform. It notices batches whose last run died, and asks for
the runs of their halves, or for the run that gives a single file up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from dagster import (
    DagsterInstance,
    DagsterRun,
    DefaultSensorStatus,
    JobDefinition,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)
from dagster._core.storage.tags import PARTITION_NAME_TAG, WILL_RETRY_TAG
from pydantic import AwareDatetime

from resources.catalog import CatalogResource
from resources.ledger import LedgerResource
from resources.object_store import ObjectStoreResource
from resources.outages import in_a_sentence
from sensors.batch_runs import batch_request
from sensors.isolation_runs import (
    LEFT,
    failed_runs,
    first_asked,
    health,
    is_marked,
    mark,
    part_runs,
    utc,
)
from sensors.run_deaths import death_of, is_tried_again, last_death
from sensors.tick import INTERVAL_SECONDS, answer
from service_core.contract.model import Contract
from service_core.isolation.decision import Death, Leave, Wait
from service_core.isolation.isolate import GIVEN_UP, SPLIT, Answer, DeadRun, Part, isolate
from service_core.naming import (
    BATCH_TAG,
    DEAD_RUN_TAG,
    ISOLATION_SENSOR,
    MANIFEST_TAG,
    MAX_RETRIES_TAG,
    SPLIT_OF_TAG,
    SPLIT_ROOT_TAG,
    ingest_job,
)
from service_core.ports import Ledger, ObjectStore, PendingBatch, Upkeep
from service_core.telemetry import logger
from service_core.tick import Cursor

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

#: Failed runs looked at in one tick, and wall time that a tick may take of Dagster's 60 s.
_RUNS = 50
_SECONDS = 30.0
#: Where there is no cursor, what failed before is somebody else's memory.
_FIRST_LOOK = timedelta(days=7)
#: Runs are looked at again for so long, because their storage may show them out of order.
_OVERLAP = timedelta(minutes=1)
#: Deaths that wait for another batch to be processed; more of them are no batch's fault.
_MOST_WAITING = 200
#: Deaths that a tick tells of one by one.
_SAID = 20
#: A split makes two parts at most.
_PARTS = 2


class IsolationCursor(Cursor):
    """What one tick leaves for the next.

    Attributes:
        since: When the last run that was looked at had changed; None before the first look.
        waiting: Runs that are to be looked at again.
    """

    since: AwareDatetime | None = None
    waiting: tuple[str, ...] = ()


def isolation_sensor(
    contracts: Sequence[Contract],
    jobs: "Sequence[JobDefinition | UnresolvedAssetJobDefinition]",
    *,
    status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
    interval_seconds: int = INTERVAL_SECONDS,
) -> SensorDefinition:
    """The sensor that answers the deaths of the data sets' ingest runs.

    Args:
        jobs: The ingest jobs.
    """
    by_job = {ingest_job(contract.dataset): contract for contract in contracts}

    @sensor(
        name=ISOLATION_SENSOR,
        jobs=jobs,
        minimum_interval_seconds=interval_seconds,
        default_status=status,
        description="Splits batches that kill or hang their workers, until the file at fault is "
        "alone and goes to quarantine.",
    )
    def isolation(
        context: SensorEvaluationContext,
        object_store: ObjectStoreResource,
        ledger: LedgerResource,
        catalog: CatalogResource,
    ) -> SensorResult:
        with in_a_sentence():
            look = _Look(
                context.instance,
                by_job,
                object_store.in_a_hurry().store(),
                ledger.in_a_hurry().ledger(),
                catalog.in_a_hurry().catalog(),
                datetime.now(UTC),
            )
            cursor = look.at(IsolationCursor.parse(context.cursor))
        return answer(context, look.sentence, cursor, requests=look.requests)

    return isolation


@dataclass(slots=True)
class _Look:
    """One look at the runs that have failed."""

    instance: DagsterInstance
    by_job: Mapping[str, Contract]
    store: ObjectStore
    ledger: Ledger
    tables: Upkeep
    now: datetime
    requests: list[RunRequest] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def at(self, cursor: IsolationCursor) -> IsolationCursor:
        """Answer what can be answered now; returns where the next look begins."""
        waiting = list(cursor.waiting)
        begin = since = cursor.since or self.now - _FIRST_LOOK
        failed = partial(failed_runs, self.instance, self._datasets)
        known = failed(run_ids=waiting, limit=_MOST_WAITING) if waiting else []
        fresh = failed(since=begin, limit=_RUNS)
        again: list[str] = []
        seen: set[str] = set()
        for number, record in enumerate([*known, *fresh]):
            run_id = record.dagster_run.run_id
            if datetime.now(UTC) > self.now + timedelta(seconds=_SECONDS):
                again += [r.dagster_run.run_id for r in known[number:]]
                break
            if run_id not in seen and self._waits(record.dagster_run):
                again.append(run_id)
            seen.add(run_id)
            if number >= len(known):
                since = max(since, utc(record.update_timestamp))
        if len(fresh) < _RUNS:
            since = max(begin, since - _OVERLAP)
        return IsolationCursor(since=since, waiting=tuple(again[-_MOST_WAITING:]))

    @property
    def sentence(self) -> str:
        """What the look came to, for the sensor's page."""
        more = len(self.said) - _SAID
        return (
            " ".join([*self.said[:_SAID], *([f"And {more} more."] if more > 0 else [])])
            or "No run has died."
        )

    @property
    def _datasets(self) -> list[str]:
        return [contract.dataset for contract in self.by_job.values()]

    def _waits(self, run: DagsterRun) -> bool:
        """Answer one run's death, if it died; whether it has to be looked at once more."""
        contract, partition = self.by_job.get(run.job_name), run.tags.get(PARTITION_NAME_TAG)
        if contract is None or partition is None or is_marked(run, LEFT):
            return False
        launched = {r.tags[BATCH_TAG] for r in part_runs(self.instance, run)}
        if len(launched) >= (1 if is_marked(run, GIVEN_UP) else _PARTS):
            return False
        death = death_of(self.instance, run)
        if death is None:
            return False
        if is_tried_again(self.instance, run):
            # Dagster decides a moment after the run has failed.
            return WILL_RETRY_TAG not in run.tags
        death = last_death(self.instance, run, death)
        if death is None:
            return False
        since = first_asked(self.instance, run, self.now)
        outcome = isolate(
            DeadRun(
                death=death,
                dataset=contract.dataset,
                partition=partition,
                root_run_id=run.root_run_id or run.run_id,
                manifest_uri=run.tags.get(MANIFEST_TAG),
            ),
            contract,
            self.store,
            self.ledger,
            self.tables,
            launched=launched,
            health=lambda: health(self.instance, self._datasets, since, run),
            at=self.now,
        )
        if isinstance(outcome, Answer) and not outcome.parts:
            return False
        self._say(run, contract, death, outcome)
        if isinstance(outcome, Answer):
            self.requests += [_request(run, outcome, part) for part in outcome.parts]
        return isinstance(outcome, Wait)

    def _say(
        self, run: DagsterRun, contract: Contract, death: Death, outcome: Answer | Wait | Leave
    ) -> None:
        """Tell it in the tick, in the log and, unless it waits, at the run itself."""
        said = f"Run {run.run_id} of {contract.dataset}: its batch {death.how.did}; "
        match outcome:
            case Answer(kind=kind, parts=parts) if kind == SPLIT:
                said += "it is processed as " + " and ".join(
                    f"{part.batch_id} ({part.objects} files)" for part in parts
                )
            case Answer():
                said += "its one file goes to quarantine"
            case Wait(because=because):
                said += f"nothing is done yet: {because}"
            case Leave(because=because):
                said += f"nothing is done: {because}"
        said += "."
        self.said.append(said)
        log = logger().error if isinstance(outcome, Leave) else logger().info
        log("isolation", dataset=contract.dataset, source=None, stage="isolation",
            run_id=run.run_id, batch_id=run.tags.get(BATCH_TAG), said=said)  # fmt: skip
        if isinstance(outcome, Wait):
            return
        self.instance.report_engine_event(said, run)
        mark(self.instance, run, outcome.kind if isinstance(outcome, Answer) else LEFT)


def _request(run: DagsterRun, split: Answer, part: Part) -> RunRequest:
    """The run of a part. A retry of a part of many files would find out nothing that its halves
    do not; a file alone gets all of them before it is held to be at fault."""
    batch = PendingBatch(
        dataset=split.dataset,
        partition=part.partition,
        batch_id=part.batch_id,
        manifest_uri=part.manifest_uri,
        requested_at=split.at,
        replay_id=part.replay_id,
    )
    return batch_request(
        batch,
        key=f"{part.batch_id}/{run.run_id}",
        run_config=run.run_config,
        asset_selection=sorted(run.asset_selection) if run.asset_selection else None,
        tags={
            DEAD_RUN_TAG: run.run_id,
            SPLIT_OF_TAG: split.batch_id,
            SPLIT_ROOT_TAG: split.root,
            **({MAX_RETRIES_TAG: "0"} if part.objects > 1 else {}),
        },
    )
