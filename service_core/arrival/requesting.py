"""Requesting: the three writes that make a batch, in this order: its manifest, a pending mark, and
the reception of its objects. Whoever dies between any two of them is made up for from the mark.
"""

from __future__ import annotations

from datetime import datetime

from service_core.layout import Zone, manifest_key
from service_core.manifest import Manifest
from service_core.ports import Ledger, ObjectStore, PendingBatch


def request_batch(
    manifest: Manifest, store: ObjectStore, ledger: Ledger, *, at: datetime, way: str = ""
) -> PendingBatch:
    """Make a manifest durable, mark its batch pending, and receive its objects, in that order.

    Args:
        way: By which way in its objects were noticed, if they were.
    """
    batch = PendingBatch(
        dataset=manifest.dataset,
        partition=manifest.partition,
        batch_id=manifest.batch_id,
        manifest_uri=write_manifest(store, manifest),
        requested_at=at,
        replay_id=manifest.replay_id,
        size=manifest.size,
        way=way,
    )
    ledger.open_batch(batch)
    ledger.receive(manifest, run_id=None, at=at)
    return batch


def receive_again(
    batch: PendingBatch, store: ObjectStore, ledger: Ledger, *, at: datetime
) -> PendingBatch:
    """Make up for the reception of a batch's objects, before which a look may have died; returns
    the batch, to be requested."""
    ledger.receive(read_manifest(store, batch.manifest_uri), run_id=None, at=at)
    return batch


def write_manifest(store: ObjectStore, manifest: Manifest) -> str:
    """Put a manifest where its batch's manifest lies; returns the URI."""
    return store.write(
        Zone.MANIFESTS,
        manifest_key(manifest.dataset, manifest.partition, manifest.batch_id),
        manifest.model_dump_json().encode(),
        content_type="application/json",
    )


def read_manifest(store: ObjectStore, uri: str) -> Manifest:
    """Read a manifest by its URI.

    Raises:
        ObjectMissingError: there is none.
        ValueError: it is no manifest, or lies outside the manifests zone.
    """
    prefix = store.uri(Zone.MANIFESTS, "")
    if not uri.startswith(prefix):
        raise ValueError(f"{uri} is not in the manifests zone ({prefix}).")
    return Manifest.model_validate_json(store.read(Zone.MANIFESTS, uri.removeprefix(prefix)))
