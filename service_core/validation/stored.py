"""Validation records as they lie in the validated zone."""

from __future__ import annotations

from service_core.layout import Zone, validation_key
from service_core.manifest import Manifest
from service_core.ports import ObjectStore
from service_core.validation.record import ValidationRecord


def write_record(store: ObjectStore, record: ValidationRecord) -> str:
    """Put the record where its batch's record lies; returns the URI.

    Written after everything it names, so that its presence means that all of it is there.
    """
    return store.write(
        Zone.VALIDATED,
        validation_key(record.dataset, record.partition, record.batch_id),
        record.model_dump_json().encode(),
        content_type="application/json",
    )


def read_record(store: ObjectStore, manifest: Manifest) -> ValidationRecord:
    """The record of a manifest's batch.

    Raises:
        ObjectMissingError: the batch has not been validated.
    """
    key = validation_key(manifest.dataset, manifest.partition, manifest.batch_id)
    return ValidationRecord.model_validate_json(store.read(Zone.VALIDATED, key))
