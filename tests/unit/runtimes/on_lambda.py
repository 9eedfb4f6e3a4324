"""What a Lambda function would do with the layer: note what has landed, and ask the gate.

Run by test_packaging.py as `python -I -S on_lambda.py LAYER RUNTIME CONTRACT BATCH`, so that there
is nothing but the standard library, the layer, and what Lambda's runtime offers. Prints one JSON
object.
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

LAYER, RUNTIME, CONTRACT, JUDGED = sys.argv[1:]
# Lambda puts a layer's python/ before the runtime's own packages.
sys.path[:0] = [f"{LAYER}/python", RUNTIME]

import boto3  # noqa: E402

import service_core  # noqa: E402
from service_core.arrival import cut_batches, source_object_of  # noqa: E402
from service_core.contract import load_contract  # noqa: E402
from service_core.gate import GateClosedError, open_gate, read_verdict  # noqa: E402
from service_core.layout import Zone, manifest_key  # noqa: E402
from service_core.manifest import Manifest, Origin  # noqa: E402
from service_core.s3_store import S3ObjectStore  # noqa: E402
from service_core.settings import Settings  # noqa: E402

settings = Settings.from_environment(os.environ)
client = boto3.client("s3", endpoint_url=settings.endpoint_url, region_name=settings.region)
store = S3ObjectStore(client, settings)
contract = load_contract(Path(CONTRACT))

bucket = store.bucket(Zone.RAW)
landed = [
    source_object_of(contract, bucket, listed)
    for listed in store.list_versions(contract.landing.prefix).objects
]
batches = []
for objects in cut_batches(landed, contract.landing):
    manifest = Manifest(
        dataset=contract.dataset,
        partition=objects[0].partition,
        contract_version=contract.version,
        contract_hash=contract.hash,
        origin=Origin.SENSOR,
        objects=objects,
        created_at=datetime.now(UTC),
    )
    key = manifest_key(manifest.dataset, manifest.partition, manifest.batch_id)
    store.write(Zone.MANIFESTS, key, manifest.model_dump_json().encode())
    batches.append((manifest.partition, manifest.batch_id))


def gate(partition: str, batch_id: str) -> str:
    try:
        verdict = read_verdict(store, contract.dataset, partition, batch_id)
        return f"open for {open_gate(verdict, batch_id=batch_id, contract=contract).rows_accepted}"
    except GateClosedError as closed:
        return str(closed)


print(
    json.dumps(
        {
            "from": service_core.__file__,
            "contract": contract.hash,
            "batches": batches,
            "gates": [gate(*batch) for batch in (*batches, JUDGED.split("/"))],
            "modules": sorted({name.partition(".")[0] for name in sys.modules}),
        }
    )
)
