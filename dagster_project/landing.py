"""Landing: putting local files where their producer would."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from service_core.contract.model import Contract, Grain
from service_core.layout import Zone
from service_core.partition import partition_path
from service_core.settings import Settings

_UPLOADS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Landed:
    """A local file and the key it was landed under."""

    path: Path
    key: str


def running_partition(contract: Contract, now: datetime) -> str:
    """The partition of the data set that `now` falls in."""
    hourly = contract.landing.grain is Grain.HOUR
    return f"{now:%Y-%m-%d-%H:00}" if hourly else f"{now:%Y-%m-%d}"


def landing_keys(contract: Contract, paths: Iterable[Path], partition: str) -> list[Landed]:
    """A key for each file under one partition. Files of one name go into numbered sub-folders:
    two files are two objects, and not two versions of one."""
    folder = f"{contract.landing.prefix}{partition_path(contract.landing, partition)}/"
    seen: dict[str, int] = {}
    landed: list[Landed] = []
    for path in paths:
        # A name that is no UTF-8 cannot be a key; its escaped spelling can.
        name = path.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        times = seen[name] = seen.get(name, 0) + 1
        landed.append(Landed(path, folder + (f"{times}/" if times > 1 else "") + name))
    return landed


def land_files(
    landed: Iterable[Landed],
    settings: Settings,
    s3: Any,
    *,
    on_landed: Callable[[Landed], None] = lambda _: None,
) -> None:
    """Upload files to the raw bucket, some at a time.

    Args:
        landed: What goes where.
        settings: Names the raw bucket.
        s3: A boto3 S3 client.
        on_landed: Called for each file that is there.
    """
    bucket = settings.bucket(Zone.RAW)

    def put(one: Landed) -> Landed:
        s3.upload_file(str(one.path), bucket, one.key)
        return one

    with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
        for one in pool.map(put, landed):
            on_landed(one)
