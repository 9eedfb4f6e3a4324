"""Which calls of AWS fail, and how: decided by a seed, so that a failure can be had again.

A call's fate hangs on the seed and on how many calls of its operation came before it, and on
nothing else: threads that change places only exchange fates.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """A way for a call to fail. Those with `applied` or `body` in their words have taken effect."""

    THROTTLED = "throttled"
    ERROR_500 = "500"
    ERROR_503 = "503"
    CONFLICT = "conflict"
    RESET = "connection reset"
    RESET_AFTER = "connection reset, applied"
    TIMEOUT_BEFORE = "time-out"
    TIMEOUT_AFTER = "time-out, applied"
    SLOW_BODY = "slow body"
    TRUNCATED_BODY = "truncated body"
    STALE_LISTING = "stale listing"
    PARTIAL = "answered in part"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as the proxy sees it: `s3`, `PutObject`."""

    service: str
    operation: str

    @property
    def lists(self) -> bool:
        return self.operation in {"ListObjectsV2", "ListObjectVersions"}


#: A time-out costs as long as the client waits for it.
WEIGHTS = {
    Kind.THROTTLED: 4,
    Kind.ERROR_500: 3,
    Kind.ERROR_503: 3,
    Kind.CONFLICT: 3,
    Kind.RESET: 3,
    Kind.RESET_AFTER: 6,
    Kind.TIMEOUT_BEFORE: 0.3,
    Kind.TIMEOUT_AFTER: 0.7,
    Kind.SLOW_BODY: 2,
    Kind.TRUNCATED_BODY: 3,
    Kind.STALE_LISTING: 8,
    Kind.PARTIAL: 6,
}

_ONLY = {
    Kind.CONFLICT: frozenset({"UpdateTable"}),
    Kind.PARTIAL: frozenset({"BatchGetItem", "PutEvents"}),
}
#: What an answer without a body cannot do.
_BODILESS = frozenset({"HeadObject", "HeadBucket", "DeleteObject", "PutObject"})


def possible(call: Call) -> list[Kind]:
    """The ways in which a call can fail."""
    kinds = []
    for kind in Kind:
        if kind is Kind.STALE_LISTING and not call.lists:
            continue
        if kind is Kind.TRUNCATED_BODY and call.operation in _BODILESS:
            continue
        if call.operation not in _ONLY.get(kind, {call.operation}):
            continue
        kinds.append(kind)
    return kinds


@dataclass(slots=True)
class Plan:
    """Fails calls at a rate.

    Attributes:
        rate: The share of calls that fail, 0 to 1.
        services: Those that fail; None for all.
        operations: Those that fail; None for all.
        kinds: The ways to fail; None for every possible one.
        until: After so many faults all is well again; None for never.
        injected: How often each service has failed in each way.
    """

    seed: int
    rate: float
    services: frozenset[str] | None = None
    operations: frozenset[str] | None = None
    kinds: tuple[Kind, ...] | None = None
    until: int | None = None
    injected: Counter[tuple[str, Kind]] = field(default_factory=Counter)
    calls: Counter[Call] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fate(self, call: Call) -> Kind | None:
        """How the next call of this operation fails; None where it does not."""
        if self.services is not None and call.service not in self.services:
            return None
        if self.operations is not None and call.operation not in self.operations:
            return None
        with self._lock:
            self.calls[call] += 1
            number = self.calls[call]
        random = Random(f"{self.seed}/{call.service}/{call.operation}/{number}")
        if random.random() >= self.rate:
            return None
        kinds = [k for k in possible(call) if self.kinds is None or k in self.kinds]
        if not kinds:
            return None
        kind = random.choices(kinds, [WEIGHTS[k] for k in kinds])[0]
        with self._lock:
            if self.until is not None and self.injected.total() >= self.until:
                return None
            self.injected[call.service, kind] += 1
        return kind

    def said(self) -> str:
        """What was injected, for people."""
        total = Counter[Kind]()
        for (_, kind), count in self.injected.items():
            total[kind] += count
        parts = ", ".join(f"{kind} {count}" for kind, count in sorted(total.items()))
        calls, faults = sum(self.calls.values()), sum(total.values())
        return f"seed {self.seed}, {calls} calls, {faults} faults: {parts or 'none'}"


#: Lets everything through.
def no_faults() -> Plan:
    return Plan(seed=0, rate=0.0)
