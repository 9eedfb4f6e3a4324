"""Partitions: the landing day or hour that a key names, and nothing else about the key.

A partition's name is exactly the key that Dagster's daily or hourly partitions have for it
(`2026-11-21`, `2026-11-21-05:00`), in UTC. Keys are whatever a producer wrote: they are compared
as they stand, never decoded, resolved or normalised, so that no two keys can be taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from service_core.contract.model import Grain, Landing

_FORMATS = {Grain.DAY: "%Y-%m-%d", Grain.HOUR: "%Y-%m-%d-%H:%M"}
_LENGTHS = {Grain.DAY: timedelta(days=1), Grain.HOUR: timedelta(hours=1)}
_NAMES = {
    Grain.DAY: re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z"),
    Grain.HOUR: re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}:00\Z"),
}
#: How far the clocks of producers may be ahead: a partition that begins later is a mistake.
_AHEAD = timedelta(days=1)
_DIGITS = {"Y": r"(?P<Y>[0-9]{4})", "m": r"(?P<m>[0-9]{2})", "d": r"(?P<d>[0-9]{2})"}
_DIGITS["H"] = r"(?P<H>[0-9]{2})"
#: Keeps sums with windows inside of what a datetime can hold.
_LAST_YEAR = 9000


def partition_of(landing: Landing, key: str, *, now: datetime | None = None) -> str | None:
    """The partition that a key names.

    Args:
        landing: Where the data set's files land.
        key: An object's key, exactly as S3 gives it.
        now: When it arrived; without it, a partition in the future is not refused.

    Returns:
        None where the key does not lie under the prefix, its path names no partition or a date
        that does not exist, it has no file name, a segment is empty, `.` or `..`, or the
        partition begins before the first one or more than a day after `now`.
    """
    if not key.startswith(landing.prefix):
        return None
    rest = key[len(landing.prefix) :]
    match = _pattern(landing.partition_path).match(rest)
    if match is None or not file_name_of(key):
        return None
    if any(segment in ("", ".", "..") for segment in rest.split("/")):
        return None
    try:
        start = datetime(
            int(match["Y"]),
            int(match["m"]),
            int(match["d"]),
            int(match["H"]) if landing.grain is Grain.HOUR else 0,
            tzinfo=UTC,
        )
    except ValueError:
        return None
    if start.date() < landing.first_partition or start.year > _LAST_YEAR:
        return None
    if now is not None and start > now + _AHEAD:
        return None
    return start.strftime(_FORMATS[landing.grain])


@lru_cache(maxsize=1024)
def _pattern(partition_path: str) -> re.Pattern[str]:
    parts = re.split(r"%([YmdH])", partition_path)
    # Split by a group gives literals at even places and directives at odd ones.
    return re.compile(
        "".join(_DIGITS[part] if place % 2 else re.escape(part) for place, part in enumerate(parts))
        + "/"
    )


def partition_path(landing: Landing, partition: str) -> str:
    """The path of a partition below the prefix, without slashes around it: `dt=2026-11-21`.

    Raises:
        ValueError: `partition` is no name of a partition of this data set.
    """
    start = partition_start(landing, partition)
    path = landing.partition_path
    # Not strftime: it pads no years below 1000 on some systems and knows more directives.
    for directive, digits in (
        ("%Y", f"{start.year:04}"),
        ("%m", f"{start.month:02}"),
        ("%d", f"{start.day:02}"),
        ("%H", f"{start.hour:02}"),
    ):
        path = path.replace(directive, digits)
    return path


def partition_start(landing: Landing, partition: str) -> datetime:
    """When a partition begins, in UTC.

    Raises:
        ValueError: `partition` is no name of a partition of this data set.
    """
    day = landing.grain is Grain.DAY
    expected = "a day such as 2026-11-21" if day else "an hour such as 2026-11-21-05:00"
    if _NAMES[landing.grain].match(partition) is None:
        raise ValueError(f"{partition!r} is no partition; expected {expected}.")
    try:
        start = datetime.strptime(partition, _FORMATS[landing.grain]).replace(tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"{partition!r} does not exist; expected {expected}.") from error
    if start.year > _LAST_YEAR:
        raise ValueError(f"{partition!r} is too far in the future; expected {expected}.")
    return start


def partition_end(landing: Landing, partition: str) -> datetime:
    """When a partition ends (the first moment after it), in UTC.

    Raises:
        ValueError: `partition` is no name of a partition of this data set.
    """
    return partition_start(landing, partition) + _LENGTHS[landing.grain]


def open_partitions(landing: Landing, now: datetime) -> tuple[str, ...]:
    """The partitions that are open at `now`, newest first, with the one that is about to begin.

    Empty where the window is None: then every partition is open, and the caller lists the whole
    prefix. Files of partitions further ahead are found there, too, by the slower sweep.
    """
    if landing.window is None:
        return ()
    length = _LENGTHS[landing.grain]
    start = _floor(landing, now) + length
    names = []
    # A partition is open while its end plus the window is not past; the next one is listed too,
    # because producers' clocks are not ours.
    while start + length + landing.window >= now and start.date() >= landing.first_partition:
        names.append(start.strftime(_FORMATS[landing.grain]))
        start -= length
    return tuple(names)


def partitions_between(landing: Landing, first: str, last: str) -> Iterator[str]:
    """Every partition from one to another, both included, none before the landing's first.

    Raises:
        ValueError: one of the two is no name of a partition of this data set.
    """
    length = _LENGTHS[landing.grain]
    start, end = partition_start(landing, first), partition_start(landing, last)
    begin = datetime.combine(landing.first_partition, datetime.min.time(), tzinfo=UTC)
    start = max(start, begin)
    while start <= end:
        yield start.strftime(_FORMATS[landing.grain])
        start += length


def is_late(landing: Landing, partition: str, arrived: datetime) -> bool:
    """Whether an object that arrived at `arrived` came after the partition's window had closed.

    Raises:
        ValueError: `partition` is no name of a partition of this data set.
    """
    if landing.window is None:
        return False
    return arrived > partition_end(landing, partition) + landing.window


def fallback_partition(landing: Landing, arrived: datetime) -> str:
    """The partition under which an object is filed whose key names none: that of its arrival, or
    the first one where it arrived before that."""
    first = datetime.combine(landing.first_partition, datetime.min.time(), tzinfo=UTC)
    return max(_floor(landing, arrived), first).strftime(_FORMATS[landing.grain])


def file_name_of(key: str) -> str:
    """What follows the last `/` of a key."""
    return key.rpartition("/")[2]


def _floor(landing: Landing, moment: datetime) -> datetime:
    moment = moment.astimezone(UTC)
    hour = moment.hour if landing.grain is Grain.HOUR else 0
    return moment.replace(hour=hour, minute=0, second=0, microsecond=0)
