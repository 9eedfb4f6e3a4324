"""Giving back: what goes back to the batches that have published it, as those had it.

A batch that takes over an object of another one, and then has nothing to put in its place, leaves
the rows in the table and the object with whoever published them.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from service_core.layout import Zone, verdict_key
from service_core.ledger import Return
from service_core.ports import ObjectMissingError, ObjectStore
from service_core.verdict import Verdict


def stored_verdict(
    store: ObjectStore, dataset: str, partition: str, batch_id: str
) -> Verdict | None:
    """A batch's verdict, if there is one that can be read."""
    try:
        return Verdict.model_validate_json(
            store.read(Zone.DQ_RESULTS, verdict_key(dataset, partition, batch_id))
        )
    except (ObjectMissingError, ValidationError):
        return None


def returns_of(
    dataset: str, partition: str, published_by: Mapping[str, str], store: ObjectStore
) -> list[Return]:
    """Objects and what the batches that published them have said of them.

    Args:
        published_by: By object id, the batch whose rows of it are in the table.
    """
    said = {
        (batch_id, file.source_object.id): (then.contract_version, file)
        for batch_id in set(published_by.values())
        if (then := stored_verdict(store, dataset, partition, batch_id)) is not None
        for file in then.files
    }
    returns = []
    for object_id, batch_id in published_by.items():
        back = Return(object_id=object_id, batch_id=batch_id)
        if (known := said.get((batch_id, object_id))) is not None:
            version, then_said = known
            back = back.model_copy(
                update={
                    "contract_version": version,
                    "rows_read": then_said.rows_read,
                    "rows_published": then_said.rows_accepted,
                    "rows_quarantined": then_said.rows_quarantined,
                }
            )
        returns.append(back)
    return returns
