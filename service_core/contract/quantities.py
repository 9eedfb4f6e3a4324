"""Sizes and durations as people write them in contracts."""

from __future__ import annotations

import re
from datetime import timedelta

#: A century: longer is a mistake, and could leave the range of dates.
LONGEST = timedelta(days=36_525)

_UNITS = {"B": 1}
_UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}
_UNITS |= {f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)}
_SIZE = re.compile(r"([0-9]{1,15})(\.[0-9]{1,6})? ?([KMGT]?i?B)\Z")
_ISO = re.compile(
    r"P(?:(?P<weeks>[0-9]{1,6})W)?(?:(?P<days>[0-9]{1,6})D)?"
    r"(?:T(?=[0-9])(?:(?P<hours>[0-9]{1,6})H)?(?:(?P<minutes>[0-9]{1,6})M)?"
    r"(?:(?P<seconds>[0-9]{1,6})S)?)?\Z"
)
_PARTS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
_PLAIN = re.compile(r"([0-9]{1,6}) (week|day|hour|minute|second)s?\Z")


def size_in_bytes(text: str) -> int | None:
    """`10 MiB`, `2.5 GB` or `512` in bytes; None where it is no size."""
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    match = _SIZE.match(text)
    if match is None or match[3] not in _UNITS:
        return None
    return int(float(match[1] + (match[2] or "")) * _UNITS[match[3]])


def duration(text: str) -> timedelta | None:
    """`P3D`, `PT6H` or `3 days`; None where it is no duration of a fixed length, or longer than
    a century."""
    plain = _PLAIN.match(text)
    iso = _ISO.match(text)
    if plain is not None:
        parts = {plain[2] + "s": int(plain[1])}
    elif iso is not None:
        parts = {unit: int(digits) for unit, digits in iso.groupdict().items() if digits}
    else:
        return None
    span = timedelta(**parts)
    return span if parts and span <= LONGEST else None


def in_words(span: timedelta) -> str:
    """`3 days`, or `1 day 12 hours`: whole seconds of a duration that is not negative."""
    left, said = int(span.total_seconds()), []
    for unit, seconds in _PARTS:
        count, left = divmod(left, seconds)
        if count:
            said.append(f"{count} {unit}{'s' * (count != 1)}")
    return " ".join(said) or "0 seconds"
