"""The isolation sensor: one for the platform. It notices batches whose last run died, and asks for
the runs of their halves, or for the run that gives a single file up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    JobDefinition,
    RunRecord,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, PARTITION_NAME_TAG, WILL_RETRY_TAG
from pydantic import AwareDatetime, BaseModel, ConfigDict

from resources.catalog import CatalogResource
from resources.ledger import LedgerResource
from resources.object_store import ObjectStoreResource
from sensors.run_deaths import death_of, is_tried_again, last_death
from service_core.contract.model import Contract
from service_core.isolation.decision import Death, Health, Leave, Wait
from service_core.isolation.isolate import GIVEN_UP, SPLIT, Answer, DeadRun, Part, isolate
from service_core.naming import (
    BATCH_TAG,
    DATASET_TAG,
    DEAD_RUN_TAG,
    ISOLATION_SENSOR,
    ISOLATION_TAG,
    MANIFEST_TAG,
    MAX_RETRIES_TAG,
    SPLIT_OF_TAG,
    SPLIT_ROOT_TAG,
    ingest_job,
    run_tags,
)
from service_core.ports import Ledger, ObjectStore, PendingBatch, Upkeep
from service_core.telemetry import logger

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

INTERVAL_SECONDS = 30
#: Failed runs looked at in one tick, and wall time that a tick may take of Dagster's 60 s.
_RUNS = 50
_SECONDS = 30.0
#: Where there is no cursor, what failed before is somebody else's memory.
_FIRST_LOOK = timedelta(days=7)
#: Runs are looked at again for so long, because their storage may show them out of order.
_OVERLAP = timedelta(minutes=1)
#: Deaths that wait for another batch to be processed; more of them are no batch's fault.
_MOST_WAITING = 200
_LEFT = "left"
#: For so long after a death others may count on its being answered; the sensor may be off.
_PATIENCE = timedelta(hours=1)
#: Deaths that a tick tells of one by one.
_SAID = 20
#: A split makes two parts at most.
_PARTS = 2


class IsolationCursor(BaseModel):
    """What one tick leaves for the next.

    Attributes:
        since: When the last run that was looked at had changed.
        waiting: Runs that are to be looked at again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: AwareDatetime
    waiting: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str | None, now: datetime) -> "IsolationCursor":
        """The cursor in `text`, or a fresh one: a lost cursor costs a look at older runs."""
        if text:
            try:
                return cls.model_validate_json(text)
            except ValueError:
                pass
        return cls(since=now - _FIRST_LOOK)


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
        look = _Look(
            context.instance,
            by_job,
            object_store.store(),
            ledger.ledger(),
            catalog.catalog(),
            datetime.now(UTC),
        )
        cursor = look.at(IsolationCursor.parse(context.cursor, look.now))
        said = look.sentence
        context.log.info(said)
        return SensorResult(
            run_requests=look.requests,
            skip_reason=None if look.requests else SkipReason(said),
            cursor=cursor.model_dump_json(),
        )

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
        known = self._failed(RunsFilter(run_ids=waiting), _MOST_WAITING) if waiting else []
        fresh = self._failed(RunsFilter(updated_after=cursor.since), _RUNS)
        again: list[str] = []
        since = cursor.since
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
                since = max(since, _utc(record.update_timestamp))
        if len(fresh) < _RUNS:
            since = max(cursor.since, since - _OVERLAP)
        return IsolationCursor(since=since, waiting=tuple(again[-_MOST_WAITING:]))

    def _failed(self, which: RunsFilter, limit: int) -> list[RunRecord]:
        """Failed runs of ingest jobs, in the order in which they changed last."""
        if not self._datasets:
            return []
        filters = RunsFilter(
            run_ids=which.run_ids,
            updated_after=which.updated_after,
            statuses=[DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED],
            tags={DATASET_TAG: self._datasets},
        )
        records = self.instance.get_run_records(
            filters, limit=limit, order_by="update_timestamp", ascending=True
        )
        return list(records)

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
        if contract is None or partition is None or is_marked(run, _LEFT):
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
        since = self._first_asked(run)
        answer = isolate(
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
            health=lambda: self._health(since, run),
            at=self.now,
        )
        if isinstance(answer, Answer) and not answer.parts:
            return False
        self._say(run, contract, death, answer)
        if isinstance(answer, Answer):
            self.requests += [_request(run, answer, part) for part in answer.parts]
        return isinstance(answer, Wait)

    def _first_asked(self, run: DagsterRun) -> datetime:
        """When a batch was first asked for: with the end of the run that it is an answer to, or
        with its own first try."""
        before = run.tags.get(DEAD_RUN_TAG)
        dead = self.instance.get_run_record_by_id(before) if before else None
        if dead is not None and dead.end_time is not None:
            return datetime.fromtimestamp(dead.end_time, UTC)
        first = self.instance.get_run_record_by_id(run.root_run_id or run.run_id)
        return _utc(first.create_timestamp) if first else self.now

    def _health(self, since: datetime, run: DagsterRun) -> Health:
        """Whether batches have been processed to their end since, and before a run had died."""
        records = self.instance.get_run_records(
            RunsFilter(
                statuses=[DagsterRunStatus.SUCCESS],
                updated_after=since,
                tags={DATASET_TAG: self._datasets},
            ),
            limit=_RUNS,
        )
        ended = [r.end_time for r in records if r.end_time and r.end_time > since.timestamp()]
        if not ended:
            return Health.UNKNOWN
        dead = self.instance.get_run_record_by_id(run.run_id)
        died = dead.end_time if dead and dead.end_time else since.timestamp()
        return Health.WELL if min(ended) < died else Health.MENDED

    def _say(
        self, run: DagsterRun, contract: Contract, death: Death, answer: Answer | Wait | Leave
    ) -> None:
        """Tell it in the tick, in the log and, unless it waits, at the run itself."""
        said = f"Run {run.run_id} of {contract.dataset}: its batch {death.how.did}; "
        match answer:
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
        log = logger().error if isinstance(answer, Leave) else logger().info
        log("isolation", dataset=contract.dataset, source=None, stage="isolation",
            run_id=run.run_id, batch_id=run.tags.get(BATCH_TAG), said=said)  # fmt: skip
        if isinstance(answer, Wait):
            return
        made = answer.kind if isinstance(answer, Answer) else _LEFT
        self.instance.report_engine_event(said, run)
        self.instance.add_run_tags(run.run_id, {ISOLATION_TAG: _mark(run, made)})


def is_being_isolated(
    instance: DagsterInstance, record: RunRecord, tags: Mapping[str, str]
) -> bool:
    """Whether a failed run has died, and its batch, or a part of that, has yet to come to an end.

    Args:
        tags: Those that all runs of its parts have, beside the sensor's own.
    """
    run = record.dagster_run
    parts = part_runs(instance, run)
    if not parts:
        return _is_to_be_answered(instance, record)
    of_all = {**tags, SPLIT_ROOT_TAG: parts[0].tags[SPLIT_ROOT_TAG]}
    of_all.pop(BATCH_TAG, None)
    return any(
        not part.dagster_run.is_finished or _is_to_be_answered(instance, part)
        for part in instance.get_run_records(RunsFilter(tags=of_all))
    )


def _is_to_be_answered(instance: DagsterInstance, record: RunRecord) -> bool:
    """Whether a run has died, and the sensor has not got to it yet or waits."""
    run, ended = record.dagster_run, _utc(record.update_timestamp)
    return (
        not run.is_success
        and not is_marked(run, _LEFT)
        and datetime.now(UTC) < ended + _PATIENCE
        and not part_runs(instance, run)
        and (death := death_of(instance, run)) is not None
        and (is_tried_again(instance, run) or last_death(instance, run, death) is not None)
        and AUTO_RETRY_RUN_ID_TAG not in run.tags
    )


def _request(run: DagsterRun, answer: Answer, part: Part) -> RunRequest:
    """The run of a part. A retry of a part of many files would find out nothing that its halves
    do not; a file alone gets all of them before it is held to be at fault."""
    batch = PendingBatch(
        dataset=answer.dataset,
        partition=part.partition,
        batch_id=part.batch_id,
        manifest_uri=part.manifest_uri,
        requested_at=answer.at,
        replay_id=part.replay_id,
    )
    return RunRequest(
        run_key=f"{part.batch_id}/{run.run_id}",
        job_name=ingest_job(answer.dataset),
        partition_key=part.partition,
        run_config=run.run_config,
        asset_selection=sorted(run.asset_selection) if run.asset_selection else None,
        tags={
            **run_tags(batch),
            DEAD_RUN_TAG: run.run_id,
            SPLIT_OF_TAG: answer.batch_id,
            SPLIT_ROOT_TAG: answer.root,
            **({MAX_RETRIES_TAG: "0"} if part.objects > 1 else {}),
        },
    )


def part_runs(instance: DagsterInstance, run: DagsterRun) -> Sequence[DagsterRun]:
    """The runs that were asked for because of a run's death."""
    return instance.get_runs(RunsFilter(tags={DEAD_RUN_TAG: run.run_id}))


def is_marked(run: DagsterRun, made: str) -> bool:
    """Whether that has been made of a run's death."""
    return run.tags.get(ISOLATION_TAG) == _mark(run, made)


def _mark(run: DagsterRun, made: str) -> str:
    """A re-execution has its parent's tags, so the mark names the run."""
    return f"{made}: run {run.run_id}"


def _utc(stored: datetime) -> datetime:
    """A run storage's time, which has no time zone."""
    return stored.replace(tzinfo=UTC)
