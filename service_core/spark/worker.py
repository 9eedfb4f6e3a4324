"""A Python worker of Spark: one process that is handed many short tasks, one after the other.

Nothing here changes what a task does, only what PySpark 3.5 does around each of them.
"""

from __future__ import annotations

import gc
import sys
from zipimport import zipimporter


def settle() -> None:
    """Spare this worker, once it has done its first task, what it would do over for each.

    Before a task PySpark invalidates import caches, and so reads the whole of `pyspark.zip` again
    for every package imported from it; after a task it collects garbage, and so goes over all that
    has been imported. Together that was three quarters of a small task's time.
    """
    if gc.get_freeze_count():
        return
    gc.freeze()
    for importer in sys.path_importer_cache.values():
        if isinstance(importer, zipimporter):
            # Archives that a worker has imported from do not change under it.
            importer.invalidate_caches = _nothing  # type: ignore[method-assign]


def _nothing() -> None:
    return None
