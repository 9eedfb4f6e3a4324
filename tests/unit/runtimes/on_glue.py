"""What a Glue job does with the archive: load the contract, and curate a block of canonical text.

Run by test_packaging.py as `python -I -S on_glue.py ARCHIVE RUNTIME CONTRACT BLOCK`, so that there
is nothing but the standard library, the archive, and what Glue and the additional Python modules
offer. Every module of service_core is imported, and glue_scripts/ may be. Prints one JSON object.
"""

import importlib
import json
import pkgutil
import sys
from pathlib import Path

ARCHIVE, RUNTIME, CONTRACT, BLOCK, *SCRIPTS = sys.argv[1:]
# Glue hands the archive to Spark, which puts it on the path as it is: a zip.
sys.path[:0] = [ARCHIVE, RUNTIME]

import pyarrow.parquet as pq  # noqa: E402

import service_core  # noqa: E402
from service_core.contract import load_contract  # noqa: E402
from service_core.curation.kernel import compile_kernel, curate_block  # noqa: E402

imported = [
    importlib.import_module(found.name).__name__
    for found in pkgutil.walk_packages(service_core.__path__, "service_core.")
]
for script in SCRIPTS:
    exec(compile(Path(script).read_text(), script, "exec"), {"__name__": "imported"})

contract = load_contract(Path(CONTRACT))
block = curate_block(compile_kernel(contract), pq.read_table(BLOCK))
print(
    json.dumps(
        {
            "from": service_core.__file__,
            "contract": contract.hash,
            "imported": imported,
            "accepted": block.accepted.to_pylist(),
            "diverted": block.diverted.to_pylist(),
            "modules": sorted({name.partition(".")[0] for name in sys.modules}),
        },
        default=str,
    )
)
