"""The engines: each judges a batch that lies validated in its zones, and writes its verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from service_core.contract.model import Contract
from service_core.curation.batch import curate_batch
from service_core.curation.request import CurationRequest, parse_request
from service_core.layout import Zone, manifest_key
from service_core.ports import PublishedFiles
from service_core.run import Run
from service_core.spark import curate_on_spark
from service_core.spark.spans import SIZES, Sizes
from service_core.verdict import Verdict

if TYPE_CHECKING:
    from tests.engines.bench import Batch, Bench, Published


def _in_process(bench: Bench, batch: Batch, run: Run) -> Verdict:
    return curate_batch(
        batch.contract,
        batch.manifest,
        batch.record,
        bench.store,
        bench.ledger,
        FileCatalog(bench, batch.published),  # type: ignore[arg-type]
        run,
        force=batch.again,
    )


def _on_spark(
    bench: Bench, batch: Batch, run: Run, *, hashed_keys: int = SIZES.hashed_keys
) -> Verdict:
    held = batch.published
    request = CurationRequest.of(
        batch.contract,
        batch.manifest,
        bench.store,
        run,
        manifest_uri=bench.store.uri(Zone.MANIFESTS, manifest_key(*batch.place)),
        published=None
        if held is None
        else PublishedFiles(snapshot_id=held.snapshot, uris=tuple(f.uri for f in held.files)),
        engine="spark",
        force=batch.again,
    )
    # By way of its text, as it reaches a job.
    request = parse_request(request.model_dump_json())
    return curate_on_spark(bench.spark(), request, bench.store, run, sizes=_cut(batch, hashed_keys))


def _cut(batch: Batch, hashed_keys: int) -> Sizes:
    """Sizes that cut any batch into four tasks, put no files together, and make a job of every
    pass."""
    text = sum(part.bytes for part in batch.record.parts)
    return Sizes(span=text // 4 + 1, least=1, tiny=1, here=-1, hashed_keys=hashed_keys)


#: Every engine that there is, by name.
ENGINES: Mapping[str, Callable[[Bench, Batch, Run], Verdict]] = {
    "in_process": _in_process,
    "spark": _on_spark,
    "spark, keys shuffled": partial(_on_spark, hashed_keys=1),
}


def engines_of(contract: Contract) -> Iterable[str]:
    """The engines that can differ on batches of a contract."""
    return [name for name in ENGINES if contract.unique_keys or name != "spark, keys shuffled"]


class FileCatalog:
    """A catalog that holds nothing but the files of one partition."""

    def __init__(self, bench: Bench, published: Published | None) -> None:
        self._bench, self._published = bench, published

    def current_snapshot(self, contract: Contract) -> int | None:
        return self._published.snapshot if self._published else None

    def published_keys(
        self,
        contract: Contract,
        partition: str,
        columns: Sequence[str],
        *,
        except_source_keys: Iterable[str] = (),
        except_source_objects: Iterable[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        without = {*except_source_keys, *except_source_objects}
        for file in self._published.files if self._published else ():
            table = self._bench.table(file.uri)
            if set(columns) - set(table.column_names):
                continue  # null in every row of it, and a null is no key
            keep = [
                not {row["_source_key"], row["_source_object_id"]} & without
                for row in table.select(["_source_key", "_source_object_id"]).to_pylist()
            ]
            wanted = [*columns, "_source_key", "_source_row"]
            yield from table.select(wanted).filter(pa.array(keep, pa.bool_())).to_batches()
