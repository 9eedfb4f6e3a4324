"""Whether work that has been judged before is to be judged anew, as another batch.

A batch that has a verdict is not judged again, so its verdict is all that another run of it can
come to. That is right as long as what the verdict took for granted still holds. Where another batch
has taken objects over since, it does not: the verdict would speak of rows that are no longer those
in the table, and a commit that was made once would be found and not made again.
"""

from __future__ import annotations

from collections.abc import Mapping

from service_core.gate import GateClosedError, read_verdict
from service_core.ledger import UNDECIDED, Entry, State
from service_core.manifest import Manifest
from service_core.ports import Ledger, ObjectStore
from service_core.verdict import FileStatus, Verdict

#: Where an accepted object of a batch that passed can be while its verdict stands.
_CARRIED_OUT = UNDECIDED | {State.PUBLISHED, State.SUPERSEDED}


def overtaken(manifest: Manifest, store: ObjectStore, ledger: Ledger) -> bool:
    """Whether a batch has been judged, and others have worked on its objects since in a way that
    its verdict knows nothing of; or whether it has been rolled back."""
    if not manifest.objects:
        return False
    if ledger.rolled_back([manifest.batch_id]):
        return True
    try:
        verdict = read_verdict(store, manifest.dataset, manifest.partition, manifest.batch_id)
    except GateClosedError:
        return False
    return not stands(verdict, ledger.entries(o.id for o in manifest.objects))


def stands(verdict: Verdict, entries: Mapping[str, Entry]) -> bool:
    """Whether carrying a verdict out once more would still be true.

    A failed one stands while the rows in the table are those that it knew of. One that passed
    stands while the batch has its objects, and their rows have not been taken out again.
    """
    for file in verdict.files:
        entry = entries.get(file.source_object.id)
        if entry is None:
            continue
        if not verdict.passed:
            if entry.published_batch_id != file.published_by:
                return False
            continue
        if entry.published_batch_id not in (None, verdict.batch_id, file.published_by):
            return False
        if entry.batch_id != verdict.batch_id:
            return False
        if file.status is not FileStatus.QUARANTINED and entry.state not in _CARRIED_OUT:
            return False
    return True


def as_anew(manifest: Manifest, by: str) -> Manifest:
    """The same work as another batch, for whoever wants it done anew."""
    return Manifest.model_validate({**manifest.model_dump(), "anew": by})
