"""Why objects, or rows of them, were diverted: looked up in their batches' verdicts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from service_core.gate import GateClosedError, read_verdict
from service_core.ledger import Entry, State
from service_core.ports import ObjectStore

#: Batches whose reasons are kept in hand. A stretch of a listing touches few at a time.
_KEPT = 64


class DivertedReasons:
    """Reason codes of source objects, by way of the verdicts of the batches that own them.

    Args:
        store: Where the verdicts are.
        dataset: Whose.
    """

    def __init__(self, store: ObjectStore, dataset: str) -> None:
        self._store = store
        self._dataset = dataset
        self._kept: OrderedDict[str, Mapping[str, frozenset[str]]] = OrderedDict()

    def of(self, entries: Iterable[Entry]) -> dict[str, frozenset[str]]:
        """Every reason against each object and its rows, by object id; none for an object of which
        nothing was diverted."""
        # Batch by batch, so that each verdict is read once whatever the order of keys.
        return {
            entry.object_id: self._reasons(entry)
            for entry in sorted(entries, key=lambda entry: entry.batch_id)
        }

    def _reasons(self, entry: Entry) -> frozenset[str]:
        own = frozenset({entry.reason.value} if entry.reason else ())
        if entry.state is not State.QUARANTINED and not entry.rows_quarantined:
            return own
        return own | self._of_batch(entry).get(entry.object_id, frozenset())

    def _of_batch(self, entry: Entry) -> Mapping[str, frozenset[str]]:
        batch_id = entry.batch_id
        if batch_id not in self._kept:
            try:
                verdict = read_verdict(self._store, self._dataset, entry.partition, batch_id)
            except GateClosedError:
                # Not judged, or not to be read: the ledger's own reason is what there is.
                self._kept[batch_id] = {}
            else:
                self._kept[batch_id] = {
                    file.source_object.id: frozenset(f.code.value for f in file.findings)
                    for file in verdict.files
                    if file.findings
                }
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(batch_id)
        return self._kept[batch_id]
