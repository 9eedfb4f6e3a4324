"""Masking: nothing of a personal value is ever shown, not even its length.

Every place where a person can see data (samples of a check, a preview, a finding) comes here.
"""

from __future__ import annotations

MASK = "***"


def mask(value: object) -> str | None:
    """`***` in the place of any value; null stays null, because absence is no one's data."""
    return None if value is None else MASK
