"""What can curate beside the run's own process, as one resource."""

from __future__ import annotations

from typing import Self

from dagster import ConfigurableResource

from resources.glue import GlueResource
from resources.settings import SettingsResource
from resources.spark import SparkResource
from resources.step_functions import StepFunctionsResource
from service_core.settings import Settings


class EnginesResource(ConfigurableResource):  # type: ignore[type-arg]
    """Every engine that is not the run's own process: `EnginesResource.of(settings)`."""

    where: SettingsResource
    spark: SparkResource
    glue: GlueResource
    step_functions: StepFunctionsResource

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The engines for these settings."""
        return cls(
            where=SettingsResource.of(settings),
            spark=SparkResource.of(settings),
            glue=GlueResource.of(settings),
            step_functions=StepFunctionsResource.of(settings),
        )

    def settings(self) -> Settings:
        """The settings that they were made for."""
        return self.where.settings()
