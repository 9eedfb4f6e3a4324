"""Arrival: which landed objects are new, and which batches are cut from them.

Nothing is lost and nothing is doubled, because what is new is decided by the ledger and not by a
watermark: a slow upload, an overwritten key or two files of one second are simply versions that
the ledger does not know yet. There are two ways in, listing and notifications. They differ in how
they come to know of an object, and in nothing else.
"""

from service_core.arrival.cutting import cut_batches, source_object_of
from service_core.arrival.hearing import Heard, Hearing, hear_notifications
from service_core.arrival.listing import ArrivalCursor, Arrivals, Budget, look_for_arrivals
from service_core.arrival.pressure import Runs, nobody_knows
from service_core.arrival.requesting import (
    read_manifest,
    receive_again,
    request_batch,
    write_manifest,
)

__all__ = [
    "ArrivalCursor",
    "Arrivals",
    "Budget",
    "Heard",
    "Hearing",
    "Runs",
    "cut_batches",
    "hear_notifications",
    "look_for_arrivals",
    "nobody_knows",
    "read_manifest",
    "receive_again",
    "request_batch",
    "source_object_of",
    "write_manifest",
]
