"""The settings as the configuration of a Dagster resource: the UI shows where things lie."""

from __future__ import annotations

from typing import Any, Self

from dagster import ConfigurableResource

from service_core.settings import Settings


class SettingsResource(ConfigurableResource):  # type: ignore[type-arg]
    """What the resources of this package have in common.

    Attributes:
        given: The fields of `Settings`. One mapping and not a field each: Dagster checks a
            resource's fields anew for every step and tick, which for twenty of them in each of
            five resources took 0.4 s of a run.
    """

    given: dict[str, Any]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The resource for these settings."""
        # A mapping in a configuration holds no nulls; that a field is not there says the same.
        return cls(given=settings.model_dump(mode="json", exclude_none=True))

    def in_a_hurry(self) -> Self:
        """The resource for a sensor's tick; see `Settings.in_a_hurry`."""
        return self.of(self.settings().in_a_hurry())

    def settings(self) -> Settings:
        """The settings that it was made for."""
        return Settings.model_validate(self.given)
