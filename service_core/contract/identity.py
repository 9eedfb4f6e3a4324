"""The hash of a contract's meaning.

It is taken of what was loaded and not of the file, so that comments, layout, the order of keys and
descriptions do not change it, and whatever may change a row's fate does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from service_core.contract.model import Contract

_CHARACTERS = 16
#: Words about the data, not rules on them.
_NOT_MEANING = frozenset(
    {
        *("hash", "path", "text", "line"),
        *("description", "dimension", "owner", "producer", "tags", "freshness", "pace"),
    }
)


def meaning_hash(contract: Contract) -> str:
    """16 hexadecimal characters; see the module's docstring."""
    text = json.dumps(_plain(contract), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_CHARACTERS]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        # The type's name tells apart two tests with the same fields.
        return {
            "_": type(value).__name__,
            **{
                f.name: _plain(getattr(value, f.name))
                for f in fields(value)
                if f.name not in _NOT_MEANING
            },
        }
    match value:
        case None | bool() | int():
            return value
        case Enum():
            return value.value
        case str():
            return value
        case float():
            return int(value) if value.is_integer() else value
        case Decimal():
            return format(value.normalize(), "f")
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case re.Pattern():
            return value.pattern
        case frozenset():
            return sorted(str(_plain(item)) for item in value)
        case tuple() | list():
            return [_plain(item) for item in value]
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case _:
            raise TypeError(f"{type(value).__name__} has no canonical form")
