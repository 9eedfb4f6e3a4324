"""Landing partitions as Dagster's."""

from __future__ import annotations

from datetime import UTC, datetime, time

from dagster import DailyPartitionsDefinition, HourlyPartitionsDefinition, PartitionsDefinition

from service_core.contract.model import Grain, Landing

#: Files can land for the running partition, and a producer's clock or time zone can be ahead:
#: today's and tomorrow's partitions exist already.
_DAYS_AHEAD = 2


def partitions_of(landing: Landing) -> PartitionsDefinition[str]:
    """The Dagster partitions of a data set, one for each landing partition."""
    start = datetime.combine(landing.first_partition, time(), tzinfo=UTC)
    if landing.grain is Grain.HOUR:
        return HourlyPartitionsDefinition(start_date=start, end_offset=24 * _DAYS_AHEAD)
    return DailyPartitionsDefinition(start_date=start, end_offset=_DAYS_AHEAD)
