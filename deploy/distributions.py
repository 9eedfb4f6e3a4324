"""What `service_core` needs of other projects: named here, once, for every runtime it runs in.

Versions are those of requirements/lock.txt, so that a package runs what the tests ran.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from deploy.packaging import PackagingError

#: What deciding needs: contracts (whose rules are tried on Polars when they are loaded), arrival,
#: manifests, ledger, verdicts, the gate.
DECIDING = ("jsonschema", "msgspec", "polars", "pydantic", "pyyaml", "structlog")
#: What reading files and judging rows needs beside that.
JUDGING = ("duckdb", "numpy", "pandera[polars]", "pyarrow", "zstandard")
#: What glue_scripts/ needs beside `service_core` and what Glue has.
REPORTING = ("dagster-pipes",)

LOCK = Path(__file__).resolve().parent.parent / "requirements" / "lock.txt"

PYTHON = (3, 11)


class NotHereError(Exception):
    """A distribution is not installed here, or not as it was published; the message says which."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A project as it is installed.

    Attributes:
        name: Canonical: lower case, hyphens.
        version: The installed one.
        tags: What its wheel was built for, such as `cp311-cp311-manylinux_2_17_x86_64`.
        files: Every file that lies in its root, by path below the root; scripts do not.
    """

    name: str
    version: str
    tags: tuple[str, ...]
    files: Mapping[PurePosixPath, bytes]


def locked_versions(lock: Path = LOCK) -> Mapping[str, str]:
    """The version of every project by its canonical name.

    Raises:
        PackagingError: there is no such file.
    """
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
    except OSError as problem:
        raise PackagingError(
            f"{lock} cannot be read: {problem.strerror}. Packages are built from a checkout, whose "
            "pinned versions they carry."
        ) from problem
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version.strip() for name, version in pairs}


def pinned(pins: Mapping[str, str], name: str) -> str:
    """The version that is locked.

    Raises:
        PackagingError: none is.
    """
    if name not in pins:
        raise PackagingError(f"{name} is not pinned in {LOCK.name}; `make lock` writes it anew.")
    return pins[name]


def closure(
    requirements: Iterable[str], *, machine: str | None = None, root: Path | None = None
) -> tuple[str, ...]:
    """The canonical names of some projects and of all that they require, sorted.

    Args:
        requirements: Such as `polars` or `pandera[polars]`; versions do not count.
        machine: `x86_64` or `aarch64`, for requirements that depend on it; this one by default.
        root: Where the projects are installed; this environment by default.

    Raises:
        NotHereError: one of them is not installed there.
    """
    surroundings = {
        **default_environment(),
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "python_version": ".".join(map(str, PYTHON)),
        **({"platform_machine": machine} if machine else {}),
    }
    wanted = [Requirement(text) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        requirement = wanted.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for text in _found(name, root).requires or ():
            try:
                needed = Requirement(text)
            except InvalidRequirement as problem:
                raise NotHereError(f"{name} requires {text!r}, which cannot be read.") from problem
            if needed.marker is None or any(
                needed.marker.evaluate({**surroundings, "extra": extra}) for extra in ("", *extras)
            ):
                wanted.append(needed)
    return tuple(sorted({name for name, _ in seen}))


def installed(name: str, root: Path | None = None) -> Distribution:
    """A project's files, each checked against the hash that it was published with.

    Raises:
        NotHereError: it is not installed there, or not whole, or was changed since.
    """
    found = _found(name, root)
    wheel = found.read_text("WHEEL") or ""
    return Distribution(
        name=canonicalize_name(name),
        version=found.version,
        tags=tuple(re.findall(r"^Tag: (\S+)$", wheel, re.MULTILINE)),
        files=dict(_files(name, found)),
    )


def is_this_python() -> bool:
    """Whether what is installed here was installed for the Python that packages are for."""
    return sys.version_info[:2] == PYTHON and sys.implementation.name == "cpython"


def _found(name: str, root: Path | None) -> metadata.Distribution:
    if root is None:
        try:
            return metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise NotHereError(f"{name} is not installed here.") from None
    for found in metadata.distributions(path=[str(root)]):
        if canonicalize_name(found.name) == name:
            return found
    raise NotHereError(f"{name} is not installed in {root}.")


def _files(name: str, found: metadata.Distribution) -> Iterator[tuple[PurePosixPath, bytes]]:
    entries = found.files
    if not entries:
        raise NotHereError(f"{name} is installed without a record of its files.")
    for entry in entries:
        path = PurePosixPath(entry)
        if ".." in path.parts or path.is_absolute() or entry.hash is None:
            # Scripts lie outside; what has no hash was made when it was installed.
            continue
        try:
            data = Path(str(entry.locate())).read_bytes()
        except OSError as problem:
            raise NotHereError(f"{name} is not whole here: {path} is missing.") from problem
        digest = base64.urlsafe_b64encode(hashlib.new(entry.hash.mode, data).digest())
        if digest.rstrip(b"=").decode() != entry.hash.value:
            raise NotHereError(f"{name} was changed here: {path} is not as it was published.")
        yield path, data
