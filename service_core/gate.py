"""The gate: nothing is published but by a verdict that passed, for exactly this batch and contract.

Publication may be started by the run that judged the batch, by a later run, a backfill, a retry,
an automation or a person. All of them come through here, and the verdict as it lies in
`dq-results` is the only thing that lets them pass.
"""

from __future__ import annotations

from pydantic import ValidationError

from service_core.contract.model import Contract
from service_core.layout import Zone, batch_prefix, verdict_key
from service_core.ports import ObjectMissingError, ObjectStore
from service_core.verdict import SCHEMA_VERSION, FileStatus, Verdict

_NAMED_FILES = 3


class GateClosedError(Exception):
    """The batch may not be published; the message says why, and what to do."""


def read_verdict(store: ObjectStore, dataset: str, partition: str, batch_id: str) -> Verdict:
    """Read a batch's verdict back from `dq-results`.

    Raises:
        GateClosedError: there is none, or it cannot be read.
    """
    key = verdict_key(dataset, partition, batch_id)
    try:
        body = store.read(Zone.DQ_RESULTS, key)
    except ObjectMissingError as missing:
        raise GateClosedError(
            f"Batch {batch_id} of {dataset} has no verdict at "
            f"{store.uri(Zone.DQ_RESULTS, key)}: it has not been judged, or judging it did not "
            "end. Curate the batch before publishing it."
        ) from missing
    return parse_verdict(body, batch_id=batch_id)


def parse_verdict(body: bytes, *, batch_id: str) -> Verdict:
    """A verdict from its JSON document.

    Raises:
        GateClosedError: the document is not a verdict of this release's schema.
    """
    try:
        verdict = Verdict.model_validate_json(body)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise GateClosedError(
            f"The verdict of batch {batch_id} cannot be read: {where}: {first['msg']}. "
            "Curate the batch again."
        ) from invalid
    if verdict.schema_version != SCHEMA_VERSION:
        raise GateClosedError(
            f"The verdict of batch {batch_id} has schema version {verdict.schema_version}, and "
            f"this release reads {SCHEMA_VERSION}. Curate the batch again."
        )
    return verdict


def open_gate(
    verdict: Verdict | bytes, *, batch_id: str, contract: Contract, partition: str | None = None
) -> Verdict:
    """The verdict, if it lets exactly this batch of exactly this contract be published.

    Args:
        verdict: As read from `dq-results`: the document, or what `read_verdict` gave.
        batch_id: The batch that is to be published.
        contract: The contract that is in force.
        partition: The batch's partition, where the caller knows it.

    Raises:
        GateClosedError: it does not.
    """
    if isinstance(verdict, bytes):
        verdict = parse_verdict(verdict, batch_id=batch_id)
    refusal = (
        _another_batch(verdict, batch_id, contract, partition)
        or _another_contract(verdict, contract)
        or _failed(verdict)
        or _not_conserved(verdict)
        or _not_staged(verdict)
    )
    if refusal:
        raise GateClosedError(f"Batch {batch_id} of {contract.dataset} is not published: {refusal}")
    return verdict


def _another_batch(
    verdict: Verdict, batch_id: str, contract: Contract, partition: str | None
) -> str | None:
    if verdict.batch_id != batch_id:
        return f"the verdict is batch {verdict.batch_id}'s. Curate this batch first."
    if verdict.dataset != contract.dataset:
        return f"the verdict is of data set {verdict.dataset}. Curate this batch first."
    if partition is not None and verdict.partition != partition:
        return (
            f"the verdict is of partition {verdict.partition}, not {partition}. "
            "Publish it as the partition it was judged for."
        )
    return None


def _another_contract(verdict: Verdict, contract: Contract) -> str | None:
    judged = (verdict.contract_version, verdict.contract_hash)
    if judged == (contract.version, contract.hash):
        return None
    return (
        f"it was judged by contract version {verdict.contract_version} "
        f"({verdict.contract_hash}), and version {contract.version} ({contract.hash}) is in "
        "force. Replay its files under the contract in force."
    )


def _failed(verdict: Verdict) -> str | None:
    if verdict.blocked_by:
        names = ", ".join(verdict.blocked_by)
        return (
            f"its verdict failed: blocked by {names}. See the checks' figures; correct the "
            "delivery or the rule, and replay."
        )
    if verdict.passed:
        return None
    if not any(f.status is not FileStatus.QUARANTINED for f in verdict.files):
        return (
            "its verdict failed: none of its files was accepted. See each file's reasons; "
            "correct the delivery, or the contract, and replay."
        )
    return "its verdict failed. See the checks' figures; correct the delivery, and replay."


def _not_conserved(verdict: Verdict) -> str | None:
    """Recomputed from the files up, because the sums in the document are only what it says."""
    uneven = [
        f.source_object.key
        for f in verdict.files
        if f.rows_read != f.rows_accepted + f.rows_quarantined
        or min(f.rows_read, f.rows_accepted, f.rows_quarantined) < 0
        or (f.status is FileStatus.QUARANTINED and f.rows_accepted)
    ]
    if uneven:
        named = ", ".join(repr(key) for key in uneven[:_NAMED_FILES])
        return (
            f"its verdict does not conserve the rows of {len(uneven)} file(s), such as {named}: "
            f"rows read are not rows accepted and quarantined. {_DEFECT}"
        )
    for name in ("rows_read", "rows_accepted", "rows_quarantined"):
        stated, counted = getattr(verdict, name), sum(getattr(f, name) for f in verdict.files)
        if stated != counted:
            return (
                f"its verdict does not conserve rows: {name} is {stated}, and its files make "
                f"{counted}. {_DEFECT}"
            )
    return None


def _not_staged(verdict: Verdict) -> str | None:
    staged = sum(file.rows for file in verdict.staged)
    if staged != verdict.rows_accepted:
        return (
            f"its verdict accepted {verdict.rows_accepted} rows, and {staged} are staged in "
            f"{len(verdict.staged)} file(s). {_DEFECT}"
        )
    own = f"/{batch_prefix(verdict.dataset, verdict.partition, verdict.batch_id)}"
    astray = [file.uri for file in verdict.staged if own not in file.uri]
    if astray:
        return f"the staged file {astray[0]} does not lie under the batch's own prefix. {_DEFECT}"
    if len({file.uri for file in verdict.staged}) != len(verdict.staged):
        return f"its verdict names one staged file twice. {_DEFECT}"
    return None


_DEFECT = "This is a defect of the engine that judged it, not of the data; curate the batch again."
