"""The one typed settings object, read from the environment.

The same names serve dev, staging and prod. A local AWS is a `dev` with an endpoint, and nothing
else in the project asks whether it runs locally.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from service_core.layout import Zone


class Environment(StrEnum):
    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"


class SettingsError(Exception):
    """An environment variable holds something it cannot."""


class Settings(BaseModel):
    """Where everything is.

    Attributes:
        environment: `LAKEGATE_ENV`.
        endpoint_url: `AWS_ENDPOINT_URL`; None in the cloud.
        region: `AWS_REGION`, or `AWS_DEFAULT_REGION`.
        name_prefix: `LAKEGATE_NAME_PREFIX`; starts the name of every bucket and table. Bucket
            names are global, so an account should set its own.
        contracts: `LAKEGATE_CONTRACTS`, the folder of contract files.
        scratch: `LAKEGATE_SCRATCH`, a folder for files in hand; None for the system's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: Environment = Environment.DEV
    endpoint_url: str | None = None
    region: str = "us-east-1"
    name_prefix: str = Field(default="lakegate", pattern=r"\A[a-z][a-z0-9-]{1,20}\z")
    contracts: Path = Path("contracts")
    scratch: Path | None = None

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
    def database(self) -> str:
        """The Glue database of published tables, such as `lakegate_dev`."""
        return f"{self.name_prefix}_{self.environment}".replace("-", "_")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings from environment variables.

        Raises:
            SettingsError: a variable holds something it cannot; the message names it.
        """
        raise NotImplementedError
