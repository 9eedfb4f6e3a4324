"""Ticks: what one look of a sensor leaves for the next, so that nothing is lost between two.

A look marks what it is about to ask for with its own time. Whatever is marked later than the last
look that was completed belongs to one that died, and is asked for again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from pydantic import BaseModel, ConfigDict


class Cursor(BaseModel):
    """What one tick leaves for the next. Whatever it holds can be found out again, so every field
    has a default: a lost cursor costs a look, and no arrival."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """The cursor in `text`; a fresh one where there is none, or none of this kind."""
        try:
            return cls.model_validate_json(text) if text else cls()
        except ValueError:
            return cls()


def mark_after(since: datetime | None, now: datetime) -> datetime:
    """The mark of a look that begins now, `since` being that of the last one: a clock that went
    backwards must not make an unfinished look seem finished."""
    if since is None or now > since:
        return now
    return since + timedelta(microseconds=1)
