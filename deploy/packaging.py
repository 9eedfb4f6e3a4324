"""The packages that other runtimes get: the same sources give the same bytes, under the same name.

A package's name carries the version of `service_core` and a hash of what the package holds, so a
name never means two things, and what is there already under its name need not be built again.
Bytes do not depend on the folder, the clock, the umask, or the order in which a file system lists:
entries are sorted, and carry one fixed time and mode.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import service_core

ARCHIVE_NAME = "lakegate_service_core"

# The first time that a zip entry can have.
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644
_CREATED_ON_UNIX = 3
_SOURCES = frozenset({".py", ".json", ".yaml", ".md"})
_MARKER = "py.typed"
_CHUNK = 4 * 1024 * 1024

#: Told how many bytes of how many are packed.
Packed = Callable[[int, int], None]


class PackagingError(Exception):
    """A package cannot be built; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Held:
    """One project's share of a package: its name, its version, its unpacked bytes."""

    project: str
    version: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Package:
    """A package that lies on disk.

    Attributes:
        path: Where it lies.
        name: Its file name: what it is, `service_core`'s version, the first 12 hex digits of the
            hash of its content.
        version: `service_core`'s version.
        sha256: Of the file's bytes, 64 hex digits.
        bytes: Size of the file.
        unpacked_bytes: Size of what it holds.
        holds: Whose that is, the largest first.
        unchanged: It lay there already.
    """

    path: Path
    name: str
    version: str
    sha256: str
    bytes: int
    unpacked_bytes: int
    holds: tuple[Held, ...]
    unchanged: bool

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**asdict(self), "path": str(self.path)}


def build_glue_archive(out: Path) -> Package:
    """Pack `service_core` for Glue's `--extra-py-files`, without its dependencies.

    Needs neither network nor more than a fraction of a second.

    Args:
        out: The folder to put it in; made where it is missing.

    Raises:
        PackagingError: `service_core` is not a folder of sources here, or `out` cannot be written.
    """
    content = service_core_sources()
    # Stored, not deflated: the size hardly matters, and the bytes then do not depend on the
    # machine's zlib either.
    return package(
        f"{ARCHIVE_NAME}-{service_core.__version__}",
        content,
        (held_by_service_core(content),),
        out,
        compression=zipfile.ZIP_STORED,
    )


def service_core_sources() -> dict[str, bytes]:
    """Every source and data file of `service_core` by its path in a package.

    Raises:
        PackagingError: `service_core` was not imported from a folder.
    """
    folder = Path(service_core.__file__).parent
    if not folder.is_dir():
        raise PackagingError(
            f"service_core was imported from {folder}, which is not a folder; a package can be "
            "built only from a checkout or an installation."
        )
    return {
        f"{folder.name}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*")
        if (path.suffix in _SOURCES or path.name == _MARKER)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    }


def held_by_service_core(content: Mapping[str, bytes]) -> Held:
    """The share of `service_core`, of which `content` is everything."""
    return Held("service_core", service_core.__version__, sum(map(len, content.values())))


def package(
    stem: str,
    content: Mapping[str, bytes],
    holds: tuple[Held, ...],
    out: Path,
    *,
    compression: int,
    packed: Packed = lambda done, total: None,
) -> Package:
    """Write content as `<stem>-<12 hex digits of its hash>.zip`, unless it lies there already.

    Args:
        stem: What the name begins with.
        content: Bytes by path in the package.
        holds: Whose they are.
        out: The folder; made where it is missing.
        compression: `zipfile.ZIP_STORED` or `ZIP_DEFLATED`.
        packed: Told of the progress.

    Raises:
        PackagingError: `out` cannot be written.
    """
    path = out / f"{stem}-{content_hash(content)[:12]}.zip"
    unchanged = _lies_there(path, content)
    if not unchanged:
        try:
            _write(path, content, compression, packed)
        except OSError as problem:
            raise PackagingError(
                f"{path} cannot be written: {problem.strerror or problem}. Name another folder."
            ) from problem
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Package(
        path=path,
        name=path.name,
        version=service_core.__version__,
        sha256=sha256,
        bytes=path.stat().st_size,
        unpacked_bytes=sum(map(len, content.values())),
        holds=tuple(sorted(holds, key=lambda held: -held.bytes)),
        unchanged=unchanged,
    )


def content_hash(content: Mapping[str, bytes]) -> str:
    """64 hex digits of what a package holds: paths and bytes, however they are compressed."""
    digest = hashlib.sha256()
    for name, data in sorted(content.items()):
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _lies_there(path: Path, content: Mapping[str, bytes]) -> bool:
    """Whether the file is whole and of this content, by its own directory.

    Files are put under their names only when they are complete; this finds what was cut or
    replaced by somebody else since.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            there = [(e.filename, e.file_size, e.CRC) for e in archive.infolist()]
    except (OSError, zipfile.BadZipFile):
        return False
    return there == [(name, len(data), zlib.crc32(data)) for name, data in sorted(content.items())]


def _write(path: Path, content: Mapping[str, bytes], compression: int, packed: Packed) -> None:
    """Write a zip so that it is there whole or not at all."""
    done, total = 0, sum(map(len, content.values()))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, suffix=".unfinished")
    try:
        with os.fdopen(handle, "w+b") as file, zipfile.ZipFile(file, "w") as archive:
            for name, data in sorted(content.items()):
                with archive.open(_entry(name, compression), "w") as target:
                    for start in range(0, len(data), _CHUNK):
                        done += target.write(data[start : start + _CHUNK])
                        packed(done, total)
        Path(unfinished).chmod(0o644)
        Path(unfinished).replace(path)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _entry(name: str, compression: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.compress_type = compression
    entry.create_system = _CREATED_ON_UNIX
    entry.external_attr = _MODE << 16
    return entry
