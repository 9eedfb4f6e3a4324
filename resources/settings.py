"""The settings as the configuration of a Dagster resource: the UI shows where things lie."""

from __future__ import annotations

from typing import Self

from dagster import ConfigurableResource

from service_core.settings import Settings


class SettingsResource(ConfigurableResource):  # type: ignore[type-arg]
    """What the resources of this package have in common; the fields are those of `Settings`."""

    environment: str
    endpoint_url: str | None
    region: str
    name_prefix: str
    contracts: str
    scratch_folder: str | None
    sensors_on: bool
    sensor_seconds: int
    engine: str | None
    dpu_hour_price: float
    vcpu_hour_price: float
    spark_master: str | None
    state_machine_role: str | None
    glue_role: str | None
    glue_worker_type: str
    glue_workers: int
    glue_timeout_minutes: int
    glue_concurrent_runs: int
    leftover_days: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The resource for these settings."""
        given = settings.model_dump(mode="json")
        return cls(scratch_folder=given.pop("scratch"), **given)

    def settings(self) -> Settings:
        """The settings that it was made for."""
        return Settings.model_validate(
            {
                "scratch": self.scratch_folder,
                **{
                    field: getattr(self, field)
                    for field in Settings.model_fields
                    if field != "scratch"
                },
            }
        )
