"""The event bus, on EventBridge.

An event tells of what has already happened and is durable elsewhere, so a bus that fails undoes
nothing and fails no step: the events are tried again with back-off, and what the bus has not taken
by then is logged as an error, each event whole, so that none is lost in silence.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from resources.settings import SettingsResource
from service_core.events import SOURCE, Event
from service_core.telemetry import logger

#: PutEvents' own limits: entries and bytes of one request.
_ENTRIES = 10
_BYTES = 256 * 1024
#: What an event's detail may take, so that one entry always fits into a request.
_DETAIL_BYTES = 200 * 1024
_ENTRY_OVERHEAD = 1024
_ATTEMPTS = 5
_FIRST_WAIT_SECONDS = 0.1


class EventBridgeEvents:
    """Implements `ports.Events`.

    Args:
        client: A boto3 EventBridge client.
        bus: The bus's name.
        sleep: Waits between attempts, in seconds.
    """

    def __init__(self, client: Any, bus: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._events = client
        self._bus = bus
        self._sleep = sleep

    def send(self, events: Sequence[Event]) -> None:
        """Put events on the bus. Never raises for what the bus does; see the module's docstring."""
        for group in _groups(events, self._bus):
            self._send(group)

    def _send(self, entries: list[dict[str, Any]]) -> None:
        refusals: list[str] = []
        for attempt in range(_ATTEMPTS):
            if attempt:
                longest = _FIRST_WAIT_SECONDS * 2**attempt
                self._sleep(random.uniform(longest / 2, longest))
            try:
                answer = self._events.put_events(Entries=entries)
            except (ClientError, BotoCoreError) as error:
                refusals = [str(error)] * len(entries)
                continue
            results = answer["Entries"]
            if not answer.get("FailedEntryCount"):
                return
            refused = [
                (entry, f"{result['ErrorCode']}: {result.get('ErrorMessage', '')}")
                for entry, result in zip(entries, results, strict=True)
                if result.get("ErrorCode")
            ]
            entries = [entry for entry, _ in refused]
            refusals = [why for _, why in refused]
        for entry, why in zip(entries, refusals, strict=True):
            detail = json.loads(entry["Detail"])
            logger().error(
                "event lost",
                run_id=detail["run_id"],
                batch_id=detail["batch_id"],
                dataset=detail["dataset"],
                source=detail["source"],
                bus=self._bus,
                because=why,
                undelivered={"name": entry["DetailType"], **detail},
            )


class EventsResource(SettingsResource):
    """The event bus: `EventsResource.of(settings)`."""

    def events(self) -> EventBridgeEvents:
        """The bus itself."""
        from resources.aws import client

        # A bus that hangs must not hold a publication up: it is tried again by whoever sends.
        settings = self.settings().in_a_hurry()
        return EventBridgeEvents(client(settings, "events", attempts=1), settings.event_bus)


def _groups(events: Sequence[Event], bus: str) -> Iterator[list[dict[str, Any]]]:
    """Entries for PutEvents, as many to a request as it takes."""
    group: list[dict[str, Any]] = []
    size = 0
    for event in events:
        entry = _entry(event, bus)
        length = len(entry["Detail"]) + _ENTRY_OVERHEAD
        if group and (len(group) == _ENTRIES or size + length > _BYTES):
            yield group
            group, size = [], 0
        group.append(entry)
        size += length
    if group:
        yield group


def _entry(event: Event, bus: str) -> dict[str, Any]:
    whole = event.model_dump(mode="json", exclude={"name"})
    # ASCII, so that characters are bytes.
    detail = json.dumps(whole, default=str)
    if len(detail) > _DETAIL_BYTES:
        kept = {key: value for key, value in whole["detail"].items() if _is_short(value)}
        trimmed = sorted(set(whole["detail"]) - set(kept))
        whole["detail"] = {**kept, "trimmed": trimmed}
        detail = json.dumps(whole, default=str)
    return {
        "Source": SOURCE,
        "DetailType": str(event.name),
        "Detail": detail,
        "Time": event.at,
        "EventBusName": bus,
    }


def _is_short(value: Any) -> bool:
    return len(json.dumps(value, default=str)) <= 1_000
