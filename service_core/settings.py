"""The one typed settings object, read from the environment.

The same names serve dev, staging and prod. A local AWS is a `dev` with an endpoint, and nothing
else in the project asks whether it runs locally.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from service_core.contract.model import Engine
from service_core.layout import Zone


class Environment(StrEnum):
    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"


class NotificationRoute(StrEnum):
    """How the raw bucket tells of what is created in it."""

    OFF = "off"
    SQS = "sqs"
    EVENTBRIDGE = "eventbridge"


class SettingsError(Exception):
    """An environment variable holds something it cannot."""


class Settings(BaseModel):
    """Where everything is.

    Attributes:
        environment: `LAKEGATE_ENV`.
        endpoint_url: `AWS_ENDPOINT_URL`; None in the cloud.
        s3_endpoint_url: `AWS_ENDPOINT_URL_S3`, where S3 answers somewhere else than the rest.
        region: `AWS_REGION`, or `AWS_DEFAULT_REGION`.
        name_prefix: `LAKEGATE_NAME_PREFIX`; starts the name of every bucket and table. Bucket
            names are global, so an account should set its own.
        contracts: `LAKEGATE_CONTRACTS`, the folder of contract files.
        scratch: `LAKEGATE_SCRATCH`, a folder for files in hand; None for the system's own.
        sensors_on: `LAKEGATE_SENSORS`, `on` or `off`: whether sensors run without being switched
            on in the UI.
        sensor_seconds: `LAKEGATE_SENSOR_SECONDS`, how often each sensor looks for arrivals.
        notifications: `LAKEGATE_NOTIFICATIONS`, `off`, `sqs` or `eventbridge`: whether the raw
            bucket tells of what is created in it, and by which way; `off` leaves it to listing.
        engine: `LAKEGATE_ENGINE`: what curates the batches of contracts that leave the choice
            open (`auto`); None, as `auto`, lets each batch's size decide.
        dpu_hour_price: `LAKEGATE_DPU_HOUR_PRICE`, what AWS Glue bills for a DPU-hour. It and the
            next are in one currency, and only estimates are made of them.
        vcpu_hour_price: `LAKEGATE_VCPU_HOUR_PRICE`, what an hour of one vCPU costs where Dagster's
            runs execute.
        spark_master: `LAKEGATE_SPARK_MASTER`, the cluster of the engine `spark`; None for a Spark
            on the machine that the run is on.
        state_machine_role: `LAKEGATE_STATE_MACHINE_ROLE`, the ARN of the IAM role that the state
            machine acts by; None for the role of the caller's account that is named as the state
            machine is.
        glue_role: `LAKEGATE_GLUE_ROLE`, name or ARN of the IAM role that the Glue job acts by;
            None for the one named as the job is, with `-job` after it.
        glue_worker_type: `LAKEGATE_GLUE_WORKER_TYPE`, what the Glue job's workers are.
        glue_workers: `LAKEGATE_GLUE_WORKERS`, how many a run has; the first is the driver's.
        glue_timeout_minutes: `LAKEGATE_GLUE_TIMEOUT_MINUTES`, after how long Glue ends a run.
        glue_concurrent_runs: `LAKEGATE_GLUE_CONCURRENT_RUNS`, how many runs may be in flight at
            once.
        run_minutes: `LAKEGATE_RUN_MINUTES`, after how long the run of a batch counts as hung and is
            ended; it has to be longer than any batch takes, the wait for a Glue job included.
        leftover_days: `LAKEGATE_LEFTOVER_DAYS`, how old a file of a dead attempt has to be before
            the clean-up removes it.
        snapshot_days: `LAKEGATE_SNAPSHOT_DAYS`, for how long a published table keeps the snapshots
            of its past, which rollback and time travel reach; the newest 100 stay longer.
        snapshots: `LAKEGATE_SNAPSHOTS`, how many a table keeps at most, whatever their age: each
            costs every later commit about 0.03 ms and 1 kB.
        aws_attempts: `LAKEGATE_AWS_ATTEMPTS`, how often a call of AWS is tried in all, with
            back-off, before its failure is told.
        aws_connect_seconds: `LAKEGATE_AWS_CONNECT_SECONDS`, how long each try waits to connect.
        aws_read_seconds: `LAKEGATE_AWS_READ_SECONDS`, how long each try waits for AWS to say
            anything more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: Environment = Environment.DEV
    endpoint_url: str | None = None
    s3_endpoint_url: str | None = None
    region: str = Field(default="us-east-1", pattern=r"\A[a-z0-9-]+\z")
    name_prefix: str = Field(default="lakegate", pattern=r"\A[a-z][a-z0-9-]{1,20}\z")
    contracts: Path = Path("contracts")
    scratch: Path | None = None
    sensors_on: bool = False
    sensor_seconds: int = Field(default=30, ge=1)
    notifications: NotificationRoute = NotificationRoute.OFF
    engine: Engine | None = None
    # US dollars in us-east-1: a DPU-hour of a Glue Spark job, and a vCPU-hour of Fargate.
    dpu_hour_price: float = Field(default=0.44, ge=0, allow_inf_nan=False)
    vcpu_hour_price: float = Field(default=0.04048, ge=0, allow_inf_nan=False)
    spark_master: str | None = None
    state_machine_role: str | None = Field(
        default=None, pattern=r"\Aarn:[a-z-]+:iam::[0-9]{12}:role/[\w+=,.@/-]+\z"
    )
    glue_role: str | None = Field(default=None, pattern=r"\A[\w+=,.@:/-]+\z")
    glue_worker_type: str = Field(default="G.1X", pattern=r"\A[GR]\.[0-9]{1,3}X\z")
    # Fewer than two cannot be: one is the driver's.
    glue_workers: int = Field(default=4, ge=2, le=299)
    glue_timeout_minutes: int = Field(default=120, ge=1, le=10_080)
    glue_concurrent_runs: int = Field(default=8, ge=1, le=1_000)
    # More than a Glue job run may take by default.
    run_minutes: float = Field(default=180, gt=0, le=10_080, allow_inf_nan=False)
    # Longer than any attempt works. Nothing but the age tells of one outside of Dagster.
    leftover_days: float = Field(default=3.0, ge=0, le=3_650, allow_inf_nan=False)
    snapshot_days: float = Field(default=30.0, ge=0, le=3_650, allow_inf_nan=False)
    snapshots: int = Field(default=1_000, ge=1, le=100_000)
    aws_attempts: int = Field(default=8, ge=1, le=20)
    aws_connect_seconds: float = Field(default=5.0, gt=0, le=600, allow_inf_nan=False)
    aws_read_seconds: float = Field(default=60.0, gt=0, le=600, allow_inf_nan=False)

    def in_a_hurry(self) -> Settings:
        """The same for a sensor's tick, which Dagster gives up on after 60 s without a word: a
        call that is never answered has failed by then, and says why."""
        return self.model_copy(
            update={
                "aws_attempts": min(self.aws_attempts, 4),
                "aws_connect_seconds": min(self.aws_connect_seconds, 3.0),
                "aws_read_seconds": min(self.aws_read_seconds, 10.0),
            }
        )

    def endpoint_of(self, service: str) -> str | None:
        """Where a service such as `s3` answers; None in the cloud."""
        return (service == "s3" and self.s3_endpoint_url) or self.endpoint_url

    def bucket(self, zone: Zone) -> str:
        """A zone's bucket, such as `lakegate-dev-raw`."""
        return f"{self.name_prefix}-{self.environment}-{zone}"

    @property
    def ledger_table(self) -> str:
        return f"{self.name_prefix}-{self.environment}-ledger"

    @property
    def event_bus(self) -> str:
        return f"{self.name_prefix}-{self.environment}"

    @property
    def alerts_topic(self) -> str:
        return f"{self.name_prefix}-{self.environment}-alerts"

    @property
    def notifications_queue(self) -> str:
        """The queue that notifications of created objects come to, and the rule's name where they
        come by way of EventBridge."""
        return f"{self.name_prefix}-{self.environment}-arrivals"

    @property
    def dead_letter_queue(self) -> str:
        """Where notifications go that nobody understands, or that keep failing."""
        return f"{self.name_prefix}-{self.environment}-arrivals-dead"

    @property
    def artifacts_bucket(self) -> str:
        """Scripts and archives that remote engines fetch."""
        return f"{self.name_prefix}-{self.environment}-artifacts"

    @property
    def glue_job(self) -> str:
        """The Glue job that curates."""
        return f"{self.name_prefix}-{self.environment}-curate"

    @property
    def state_machine(self) -> str:
        """The Step Functions state machine that runs the Glue job."""
        return f"{self.name_prefix}-{self.environment}-curate"

    @property
    def database(self) -> str:
        """The Glue database of published tables, such as `lakegate_dev`."""
        return f"{self.name_prefix}_{self.environment}".replace("-", "_")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings from environment variables.

        Raises:
            SettingsError: a variable holds something it cannot; the message names it.
        """
        given = {name: value for name in _VARIABLES if (value := environ.get(name, "").strip())}
        region = given.pop("AWS_DEFAULT_REGION", None)
        if region is not None:
            given.setdefault("AWS_REGION", region)
        try:
            return cls.model_validate({_VARIABLES[name]: value for name, value in given.items()})
        except ValidationError as error:
            raise SettingsError(_sentences(error)) from None

    @field_validator("endpoint_url", "s3_endpoint_url")
    @classmethod
    def _a_url(cls, endpoint_url: str | None) -> str | None:
        if endpoint_url is not None and not re.fullmatch(r"https?://[^\s/]+/?", endpoint_url):
            raise ValueError("expected http:// or https://, a host and a port")
        return endpoint_url.rstrip("/") if endpoint_url else None


_VARIABLES = {
    "LAKEGATE_ENV": "environment",
    "AWS_ENDPOINT_URL": "endpoint_url",
    "AWS_ENDPOINT_URL_S3": "s3_endpoint_url",
    "AWS_REGION": "region",
    "AWS_DEFAULT_REGION": "region",
    "LAKEGATE_NAME_PREFIX": "name_prefix",
    "LAKEGATE_CONTRACTS": "contracts",
    "LAKEGATE_SCRATCH": "scratch",
    "LAKEGATE_SENSORS": "sensors_on",
    "LAKEGATE_SENSOR_SECONDS": "sensor_seconds",
    "LAKEGATE_NOTIFICATIONS": "notifications",
    "LAKEGATE_ENGINE": "engine",
    "LAKEGATE_DPU_HOUR_PRICE": "dpu_hour_price",
    "LAKEGATE_VCPU_HOUR_PRICE": "vcpu_hour_price",
    "LAKEGATE_SPARK_MASTER": "spark_master",
    "LAKEGATE_STATE_MACHINE_ROLE": "state_machine_role",
    "LAKEGATE_GLUE_ROLE": "glue_role",
    "LAKEGATE_GLUE_WORKER_TYPE": "glue_worker_type",
    "LAKEGATE_GLUE_WORKERS": "glue_workers",
    "LAKEGATE_GLUE_TIMEOUT_MINUTES": "glue_timeout_minutes",
    "LAKEGATE_GLUE_CONCURRENT_RUNS": "glue_concurrent_runs",
    "LAKEGATE_RUN_MINUTES": "run_minutes",
    "LAKEGATE_LEFTOVER_DAYS": "leftover_days",
    "LAKEGATE_SNAPSHOT_DAYS": "snapshot_days",
    "LAKEGATE_SNAPSHOTS": "snapshots",
    "LAKEGATE_AWS_ATTEMPTS": "aws_attempts",
    "LAKEGATE_AWS_CONNECT_SECONDS": "aws_connect_seconds",
    "LAKEGATE_AWS_READ_SECONDS": "aws_read_seconds",
}


def _sentences(error: ValidationError) -> str:
    variables = {field: name for name, field in reversed(_VARIABLES.items())}
    said = []
    for problem in error.errors():
        field = str(problem["loc"][0])
        because = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        said.append(
            f"The environment variable {variables[field]} is {problem['input']!r}, which it "
            f"cannot be: {because}. .env.example says what each variable means."
        )
    return " ".join(said)
