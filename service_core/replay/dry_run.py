"""The dry run of a replay: its resolved batches rehearsed, and the report kept beside it.

That report is the only thing a dry run leaves. It is written last and once, so that its presence
means that the dry run is done; one that is repeated finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from service_core.contract.model import Contract
from service_core.manifest import Manifest
from service_core.ports import Catalog, Ledger, ObjectStore
from service_core.replay.asking import contract_for, manifest_of
from service_core.replay.difference import Report
from service_core.replay.folder import REQUEST, RESOLVED, ReplayFolder
from service_core.replay.intake import TakenRequest
from service_core.replay.rehearsal import read_report, rehearse, write_report
from service_core.replay.request import ReplayRequest
from service_core.replay.resolution import Resolution, planned_batch
from service_core.run import Run
from service_core.verdict import Verdict


def dry_run(
    replay_id: str,
    in_force: Contract,
    *,
    store: ObjectStore,
    ledger: Ledger,
    catalog: Catalog,
    run: Run,
    progress: Callable[[Manifest, Verdict], None] = lambda manifest, verdict: None,
) -> Report:
    """Carry out the dry run of a replay, or find that it has been.

    Args:
        in_force: The data set's contract as it is loaded; the replay may name another version.

    Raises:
        ValueError: there is no such replay, it is not resolved, or its contract is not kept.
    """
    if (known := read_report(store, replay_id)) is not None:
        return known
    folder = ReplayFolder(store, replay_id)
    taken, resolution = folder.read(REQUEST, TakenRequest), folder.read(RESOLVED, Resolution)
    if taken is None or resolution is None:
        raise ValueError(
            f"the replay {replay_id} is not resolved: {folder.uri(RESOLVED)} is not there. The "
            "replay sensor resolves it; wait for it, or ask for the replay."
        )
    if taken.request.dataset != in_force.dataset:
        raise ValueError(
            f"the replay {replay_id} is of {taken.request.dataset}, not of {in_force.dataset}."
        )
    contract = contract_for(taken.request, in_force, store, run.scratch)
    report = rehearse(
        contract,
        _manifests(folder, taken.request, resolution, contract, run),
        store=store,
        ledger=ledger,
        catalog=catalog,
        run=run,
        in_force=in_force,
        replay_id=replay_id,
        progress=progress,
    )
    write_report(store, report)
    return report


def _manifests(
    folder: ReplayFolder,
    request: ReplayRequest,
    resolution: Resolution,
    contract: Contract,
    run: Run,
) -> Iterator[Manifest]:
    """The replay's manifests as they would be, those of a partition together; one in memory at a
    time."""
    partitions: dict[str, list[int]] = {}
    for number in range(resolution.batches):
        partitions.setdefault(planned_batch(folder, number).partition, []).append(number)
    for numbers in partitions.values():
        for number in numbers:
            yield manifest_of(request, planned_batch(folder, number), contract, at=run.clock())
