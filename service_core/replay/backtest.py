"""Backtest: a contract tried on what has landed in some partitions, each whole, without publishing.

It is how a change of a contract is reviewed, and the same rehearsal as a replay's dry run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from service_core.contract.model import Contract, Landing
from service_core.inventory import whole_partition
from service_core.manifest import Manifest
from service_core.partition import partitions_between
from service_core.ports import Catalog, Ledger, ObjectStore
from service_core.replay.difference import Report
from service_core.replay.rehearsal import rehearse
from service_core.run import Run
from service_core.verdict import Verdict

#: Each costs a listing: more is a mistake in a date.
MAX_PARTITIONS = 10_000


def partitions_named(landing: Landing, span: str) -> tuple[str, ...]:
    """The partitions that `A..B` names, both ends included, or a single `A`.

    Raises:
        ValueError: it names none of this data set, or too many.
    """
    first, dots, last = (part.strip() for part in span.partition(".."))
    if not first or (dots and not last):
        raise ValueError(
            f"{span!r} names no partitions; expected one such as 2026-11-21, or a range such as "
            "2026-11-01..2026-11-21."
        )
    named = tuple(islice(partitions_between(landing, first, last or first), MAX_PARTITIONS + 1))
    if not named:
        raise ValueError(
            f"No partition lies in {span!r}; the first of the data set is "
            f"{landing.first_partition:%Y-%m-%d}, and a range begins with the earlier of the two."
        )
    if len(named) > MAX_PARTITIONS:
        raise ValueError(f"{span!r} names more than {MAX_PARTITIONS:,} partitions; name fewer.")
    return named


def backtest(
    contract: Contract,
    partitions: Sequence[str],
    *,
    store: ObjectStore,
    ledger: Ledger,
    catalog: Catalog,
    run: Run,
    in_force: Contract | None = None,
    begun: Callable[[str], None] = lambda partition: None,
    judged: Callable[[Manifest, Verdict], None] = lambda manifest, verdict: None,
) -> Report:
    """Rehearse partitions under a contract: each key's latest version.

    Args:
        contract: The one that is tried.
        in_force: The one that is loaded.
        begun: Told of each partition before it is looked at.
        judged: Told of each batch that has been judged.
    """

    def manifests() -> Iterator[Manifest]:
        for partition in partitions:
            begun(partition)
            yield whole_partition(contract, partition, store, at=run.clock())

    return rehearse(
        contract,
        manifests(),
        store=store,
        ledger=ledger,
        catalog=catalog,
        run=run,
        in_force=in_force,
        progress=judged,
    )
